/** What a provider says about one attribute, and the types of values that follow from it. */

type Primitive = "string" | "number" | "bool";
export type AttributeType = Primitive | { readonly list: Primitive } | { readonly map: Primitive };

export type Attribute = {
  readonly type: AttributeType;
  /** For the documentation and for editors, in Markdown. */
  readonly description: string;
  /** Must be configured. One of `required`, `optional` and `computed` is set. */
  readonly required?: true;
  readonly optional?: true;
  /** The provider gives the value; together with `optional`, where the configuration gives none. */
  readonly computed?: true;
  /** Of a computed attribute: an update of the others leaves it as it is, so plans go on knowing it. */
  readonly stable?: true;
  /** Of a computed attribute: there may be no value even when all is known. */
  readonly nullable?: true;
  readonly sensitive?: true;
  /** Given to the provider and kept in no plan and no state; needs Terraform 1.11. */
  readonly writeOnly?: true;
  /** A change makes a new object in place of the old. */
  readonly forceNew?: true;
  /** Of an optional attribute that the configuration leaves out. */
  readonly default?: string | number | boolean;
  /** Says what is wrong with a value that is known, and nothing about one that is right. */
  readonly check?: (value: never) => string | undefined;
};

export type Attributes = { readonly [name: string]: Attribute };

type Of<T> = T extends "string"
  ? string
  : T extends "number"
    ? number
    : T extends "bool"
      ? boolean
      : T extends { readonly list: infer P }
        ? readonly Of<P>[]
        : T extends { readonly map: infer P }
          ? { readonly [key: string]: Of<P> }
          : never;

type ValueOf<A> = A extends { readonly type: infer T } ? Of<T> : never;
type Yes<K extends string> = { readonly [P in K]: true };
/** The value where nobody need have given one. */
type Settled<A> = A extends Yes<"required"> | { readonly default: string | number | boolean }
  ? ValueOf<A>
  : A extends Yes<"optional"> | Yes<"nullable">
    ? ValueOf<A> | null
    : ValueOf<A>;

/** What a configuration gives, defaults filled in. Of a resource, everything is known when it is created or updated. */
export type Inputs<A extends Attributes> = {
  readonly [N in keyof A as A[N] extends Yes<"required"> | Yes<"optional"> ? N : never]: Settled<A[N]>;
};

/** An object as the state keeps it: all but what is write-only. */
export type State<A extends Attributes> = {
  readonly [N in keyof A as A[N] extends Yes<"writeOnly"> ? never : N]: Settled<A[N]>;
};

/** What the provider has to give after it made or changed an object. The rest is what was planned. */
export type Computed<A extends Attributes> = {
  readonly [N in keyof A as A[N] extends Yes<"computed"> ? N : never]: Settled<A[N]>;
};

/** A name is right if Terraform takes it for an attribute. */
const NAME = /^[a-z][a-z0-9_]*$/;

/** What is wrong with the declaration itself: mistakes of ours that Terraform would tell the user about, or worse, would not. */
export function mistakesIn(attributes: Attributes): string[] {
  return Object.entries(attributes).flatMap(([name, attribute]) =>
    mistakesOf(attribute, NAME.test(name)).map((mistake) => `${name} ${mistake}`),
  );
}

function mistakesOf(attribute: Attribute, named: boolean): string[] {
  const { required, optional, computed, writeOnly, forceNew, stable } = attribute;
  const hasDefault = attribute.default !== undefined;
  const rules: [boolean, string][] = [
    [!named, "is no name for an attribute"],
    [!required && !optional && !computed, "is none of required, optional, computed"],
    [required === true && (optional === true || computed === true), "is required and something else, too"],
    [writeOnly === true && computed === true, "is write-only, so it cannot be computed"],
    [writeOnly === true && (forceNew === true || hasDefault), "is write-only, so nobody can see it change"],
    [hasDefault && (optional !== true || computed === true), "has a default, so it is optional and not computed"],
    [forceNew === true && !required && !optional, "cannot be configured, so no change of it forces anything"],
    [stable === true && computed !== true, "is stable, so it must be computed"],
  ];
  return rules.flatMap(([wrong, mistake]) => (wrong ? [mistake] : []));
}

/** Whether a configuration may give it. */
export const isConfigurable = (attribute: Attribute): boolean =>
  attribute.required === true || attribute.optional === true;

/** As cty writes types in JSON: `"string"`, `["list","number"]`. */
export function typeJson(type: AttributeType): string {
  if (typeof type === "string") return JSON.stringify(type);
  return JSON.stringify("list" in type ? ["list", type.list] : ["map", type.map]);
}
