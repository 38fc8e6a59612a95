import { describe, expect, it } from "vitest";
import type { Attribute } from "./attributes.ts";
import { defineProvider, resourcesOf } from "./define-provider.ts";

const define = (attributes: Record<string, Partial<Attribute>>, more: object = {}, type = "shop_thing") =>
  defineProvider({
    address: "example.test/shop/shop",
    attributes: {},
    configure: () => undefined,
    resources: {
      [type]: resourcesOf<undefined>()({
        description: "",
        attributes: Object.fromEntries(
          Object.entries(attributes).map(([name, one]) => [
            name,
            { type: "string", description: "", ...one } as Attribute,
          ]),
        ),
        create: async () => ({}),
        read: async () => undefined,
        remove: async () => undefined,
        ...more,
      }),
    },
    dataSources: {},
  });
const update = async () => ({});

describe("a provider's declaration", () => {
  it.each<[Record<string, Partial<Attribute>>, object, string]>([
    [{ name: {} }, { update }, "shop_thing.name is none of required, optional, computed"],
    [{ Name: { optional: true } }, { update }, "shop_thing.Name is no name for an attribute"],
    [{ name: { required: true, computed: true } }, { update }, "name is required and something else, too"],
    [{ key: { computed: true, writeOnly: true } }, { update }, "key is write-only, so it cannot be computed"],
    [
      { key: { required: true, writeOnly: true, forceNew: true } },
      {},
      "key is write-only, so nobody can see it change",
    ],
    [{ size: { required: true, default: 1 } }, { update }, "size has a default, so it is optional and not computed"],
    [{ id: { computed: true, forceNew: true } }, {}, "id cannot be configured, so no change of it forces anything"],
    [{ name: { required: true, stable: true } }, { update }, "name is stable, so it must be computed"],
    [{ name: { required: true } }, {}, "shop_thing.name can change, but there is no update"],
    [
      { id: { computed: true, stable: true } },
      { isOutdated: () => true },
      "shop_thing.isOutdated has no computed attribute in which a plan could show it",
    ],
  ])("is refused: %j %j", (attributes, more, mistake) => {
    expect(() => define(attributes, more)).toThrow(mistake);
  });

  it("is refused when a type does not carry the provider's name", () => {
    expect(() => define({ id: { computed: true } }, {}, "thing")).toThrow("thing does not begin with shop_");
  });

  it("is accepted when all is well", () => {
    expect(define({ id: { computed: true }, name: { required: true, forceNew: true } }).address).toBe(
      "example.test/shop/shop",
    );
  });
});
