import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ERRORS, errorCode, fail, hasCode, toProblem } from "./errors.ts";

const root = join(import.meta.dirname, "..", "..");
const page = readFileSync(join(root, "docs", "errors.md"), "utf8");
const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts") && !/\.test\.ts$|testing\.ts$|contract\.ts$|shared\/errors\.ts$/.test(file))
  .map((file) => readFileSync(join(root, "src", file), "utf8"))
  .join("\n");

/** `### CODE` and what follows it. */
const entries = new Map(
  page
    .split(/^### /m)
    .slice(1)
    .map((text) => [text.slice(0, text.indexOf("\n")), text.slice(text.indexOf("\n")).split(/^## /m)[0] ?? ""]),
);
/** Codes of results: written where a problem is made, never thrown. */
const results = [
  "BUG",
  ...[...sources.matchAll(/\bcode: "([A-Z_]+)"/g)].flatMap(([, code = ""]) => (code in ERRORS ? [] : [code])),
];

describe("docs/errors.md", () => {
  it("explains every code there is, and none that there is not", () => {
    expect([...entries.keys()].sort()).toEqual([...new Set([...Object.keys(ERRORS), ...results])].sort());
  });

  it.each(Object.entries(ERRORS))(
    "says how %s is answered and cured, among those of its kind",
    (code, { kind, http, exit }) => {
      const entry = entries.get(code) ?? "";
      expect(entry).toContain(`HTTP ${http}, exit ${exit}. `);
      expect(entry).toMatch(/\*\*Cure:\*\* \S/);
      const title = kind === "user" ? "Yours to mend" : "Something that Shipway depends on";
      expect(page.lastIndexOf("\n## ", page.indexOf(`### ${code}\n`))).toBe(page.indexOf(`\n## ${title}`));
    },
  );
});

it.each(Object.keys(ERRORS))("%s is used somewhere", (code) => {
  expect(sources).toContain(`"${code}"`);
});

describe("an error", () => {
  const error = fail("APP_NOT_FOUND", { message: "There is no app x here.", hint: "Create it." });

  it("is known by its code, also when it was stored and revived as a plain object", () => {
    const revived = JSON.parse(JSON.stringify({ ...error, message: error.message }));
    expect([hasCode(error, "APP_NOT_FOUND"), hasCode(revived, "APP_NOT_FOUND"), hasCode(error, "NOT_FOUND")]).toEqual([
      true,
      true,
      false,
    ]);
    expect(toProblem(revived)).toEqual({
      code: "APP_NOT_FOUND",
      message: "There is no app x here.",
      hint: "Create it.",
    });
  });

  it.each([undefined, null, "APP_NOT_FOUND", { code: 7 }, { code: "ENOENT" }, { code: "toString" }, new Error("x")])(
    "has no public code when it is foreign: %j",
    (foreign) => {
      expect(errorCode(foreign)).toBeUndefined();
      expect(toProblem(foreign).code).toBe("BUG");
    },
  );
});
