import { describe, expect, it } from "vitest";
import { Secret } from "../shared/secret.ts";
import { maskQuotes, newMask } from "./mask-secrets.ts";

describe("newMask", () => {
  const mask = newMask([new Secret("KEY", "s3cr3t/+value"), new Secret("PEM", "line one\nline two")]);

  it.each([
    ["as it is", "key=s3cr3t/+value;", "key=****;"],
    ["URL-encoded", "?key=s3cr3t%2F%2Bvalue", "?key=****"],
    ["in base64", `Basic ${Buffer.from("s3cr3t/+value").toString("base64")}`, "Basic ****"],
    ["a line of it", "  line two", "  ****"],
    ["nothing secret", "all is well", "all is well"],
  ])("masks a value %s", (_form, text, masked) => {
    expect(mask(text).replace(/=+$/, "")).toBe(masked);
  });
});

describe("maskQuotes", () => {
  const mask = newMask([new Secret("KEY", "failed")]);

  it("masks what may quote a program, at any depth, and leaves ids and states alone", () => {
    const outcome = {
      status: "failed",
      evidence: [{ task: "failed-1", summary: "it failed", lastLines: ["x failed"] }],
    };
    expect(maskQuotes(outcome, mask)).toEqual({
      status: "failed",
      evidence: [{ task: "failed-1", summary: "it ****", lastLines: ["x ****"] }],
    });
  });
});

it("blanks our own tokens by their shape, whoever's they are, and nothing that only looks a little like one", () => {
  const secret = "A".repeat(32);
  const text = `shw_${secret} SHIPWAY_TOKEN=shr_i_0123456789ab.${secret} shw_short shr_i_x.y`;
  for (const mask of [newMask([]), newMask([new Secret("x", "other")])])
    expect(mask(text)).toBe("**** SHIPWAY_TOKEN=**** shw_short shr_i_x.y");
});
