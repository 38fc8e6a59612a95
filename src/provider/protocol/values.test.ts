import { decode, encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Attributes } from "./attributes.ts";
import { decodeValues, encodeValues, inputsOf, isKnown, sameValue, UNKNOWN, type Value } from "./values.ts";

const ATTRIBUTES = {
  name: { type: "string", description: "", required: true },
  size: { type: "number", description: "", optional: true, default: 1 },
  sizes: { type: { list: "number" }, description: "", optional: true },
  tags: { type: { map: "string" }, description: "", optional: true },
  revision: { type: "number", description: "", computed: true },
} as const satisfies Attributes;
const EMPTY = { name: null, size: null, sizes: null, tags: null, revision: null };
const there = (values: { [name: string]: Value }) => decodeValues(ATTRIBUTES, encodeValues(ATTRIBUTES, values));

describe("values on the wire", () => {
  it("come back as they were, with every attribute, the unknown as unknown wherever it is", () => {
    const values = { name: "é", size: 2.5, sizes: [1, UNKNOWN], tags: { a: "1", b: UNKNOWN }, revision: UNKNOWN };
    expect(there(values)).toEqual(values);
    expect(there({ name: "a" })).toEqual({ ...EMPTY, name: "a" });
    expect(decodeValues(ATTRIBUTES, encodeValues(ATTRIBUTES, null))).toBeNull();
    expect(decodeValues(ATTRIBUTES, undefined)).toBeNull();
  });

  it("come back for any text and number", () => {
    const values = fc.record({ name: fc.string(), size: fc.oneof(fc.integer(), fc.double({ noNaN: true })) });
    fc.assert(
      fc.property(values, ({ name, size }) => {
        expect(there({ name, size: size + 0 })).toEqual({ ...EMPTY, name, size: size + 0 });
      }),
    );
  });

  it("are sent as the bytes that Terraform takes for unknown", () => {
    const bytes = Buffer.from(encodeValues({ name: ATTRIBUTES.name }, { name: UNKNOWN }).msgpack ?? []);
    expect(bytes.toString("hex")).toBe("81a46e616d65d40000");
  });

  it("are read from a refined unknown, from a number in digits, and from JSON without what is not ours", () => {
    // fixmap {name: ext 12 {}, 2^70 in digits}
    const refined = Buffer.from("82a46e616d65c7010c80a473697a65b631313830353931363230373137343131333033343234", "hex");
    expect(decodeValues(ATTRIBUTES, { msgpack: refined })).toEqual({
      ...EMPTY,
      name: UNKNOWN,
      size: 2 ** 70,
    });
    const json = Buffer.from('{"name":"a","color":"red","sizes":[1]}');
    expect(decodeValues(ATTRIBUTES, { json, msgpack: Buffer.alloc(0) })).toEqual({ ...EMPTY, name: "a", sizes: [1] });
  });

  it("leave an object without any extension plain MessagePack", () => {
    const { msgpack } = encodeValues(ATTRIBUTES, { name: "a", tags: {} });
    expect(decode(msgpack ?? [])).toEqual({ ...EMPTY, name: "a", tags: {} });
    expect(Buffer.from(encode(null)).toString("hex")).toBe(
      Buffer.from(encodeValues(ATTRIBUTES, null).msgpack ?? []).toString("hex"),
    );
  });
});

describe("sameValue", () => {
  it.each<[Value, Value, boolean]>([
    ["a", "a", true],
    [null, null, true],
    [null, "", false],
    [[1, 2], [2, 1], false],
    [{ a: "1", b: "2" }, { b: "2", a: "1" }, true],
    [{ a: "1" }, { a: "1", b: "2" }, false],
    [{ a: "1", b: "2" }, { a: "1", c: "2" }, false],
    [{}, [], false],
    [UNKNOWN, UNKNOWN, false],
    [{ a: UNKNOWN }, { a: UNKNOWN }, false],
  ])("of %j and %j is %s", (a, b, same) => {
    expect(sameValue(a, b)).toBe(same);
    expect(sameValue(b, a)).toBe(same);
  });
});

describe("what a configuration gives", () => {
  it("is known only when all of it is", () => {
    expect(isKnown({ a: ["x", { b: 1 }] as Value })).toBe(true);
    expect(isKnown({ a: ["x", { b: UNKNOWN }] as Value })).toBe(false);
  });

  it("has defaults where nothing is given, and nothing that is only computed", () => {
    expect(inputsOf(ATTRIBUTES, { ...EMPTY, name: "a", revision: 4 })).toEqual({
      name: "a",
      size: 1,
      sizes: null,
      tags: null,
    });
  });
});
