import { describe, expect, it } from "vitest";
import type { PlannedChange } from "./infra-run.ts";
import { describeStopped, inFlight, nextStop, type StopFacts } from "./stop-run.ts";
import { parseStreamLine, type StreamEvent } from "./terraform-stream.ts";

const log = (message: string) => parseStreamLine(JSON.stringify({ "@message": message, type: "log" })).event;
const OTHER: StreamEvent = { type: "other" };
const SAID = log("\nInterrupt received.\nPlease wait for Terraform to exit or data loss may occur.\n");
const TWICE = log("\nTwo interrupts received. Exiting immediately. Note that data loss may have occurred.\n");
const NOW = 1_000_000;
const working: StopFacts = {
  atStake: "objects",
  requestedAt: NOW - 100,
  forcedAt: undefined,
  interruptedAt: undefined,
  watchedSince: NOW - 60_000,
  events: [OTHER, OTHER],
  now: NOW,
};

describe("nextStop, of an apply", () => {
  it.each<[string, Partial<StopFacts>, string]>([
    ["nobody asked", { requestedAt: undefined }, "wait"],
    ["somebody asked", {}, "interrupt"],
    ["it has not said its first word: it would die of a signal", { events: [] }, "wait"],
    ["it gets ready: it keeps the signal until it works", { events: [OTHER] }, "interrupt"],
    ["this life has sent it", { interruptedAt: NOW - 50 }, "wait"],
    ["this life has sent it long ago, and it does not say so", { interruptedAt: NOW - 50_000 }, "wait"],
    ["it says so", { events: [OTHER, SAID], interruptedAt: NOW - 50 }, "wait"],
    ["it says so, and we sent nothing: somebody else did", { events: [OTHER, SAID] }, "wait"],
    ["it says so, for an hour", { events: [OTHER, SAID], requestedAt: NOW - 3_600_000 }, "wait"],
    [
      "an earlier life noted it and Terraform has said nothing for long: it was never sent",
      { interruptedAt: NOW - 70_000, watchedSince: NOW - 3_000 },
      "interrupt",
    ],
    [
      "an earlier life noted it, and it is too early to say",
      { interruptedAt: NOW - 70_000, watchedSince: NOW - 2_999 },
      "wait",
    ],
    [
      "an earlier life noted it, and Terraform gets ready: it may keep it",
      { interruptedAt: NOW - 70_000, watchedSince: NOW - 9_000, events: [OTHER] },
      "wait",
    ],
    [
      "an earlier life sent it",
      { interruptedAt: NOW - 70_000, watchedSince: NOW - 9_000, events: [OTHER, SAID] },
      "wait",
    ],
    ["forced after it said so", { events: [OTHER, SAID], forcedAt: NOW - 1 }, "interrupt again"],
    ["forced, and it says that, too", { events: [OTHER, SAID, TWICE], forcedAt: NOW - 1 }, "wait"],
    ["forced before anything was sent", { forcedAt: NOW - 1 }, "interrupt"],
    ["forced, and it does not end", { events: [OTHER, SAID, TWICE], forcedAt: NOW - 10_000 }, "kill"],
    ["forced, and it never listened", { interruptedAt: NOW - 50, forcedAt: NOW - 10_000 }, "kill"],
  ])("when %s: %s", (_what, facts, step) => {
    expect(nextStop({ ...working, ...facts })).toBe(step);
  });
});

describe("nextStop, of a plan", () => {
  it.each<[string, Partial<StopFacts>, string]>([
    ["holds nothing", { atStake: "nothing" }, "kill"],
    ["holds nothing, and nobody asked", { atStake: "nothing", requestedAt: undefined }, "wait"],
    ["holds the lock, which it should give back itself", { atStake: "lock" }, "interrupt"],
    ["holds the lock and does not end", { atStake: "lock", requestedAt: NOW - 10_000 }, "kill"],
  ])("that %s: %s", (_what, facts, step) => {
    expect(nextStop({ ...working, ...facts })).toBe(step);
  });
});

const started = (address: string, at: number): StreamEvent => ({ type: "started", address, action: "create", at });
const done = (address: string, action = "create"): StreamEvent => ({
  type: "done",
  address,
  action,
  id: "x",
  seconds: 1,
});

describe("what a run that is stopped is at", () => {
  it("is what it began and did not end, the longest first", () => {
    const events = [started("a", NOW - 9_000), started("b", NOW - 3_000), started("c", NOW - 40_000), done("a")];
    expect(inFlight(events, NOW)).toEqual([
      { address: "c", action: "create", seconds: 40 },
      { address: "b", action: "create", seconds: 3 },
    ]);
  });

  it("is told in words afterwards, a replacement that came halfway among them", () => {
    const change = (address: string, action: PlannedChange["action"]) => ({ address, action, attributes: [] });
    const changes = [
      change("a", "create"),
      change("b", "replace"),
      change("c", "update"),
      change("d", "delete"),
      change("e", "move"),
    ];
    const events: StreamEvent[] = [
      started("a", 1),
      done("a"),
      done("b", "delete"),
      started("c", 1),
      { type: "failed", address: "c", action: "update" },
    ];
    expect(describeStopped(changes, events)).toBe(
      "done and in the state: a (1 of 4); destroyed, and not made anew: b; cut off: c; not begun: d",
    );
    expect(describeStopped(changes, [])).toBe("done and in the state: nothing (0 of 4); not begun: a, b, c, d");
  });
});
