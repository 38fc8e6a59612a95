import { describe, expect, it } from "vitest";
import { expandVariables } from "./step-environment.ts";

describe("expandVariables", () => {
  it.each([
    [`$A-$\{B}`, "1-2"],
    ["$AB", "$AB"],
    ["pa$$word$", "pa$$word$"],
    [`$\{C}`, `$\{C}`],
    ["$toString", "$toString"],
  ])("%s becomes %s", (text, expected) => {
    expect(expandVariables(text, { A: "1", B: "2" })).toBe(expected);
  });
});
