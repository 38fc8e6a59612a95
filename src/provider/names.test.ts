import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VariableName } from "../http/schemas.ts";
import { Name } from "../source/name.ts";
import { BackingSpec } from "../spec/app-spec.ts";
import { checkName, checkVariableName, checkVersionTag, parseId } from "./names.ts";
import { ENGINES } from "./resources/backing.ts";

describe("the provider's rules for names", () => {
  const letters = fc.string({ unit: fc.constantFrom(..."aZz09-_.é $SHIPWAY"), maxLength: 40 });
  const long = fc.nat(210).map((length) => "a".repeat(length));
  it("are the server's", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          letters,
          long,
          letters.map((text) => `SHIPWAY_${text}`),
        ),
        (text) => {
          expect(checkName(text) === undefined).toBe(Name.safeParse(text).success);
          expect(checkVariableName(text) === undefined).toBe(VariableName.safeParse(text).success);
          const version = BackingSpec.shape.version.safeParse(text).success;
          expect(checkVersionTag(text) === undefined).toBe(version);
        },
      ),
      { numRuns: 2_000 },
    );
    expect(ENGINES).toEqual(BackingSpec.shape.engine.options);
  });
});

describe("an id", () => {
  it("is taken apart, and explained when it has other parts", () => {
    expect(parseId("shop/production/db", "APP", "ENVIRONMENT", "NAME")).toEqual(["shop", "production", "db"]);
    for (const wrong of ["shop", "shop/production/db/x", "shop//db", "", "/production/db"]) {
      expect(() => parseId(wrong, "APP", "ENVIRONMENT", "NAME")).toThrow(`${JSON.stringify(wrong)} is not an id`);
    }
  });
});
