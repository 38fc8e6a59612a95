import { describe, expect, it } from "vitest";
import { describeLock, lockedBy } from "./states.ts";

const NOW = Date.parse("2026-11-26T12:04:03.500Z");
const lock = {
  id: "l-1",
  operation: "OperationTypeApply",
  who: "root@vm",
  created: "2026-11-26T12:00:00.123456789Z",
  runId: "i_1",
  actor: "ada",
};

describe("the holder of a state's lock", () => {
  it.each([
    [lock, "apply of run i_1, asked for by ada, as root@vm, for 4 min 3 s"],
    [{ ...lock, runId: null, operation: "" }, "lock, asked for by ada, as root@vm, for 4 min 3 s"],
    [{ ...lock, created: "yesterday" }, "apply of run i_1, asked for by ada, as root@vm, since yesterday"],
    [{ ...lock, created: "2026-11-26T12:05:00Z" }, "apply of run i_1, asked for by ada, as root@vm, for 0 ms"],
  ])("is named with its run, who asked for that, and its age: %#", (held, text) => {
    expect(describeLock(held, NOW)).toBe(text);
  });

  it("is in what somebody reads who finds the state locked", () => {
    const error = lockedBy({ app: "shop", environment: "production" }, lock);
    expect(error.message).toContain("apply of run i_1, asked for by ada, as root@vm, for ");
    expect(error.hint).toContain("`shipway infra unlock l-1 --app shop --env production`");
  });
});
