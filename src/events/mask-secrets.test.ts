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

describe("newMask of a long value", () => {
  const key = Array.from({ length: 40 }, (_, index) => `line ${index} of it's key`).join("\n");
  const mask = newMask([new Secret("KEY", key)]);
  const base64 = (text: string) => Buffer.from(text).toString("base64");

  it("masks what programs break it into, and what `set -x` makes of it", () => {
    for (const width of [76, 64])
      for (const line of base64(`${key}\n`).match(new RegExp(`.{1,${width}}`, "g")) ?? [])
        expect(mask(line).replace(/(Cg|[Ao])?=*$/, ""), line).toBe("****");
    expect(mask(`+ echo '${key.split("\n")[3]?.replaceAll("'", "'\\''")}'`)).not.toContain("key");
  });

  it.each(["", "u", "us", "user", "user:name"])("masks a password in base64 behind %j", (user) => {
    const own = newMask([new Secret("KEY", "correct-horse-battery")]);
    const masked = own(`Authorization: Basic ${base64(`${user}correct-horse-battery`)}`);
    const left = Buffer.from(masked.replace(/.*Basic /, "").replace(/\*+.*/, ""), "base64").toString();
    expect(masked).toContain("****");
    expect(left.replace(user, "").length).toBeLessThanOrEqual(1);
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
