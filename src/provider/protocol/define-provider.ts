import { type Attributes, type Computed, type Inputs, isConfigurable, mistakesIn, type State } from "./attributes.ts";

/** What every call of a resource gets. */
export type Context<Client> = {
  /** What `configure` returned. */
  client: Client;
  /** Aborted when Terraform is interrupted: what can stop then stops, and throws. */
  signal: AbortSignal;
};

export type CreateContext<Client, A extends Attributes> = Context<Client> & {
  /**
   * Says that the object exists from now on. If `create` fails after that, Terraform keeps the object in its state, as tainted, in place of forgetting
   * it; the next apply removes it and makes another.
   */
  exists(computed: Computed<A>): void;
};

/** A kind of object that Terraform manages. All values that reach these functions are known. */
export type Resource<Client, A extends Attributes = Attributes> = {
  readonly description: string;
  readonly attributes: A;
  /** Raised when state of an earlier version needs `upgrade`; an attribute more or less does not. Default 0. */
  readonly version?: number;
  create(inputs: Inputs<A>, context: CreateContext<Client, A>): Promise<Computed<A>>;
  /** The object as it is in reality; nothing where it is gone. What reality does not keep is copied from `state`. */
  read(state: State<A>, context: Context<Client>): Promise<State<A> | undefined>;
  /** Absent where every attribute that can be configured forces a new object. */
  update?(state: State<A>, inputs: Inputs<A>, context: Context<Client>): Promise<Computed<A>>;
  /** Removing what is gone is not an error. */
  remove(state: State<A>, context: Context<Client>): Promise<void>;
  /** The object with this id; nothing where there is none. @throws ProviderProblem where the id cannot be one. */
  import?(id: string, context: Context<Client>): Promise<State<A> | undefined>;
  /** Whether an object has to be written again though it equals its configuration, because something that no attribute shows was changed by hand. */
  isOutdated?(state: State<A>): boolean;
  /** From the state of an earlier `version`. What it gives is checked against nothing but the names of attributes. */
  upgrade?(version: number, state: { readonly [name: string]: unknown }): { readonly [name: string]: unknown };
};

export type DataSource<Client, A extends Attributes = Attributes> = {
  readonly description: string;
  readonly attributes: A;
  /** @throws ProviderProblem where there is no such object: a data source that finds nothing is an error. */
  read(inputs: Inputs<A>, context: Context<Client>): Promise<State<A>>;
};

export type Provider<Client> = {
  /** As in `required_providers`: `HOST/NAMESPACE/TYPE`. Names of resources begin with TYPE. */
  readonly address: string;
  readonly attributes: Attributes;
  /** Called once, before any object is touched, and not for `terraform validate`. @throws ProviderProblem */
  configure(config: Inputs<Attributes>): Promise<Client> | Client;
  readonly resources: { readonly [type: string]: Resource<Client> };
  readonly dataSources: { readonly [type: string]: DataSource<Client> };
};

/** Types what a resource's functions take by its attributes. */
export const resourcesOf =
  <Client>() =>
  <const A extends Attributes>(resource: Resource<Client, A>): Resource<Client> =>
    resource as unknown as Resource<Client>;

export const dataSourcesOf =
  <Client>() =>
  <const A extends Attributes>(dataSource: DataSource<Client, A>): DataSource<Client> =>
    dataSource as unknown as DataSource<Client>;

/** A provider from its parts. @throws Error that names what is wrong with a declaration */
export function defineProvider<const A extends Attributes, Client>(definition: {
  address: string;
  attributes: A;
  configure(config: Inputs<A>): Promise<Client> | Client;
  resources: { readonly [type: string]: Resource<Client> };
  dataSources: { readonly [type: string]: DataSource<Client> };
}): Provider<Client> {
  const provider = definition as unknown as Provider<Client>;
  const parts = Object.entries({ ...provider.resources, ...provider.dataSources });
  const prefix = `${provider.address.split("/").at(-1)}_`;
  const mistakes = [
    ...mistakesIn(provider.attributes),
    ...parts.filter(([type]) => !type.startsWith(prefix)).map(([type]) => `${type} does not begin with ${prefix}`),
    ...Object.entries(provider.resources).flatMap(([type, resource]) => within(type, mistakesOf(resource))),
    ...Object.entries(provider.dataSources).flatMap(([type, { attributes }]) => within(type, mistakesIn(attributes))),
  ];
  if (mistakes.length > 0) throw new Error(`${provider.address} is declared wrongly: ${mistakes.join("; ")}`);
  return provider;
}

const within = (type: string, mistakes: string[]): string[] => mistakes.map((mistake) => `${type}.${mistake}`);

function mistakesOf({ attributes, update, isOutdated }: Resource<unknown>): string[] {
  const all = Object.entries(attributes);
  const fixed = all.filter(([, attribute]) => isConfigurable(attribute) && !attribute.forceNew).map(([name]) => name);
  const moving = all.some(([, one]) => one.computed && !isConfigurable(one) && !one.stable);
  return [
    ...mistakesIn(attributes),
    ...(update ? [] : fixed.map((name) => `${name} can change, but there is no update`)),
    ...(isOutdated && !moving ? ["isOutdated has no computed attribute in which a plan could show it"] : []),
  ];
}
