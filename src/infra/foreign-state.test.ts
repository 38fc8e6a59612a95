import { describe, expect, it } from "vitest";
import { describePlace, parseLockInfo } from "./foreign-state.ts";
import { isLockOf } from "./recovery.ts";

const INFO = `Lock Info:
  ID:        aaaa-bbbb
  Path:      states/shop
  Operation: OperationTypeApply
  Who:       eve@laptop
  Version:   1.11.4
  Created:   2026-11-26 05:00:00.123456789 +0000 UTC
  Info:      
`;
const LOCK = {
  id: "aaaa-bbbb",
  operation: "OperationTypeApply",
  who: "eve@laptop",
  created: "2026-11-26T05:00:00.123Z",
  runId: null,
};

describe("the holder of a lock, as Terraform describes it", () => {
  it("is read from a diagnostic and from an error on a terminal, with its frame and colours", () => {
    expect(parseLockInfo(`Error message: PreconditionFailed\n${INFO}\n\nTerraform acquires a lock`)).toEqual(LOCK);
    const framed = INFO.split("\n").map((line) => `\u001b[31m│\u001b[0m \u001b[0m${line}`);
    expect(parseLockInfo(["\u001b[31m╷\u001b[0m", ...framed, "\u001b[31m╵\u001b[0m"].join("\n"))).toEqual(LOCK);
  });

  it("is nobody where nothing is said of a lock", () => {
    expect(parseLockInfo("Error: no such bucket")).toBeUndefined();
    expect(parseLockInfo("Lock Info:\n\nTerraform acquires")).toBeUndefined();
  });

  it("keeps a time that is not Go's as it is", () => {
    expect(parseLockInfo(INFO.replace(/Created: .*/, "Created:   yesterday"))?.created).toBe("yesterday");
  });
});

describe("a lock that names no run", () => {
  const run = { apply_started_at: new Date("2026-11-26T04:59:59Z"), ended_at: new Date("2026-11-26T05:01:00Z") };
  it.each([
    ["is the run's when it was taken on this machine while it applied", LOCK, true],
    ["is not when it was taken on another one", { ...LOCK, who: "eve@elsewhere" }, false],
    ["is not when it is older", { ...LOCK, created: "2026-11-26T04:59:00Z" }, false],
    ["is not when it was taken after the run's end", { ...LOCK, created: "2026-11-26T05:02:00Z" }, false],
    ["is not when it is no apply's", { ...LOCK, operation: "OperationTypePlan" }, false],
    ["is not when nobody knows when it was taken", { ...LOCK, created: "yesterday" }, false],
  ])("%s", (_name, lock, expected) => expect(isLockOf(run, lock, "laptop")).toBe(expected));
  it("is nobody's of ours before anything was applied", () => {
    expect(isLockOf({ ...run, apply_started_at: null }, LOCK, "laptop")).toBe(false);
  });
});

describe("the place of a state", () => {
  it("is what tells one from another, whatever the order of its settings", () => {
    expect(describePlace({ type: "s3", config: { key: "k", bucket: "b" } })).toBe("s3 (bucket=b, key=k)");
    expect(describePlace({ type: "shipway", config: {} })).toBe("Shipway");
  });
});
