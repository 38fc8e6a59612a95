import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Place } from "../../release.ts";
import type { RolloutTarget } from "../../target.ts";
import { openEcsTarget } from "./ecs-target.ts";
import { type Call, type Fate, newFaultProxy } from "./fault-testing.ts";
import { deployment, destruction, live, NOTHING_LEFT, rollback, type SeenState, stateOf } from "./life-testing.ts";
import { type AwsStage, hasMoto, newAwsStage, targetOptions } from "./testing.ts";

const MINUTES = 400_000;

/** For how many askings a question is answered as before somebody wrote. */
const STALE_ANSWERS = 2;

/** Each decides about the calls of one whole life. */
const FAULTS: Record<string, () => (call: Call) => Fate> = {
  // Every other time that a question is asked; a call that is tried again comes through, and the next of the same kind does not.
  throttled: () => (call) => (call.before % 2 === 0 ? "throttled" : "pass"),
  "answered with an error of AWS's own": () => (call) => (call.before % 2 === 0 ? "broken" : "pass"),
  "done, with its answer lost": () => (call) => (call.before % 2 === 0 ? "lost" : "pass"),
  "answered too late": () => {
    const slowed = new Set<string>();
    // Each takes its time, so each kind of call is slow once.
    return ({ name }) => (slowed.size < slowed.add(name).size ? "slow" : "pass");
  },
  "answered as before the last write": () => {
    const given = new Map<string, number>();
    return ({ question, writes, isRead }) => {
      if (!isRead) return "pass";
      const key = `${writes} ${question}`;
      const stale = given.get(key) ?? 0;
      given.set(key, stale + 1);
      return stale < STALE_ANSWERS ? "stale" : "pass";
    };
  },
};

/** A deployment, another, a rollback and the end of an environment, through a proxy that disturbs each call. */
describe.skipIf(!hasMoto)("a life in which every call is", () => {
  let stage: AwsStage;
  let calm: RolloutTarget;
  let expected: SeenState[];
  let places = 0;
  beforeAll(async () => {
    stage = await newAwsStage();
    calm = await openEcsTarget(targetOptions(stage));
    expected = await liveAll(calm, newPlace());
  }, MINUTES);
  afterAll(async () => stage?.cleanUp());

  const newPlace = (): Place => ({ app: "shop", environment: `f${++places}` });

  it.concurrent.each(Object.entries(FAULTS))(
    "%s comes to the same ends, with nothing done twice",
    { timeout: MINUTES },
    async (_, newFateOf) => {
      const proxy = await newFaultProxy(stage.endpoint, newFateOf());
      // An answer that is slow by itself, on a machine that is busy, is asked for again as well.
      const aws = { endpoint: proxy.endpoint, attempts: 10, speed: 1_000, answerMs: 700 };
      const ends = await liveAll(await openEcsTarget(targetOptions(stage, { aws })), newPlace());
      expect(ends).toEqual(expected);
      expect(new Set(proxy.calls.map(({ name }) => name)).size).toBeGreaterThan(35);
      await proxy.close();
    },
  );

  /** @returns what is there after each part of a life, as somebody else sees it */
  async function liveAll(on: RolloutTarget, place: Place): Promise<SeenState[]> {
    const states: SeenState[] = [];
    for (const life of [deployment(1), deployment(2), rollback({ from: 2, to: 1 }), destruction]) {
      await live(life, on, place);
      states.push(await stateOf(stage, calm, place));
    }
    expect(states.at(-1)).toEqual(NOTHING_LEFT);
    return states;
  }
});
