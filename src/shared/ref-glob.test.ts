import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { matchesRefGlob, refGlobProblem } from "./ref-glob.ts";

describe("matchesRefGlob", () => {
  it.each([
    ["main", "main", true],
    ["main", "Main", false],
    ["main", "mainline", false],
    ["*", "main", true],
    ["*", "feature/x", false],
    ["**", "feature/x", true],
    ["feature/*", "feature/a", true],
    ["feature/*", "feature/a/b", false],
    ["feature/**", "feature/a/b", true],
    ["feature/**", "feature", false],
    ["**/hotfix", "a/b/hotfix", true],
    ["v?.*", "v1.2", true],
    ["v?.*", "v12", false],
    ["release-{1,2}", "release-2", true],
    ["release-{1,2}", "release-3", false],
    ["a{,b{c,d}}", "abd", true],
    ["a{,b{c,d}}", "a", true],
    ["*", ".hidden", true],
    ["!main", "develop", false],
    ["v[0-9]", "v1", false],
    ["v[0-9]", "v[0-9]", true],
    ["v1.0", "v1x0", false],
    ["+(a)", "+(a)", true],
    ["a,b", "a,b", true],
  ])("%s against %s is %s", (pattern, name, expected) => {
    expect(matchesRefGlob(pattern, name)).toBe(expected);
  });

  it("answers at once for a pattern made to backtrack", () => {
    expect(matchesRefGlob("*a".repeat(60), `${"a".repeat(240)}b`)).toBe(false);
    expect(matchesRefGlob("{a,aa}".repeat(60), `${"a".repeat(200)}`)).toBe(false);
  });

  it("takes any text as a pattern without throwing, and a name without specials matches only itself", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (pattern, name) => typeof matchesRefGlob(pattern, name) === "boolean"),
    );
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z.()[\]+!/-]{1,12}$/),
        fc.stringMatching(/^[a-z.()[\]+!/-]{1,12}$/),
        (a, b) => {
          expect(matchesRefGlob(a, b)).toBe(a === b);
        },
      ),
    );
  });
});

describe("refGlobProblem", () => {
  it.each([
    ["", /empty/],
    ["refs/heads/main", /write main/],
    ["a b", /no branch or tag name can contain/],
    ["a..b", /no branch or tag/],
    ["{a,b", /without its }/],
    ["a}", /without its {/],
  ])("refuses %j", (pattern, why) => expect(refGlobProblem(pattern)).toMatch(why));

  it.each(["main", "release/*", "v{1,2}.*", "**"])("accepts %s", (pattern) => {
    expect(refGlobProblem(pattern)).toBeUndefined();
  });
});
