import { describe, expect, it } from "vitest";
import { matchesPathGlob, mostSpecific } from "./glob.ts";

describe("matchesPathGlob", () => {
  it.each([
    ["dist/**", "dist/a/b.js", true],
    ["dist/**", "dist", false],
    ["dist", "dist/a", false],
    ["**/*.xml", "a.xml", true],
    ["**/*.xml", "a/b/c.xml", true],
    ["a/**/b", "a/b", true],
    ["a/**/b", "a/x/y/b", true],
    ["*.txt", "a/b.txt", false],
    ["./dist/*", "dist/a", true],
    ["packages/*/dist/**", "packages/web/dist/x/y", true],
    [".env", ".env", true],
    ["**", ".hidden/file", true],
  ])("%s and %s: %s", (pattern, path, expected) => {
    expect(matchesPathGlob(pattern, path)).toBe(expected);
  });

  it("answers at once for patterns that make a regular expression backtrack", () => {
    expect(matchesPathGlob(`${"**/*a".repeat(30)}b`, "a".repeat(2_000))).toBe(false);
  });
});

describe("mostSpecific", () => {
  it.each([
    ["feature/bb-123-x", "feature/bb-123-*"],
    ["feature/bb-9", "feature/bb-*"],
    ["feature/exact", "feature/exact"],
    ["feature/a/b", "**"],
    ["main", "*"],
    ["v*", "v*"],
  ])("chooses for %s the entry %s", (name, expected) => {
    const patterns = ["**", "*", "feature/bb-*", "feature/bb-123-*", "feature/*", "feature/exact", "v*"];
    expect(
      mostSpecific(
        patterns.map((pattern) => ({ pattern })),
        name,
      )?.pattern,
    ).toBe(expected);
  });
});
