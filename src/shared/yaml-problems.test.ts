import { describe, expect, it } from "vitest";
import { didYouMean, positionOf, readYaml, renderYamlProblems, unknownKeyMessage } from "./yaml-problems.ts";

const source = (text: string) => readYaml(text).source;

describe("renderYamlProblems", () => {
  it("names file, line and column and puts carets under the user's own text", () => {
    const text = "a: 1\nb:\n  scripts:\n    - x\n";
    const problem = {
      ...positionOf(source(text), ["b", "scripts"]),
      message: unknownKeyMessage("scripts", ["script"]),
    };
    expect(renderYamlProblems(text, "file.yml", [problem])).toBe(
      ['file.yml:3:3  unknown key "scripts" – did you mean "script"?', "    3 |   scripts:", "      |   ^^^^^^^"].join(
        "\n",
      ),
    );
  });

  it("lists all problems in the order of the file, whatever their order", () => {
    const rendered = renderYamlProblems("a\nb\n", "f.yml", [
      { line: 2, column: 1, message: "second" },
      { line: 1, column: 1, message: "first" },
    ]);
    expect(rendered.indexOf("first")).toBeLessThan(rendered.indexOf("second"));
  });

  it("keeps the caret in place behind tabs and in very long lines", () => {
    const [, tabbed, caret] = renderYamlProblems("\tx: 1", "f", [{ line: 1, column: 2, message: "m" }]).split("\n");
    expect([tabbed, caret]).toEqual(["    1 | \tx: 1", "      | \t^"]);
    const long = `${"a".repeat(500)}X${"b".repeat(500)}`;
    const [, shown = "", under = ""] = renderYamlProblems(long, "f", [{ line: 1, column: 501, message: "m" }]).split(
      "\n",
    );
    expect(shown[under.indexOf("^")]).toBe("X");
    expect(shown.length).toBeLessThan(160);
  });

  it("survives a position outside the text and never prints control characters", () => {
    expect(renderYamlProblems("a", "f", [{ line: 9, column: 1, message: "m" }])).toBe("f:9:1  m");
    expect(renderYamlProblems("a\u001b[31m", "f", [{ line: 1, column: 1, message: "m" }])).not.toContain("\u001b");
  });
});

describe("positionOf", () => {
  const text = "base: &base\n  image: node\nstep:\n  <<: *base\n  script:\n    - one\n    - two: [x]\n";
  it.each([
    { path: ["step", "script"], at: "key", expected: { line: 5, column: 3, length: 6 } },
    { path: ["step", "script", 0], at: "value", expected: { line: 6, column: 7, length: 3 } },
    { path: ["step", "script", 1, "two"], at: "value", expected: { line: 7, column: 12, length: 3 } },
    { path: ["step", "image"], at: "value", expected: { line: 2, column: 10, length: 4 } },
    { path: ["step", "missing", "deep"], at: "key", expected: { line: 3, column: 1, length: 4 } },
  ] as const)("finds $path ($at)", ({ path, at, expected }) => {
    expect(positionOf(source(text), path, at)).toEqual(expected);
  });
});

describe("readYaml", () => {
  it.each([
    { name: "a syntax error", text: "a: [1\nb: 2\n", message: /this \[ is not closed: add the \]/ },
    { name: "a key written twice", text: "a: 1\na: 2\n", message: /unique/i },
    { name: "an alias without anchor", text: "a: *nowhere\n", message: /nowhere/ },
    { name: "a merge of something else than a mapping", text: "a:\n  <<: [1]\n", message: /<< takes a mapping/ },
    { name: "an alias that contains itself", text: "a: &a\n  b: *a\n", message: /contains itself/ },
    { name: "a file over the limit", text: `a: ${"x".repeat(1024 * 1024)}`, message: /larger than 1 MiB/ },
  ])("reports $name as a problem with its place", ({ text, message }) => {
    const { problems } = readYaml(text);
    expect(problems[0]?.message).toMatch(message);
    expect(problems[0]?.line).toBeGreaterThanOrEqual(1);
  });

  it("refuses aliases that multiply, quickly", () => {
    const levels = Array.from({ length: 30 }, (_, n) => `l${n + 1}: &l${n + 1} [${`*l${n}, `.repeat(9)}]`);
    const { problems } = readYaml(`l0: &l0 [x]\n${levels.join("\n")}\n`);
    expect(problems[0]?.message).toMatch(/expand to more than/);
  });

  it("accepts a key written twice where the format does", () => {
    expect(readYaml("a: 1\na: 2\n", { duplicateKeys: "last-wins" }).problems).toEqual([]);
  });
});

describe("didYouMean", () => {
  it.each([
    ["scripts", ["script", "services"], "script"],
    ["imge", ["image", "name"], "image"],
    ["prot", ["path", "port"], "port"],
    ["max_time", ["max-time", "name"], "max-time"],
    ["zebra", ["image", "name"], undefined],
    ["id", ["x", "y"], undefined],
  ] as const)("%s among %j is %s", (word, candidates, expected) => {
    expect(didYouMean(word, candidates)).toBe(expected);
  });
});
