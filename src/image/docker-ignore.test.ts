import { describe, expect, it } from "vitest";
import { parseDockerIgnore } from "./docker-ignore.ts";

/** Which of `paths` are left in the context. */
const kept = (rules: string, ...paths: string[]) => paths.filter((path) => !parseDockerIgnore(rules)(path));

describe("parseDockerIgnore", () => {
  it.each([
    { rules: "node_modules", out: ["node_modules/a", "node_modules"], in: ["web/node_modules/a", "node_modules2"] },
    {
      rules: "**/node_modules",
      out: ["node_modules/a", "web/node_modules/a", "a/b/node_modules"],
      in: ["node_modulesx/a"],
    },
    { rules: "*.log", out: ["x.log"], in: ["a/x.log", "x.logs"] },
    { rules: "**/*.log", out: ["x.log", "a/b/x.log"], in: ["x.log.txt"] },
    { rules: "*/temp*", out: ["a/temp", "a/temporary/x"], in: ["temp", "a/b/temp"] },
    { rules: "temp?", out: ["tempa"], in: ["temp", "tempab"] },
    { rules: "docs/**", out: ["docs/a", "docs/a/b"], in: ["docs"] },
    { rules: "a/**/z", out: ["a/z", "a/b/c/z"], in: ["a/bz"] },
    { rules: "[a-c]x", out: ["ax", "cx"], in: ["dx", "x"] },
    { rules: "[^a-c]x", out: ["dx"], in: ["ax"] },
    { rules: "\\*star", out: ["*star"], in: ["astar"] },
    { rules: "/rooted", out: ["rooted/a"], in: ["a/rooted"] },
    { rules: "./a//b/../c/", out: ["a/c/x"], in: ["a/b", "a/cx"] },
    { rules: "*\n!README.md", out: ["a", "b/c", "b/README.md"], in: ["README.md"] },
    { rules: "dir\n!dir/keep", out: ["dir/a"], in: ["dir/keep", "dir/keep/x"] },
    { rules: "dir\n!dir/keep\ndir/keep/no", out: ["dir/keep/no"], in: ["dir/keep/yes"] },
    { rules: "# a comment\n\n  spaced  \r\n!\n", out: ["spaced"], in: ["# a comment", "x"] },
    { rules: ".", out: [], in: ["a"] },
    { rules: "a.b", out: ["a.b"], in: ["axb"] },
    { rules: "**", out: ["a", "a/b"], in: [] },
    { rules: "[unclosed", out: ["[unclosed"], in: ["u"] },
  ])("$rules", ({ rules, out, in: inside }) => {
    expect(kept(rules, ...out, ...inside)).toEqual(inside);
  });

  it("answers at once for a pattern made to backtrack", () => {
    expect(kept("**a".repeat(40), "a".repeat(200).concat("b"))).toHaveLength(1);
  });
});
