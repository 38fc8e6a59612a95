import { afterEach, describe, expect, it, vi } from "vitest";
import type { RolloutEvent } from "./outcome.ts";
import { newTeller } from "./teller.ts";

describe("newTeller", () => {
  afterEach(() => void vi.useRealTimers());

  it("tells in order, waits for nobody before flush, and survives a listener that throws", async () => {
    const told: string[] = [];
    const teller = newTeller(async (event) => {
      await Promise.resolve();
      if (event.kind === "note") told.push(event.text);
      if (told.length === 1) throw new Error("the store is away");
    });
    for (const text of ["one", "two", "three"]) teller.tell({ kind: "note", text });
    expect(told).toEqual([]);
    await teller.flush();
    expect(told).toEqual(["one", "two", "three"]);
  });

  it("says now and then what takes long, and nothing once it has ended", async () => {
    vi.useFakeTimers();
    const events: RolloutEvent[] = [];
    const work = newTeller((event) => void events.push(event)).whileDoing(
      "release-commands",
      "the release command of web runs",
      () => new Promise<number>((resolve) => setTimeout(() => resolve(7), 25_000)),
    );
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await work).toBe(7);
    expect(events.map((event) => event.kind === "waiting" && event.detail)).toEqual([
      "the release command of web runs: 10.0 s so far",
      "the release command of web runs: 20.0 s so far",
    ]);
  });

  it("tells each state of health once, and says so when nothing changes", async () => {
    vi.useFakeTimers();
    const events: RolloutEvent[] = [];
    const progress = newTeller((event) => void events.push(event)).progress("prove");
    const state = { service: "web", healthy: 0, wanted: 2, detail: "connection refused" };
    for (let n = 0; n < 5; n++) progress.report(state);
    await vi.advanceTimersByTimeAsync(10_000);
    progress.report({ ...state, healthy: 1 });
    await vi.advanceTimersByTimeAsync(9_000);
    progress.end();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(events.map((event) => event.kind)).toEqual(["health", "waiting", "health"]);
    expect(events[1]).toMatchObject({
      forMs: 10_000,
      detail: expect.stringContaining("web 0/2 healthy (connection refused)"),
    });
  });
});
