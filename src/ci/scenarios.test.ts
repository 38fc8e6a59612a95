import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hasCode } from "../shared/errors.ts";
import { parsePipelines } from "./parse-pipelines.ts";
import { type PlannedRef, planPipeline } from "./plan.ts";

/**
 * One directory per scenario: a file as users write it, the refs that are pushed, and what is to happen for each. A new or deliberately changed expectation is
 * written by deleting `expected.json` and running this test; then it is read, line by line, before it is committed.
 */
const ROOT = join(import.meta.dirname, "scenarios");

describe("bitbucket-pipelines.yml", () => {
  it.each(readdirSync(ROOT))("does what scenario %s says", (name) => {
    const dir = join(ROOT, name);
    const text = readFileSync(join(dir, "bitbucket-pipelines.yml"), "utf8");
    const refs = JSON.parse(readFileSync(join(dir, "refs.json"), "utf8")) as string[];
    const actual = Object.fromEntries(refs.map((ref) => [ref, outcomeFor(text, ref)]));
    const expected = join(dir, "expected.json");
    if (!existsSync(expected)) {
      writeFileSync(expected, `${JSON.stringify(actual, null, 2)}\n`);
      throw new Error(`${expected} did not exist and was written: read it, then run again`);
    }
    expect(actual).toEqual(JSON.parse(readFileSync(expected, "utf8")));
  });
});

function outcomeFor(text: string, ref: string): unknown {
  try {
    const file = parsePipelines(text, "bitbucket-pipelines.yml");
    // As it is stored and sent: a plan that is not plain JSON would differ.
    return JSON.parse(JSON.stringify(planPipeline(file, parseRef(ref))));
  } catch (error) {
    if (!hasCode(error, "PIPELINES_INVALID")) throw error;
    return { error: (error as Error).message.split("\n") };
  }
}

/** `branch NAME`, `tag NAME`, `custom NAME`, and for a branch `changed PATH…` or `message TEXT`. */
function parseRef(text: string): PlannedRef {
  const [kind = "", name = "", what = "", ...rest] = text.split(" ");
  if (kind === "custom") return { refKind: "branch", refName: "main", custom: name };
  return {
    refKind: kind === "tag" ? "tag" : "branch",
    refName: name,
    ...(what === "changed" ? { changedPaths: rest } : {}),
    ...(what === "message" ? { message: rest.join(" ") } : {}),
  };
}
