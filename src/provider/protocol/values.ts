import { decode, ExtensionCodec, encode } from "@msgpack/msgpack";
import { type Attributes, type AttributeType, isConfigurable } from "./attributes.ts";

class Unknown {
  /** A mark of its own, or any object would do as one. */
  readonly known = false;

  toString(): string {
    return "(known after apply)";
  }
}

/** The value of something that is not known before the apply. */
export const UNKNOWN = Object.freeze(new Unknown());
export const isUnknown = (value: unknown): value is Unknown => value instanceof Unknown;

export type Value = null | string | number | boolean | Unknown | readonly Value[] | { readonly [key: string]: Value };
/** An object with a value for each of its attributes. */
export type Values = { readonly [name: string]: Value };

/** As it travels: one of the two is filled. State to be upgraded comes as JSON, all else as MessagePack. */
export type DynamicValue = { msgpack?: Uint8Array; json?: Uint8Array };

// Unknown values are MessagePack extensions: 0 is the plain one, 12 one that carries what is known about it (Terraform, docs/plugin-protocol/object-wire-format.md).
const PLAIN = 0;
const REFINED = 12;
const extensionCodec = new ExtensionCodec();
extensionCodec.register({
  type: PLAIN,
  encode: (value) => (isUnknown(value) ? Uint8Array.of(0) : null),
  decode: () => UNKNOWN,
});
extensionCodec.register({ type: REFINED, encode: () => null, decode: () => UNKNOWN });

/** An object for Terraform: every attribute is there, those without a value as null. Null is "there is no such object". */
export function encodeValues(attributes: Attributes, values: Values | null): DynamicValue {
  const whole =
    values && Object.fromEntries(Object.keys(attributes).map((name): [string, Value] => [name, values[name] ?? null]));
  return { msgpack: encode(whole, { extensionCodec }) };
}

/** The object that Terraform sent, null where it sent none. Attributes that are not ours are left out. */
export function decodeValues(attributes: Attributes, from: DynamicValue | null | undefined): Values | null {
  const raw = decodeRaw(from);
  if (raw === null || isUnknown(raw) || typeof raw !== "object" || Array.isArray(raw)) return null;
  const given = raw as { [name: string]: Value };
  return Object.fromEntries(
    Object.entries(attributes).map(([name, { type }]): [string, Value] => [name, typed(type, given[name] ?? null)]),
  );
}

function decodeRaw(from: DynamicValue | null | undefined): Value {
  if (from?.msgpack?.length) return decode(from.msgpack, { extensionCodec }) as Value;
  if (from?.json?.length) return JSON.parse(Buffer.from(from.json).toString("utf8")) as Value;
  return null;
}

/** Terraform's numbers have no limit: one that MessagePack has no number for comes as its decimal digits. */
function typed(type: AttributeType, value: Value): Value {
  if (value === null || isUnknown(value)) return value;
  if (typeof type === "string") return type === "number" && typeof value === "string" ? Number(value) : value;
  if (Array.isArray(value)) return value.map((item: Value) => typed("list" in type ? type.list : "string", item));
  if (typeof value !== "object" || !("map" in type)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, typed(type.map, item)]));
}

/** Whether all of it is known, the elements of a list or map, too. */
export function isKnown(value: Value): boolean {
  if (isUnknown(value)) return false;
  if (value === null || typeof value !== "object") return true;
  return Object.values(value).every(isKnown);
}

/** Equal as values; what is unknown equals nothing, since it may turn out to be anything. */
export function sameValue(a: Value, b: Value): boolean {
  if (isUnknown(a) || isUnknown(b)) return false;
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return a === b;
  const [left, right] = [Object.entries(a), new Map(Object.entries(b))];
  return (
    Array.isArray(a) === Array.isArray(b) &&
    left.length === right.size &&
    left.every(([key, value]) => right.has(key) && sameValue(value, right.get(key) ?? null))
  );
}

/** What a configuration gives, with defaults where it gives nothing. */
export function inputsOf(attributes: Attributes, config: Values): Values {
  return Object.fromEntries(
    Object.entries(attributes)
      .filter(([, attribute]) => isConfigurable(attribute))
      .map(([name, attribute]): [string, Value] => [name, config[name] ?? attribute.default ?? null]),
  );
}
