import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Place } from "../../release.ts";
import type { RolloutTarget } from "../../target.ts";
import { openEcsTarget } from "./ecs-target.ts";
import { type Call, newFaultProxy } from "./fault-testing.ts";
import {
  deployment,
  destruction,
  type Life,
  live,
  NOTHING_LEFT,
  rollback,
  type SeenState,
  stateOf,
} from "./life-testing.ts";
import { type AwsStage, hasMoto, newAwsStage, targetOptions } from "./testing.ts";

/** Some hundred processes, each of which begins the work anew. */
const MINUTES = 400_000;
/** A question that is asked again and again (a poll) is killed behind so often. */
const KILLS_A_QUESTION = 3;

/**
 * Each process begins the phase that the one before it was in anew, finds what was done, and gets one call further: that call reaches AWS, its answer is
 * lost, and nothing that this process asks after it arrives. The last one comes through.
 */
describe.skipIf(!hasMoto)("a driver that is killed after every single call of its work", () => {
  let stage: AwsStage;
  let target: RolloutTarget;
  let places = 0;
  beforeAll(async () => {
    stage = await newAwsStage();
    target = await openEcsTarget(targetOptions(stage));
  });
  afterAll(async () => stage?.cleanUp());

  const newPlace = (): Place => ({ app: "shop", environment: `k${++places}` });

  it.concurrent("deploys to the same end, with nothing done twice", { timeout: MINUTES }, async () => {
    const { killed } = await killAll([deployment(1)], deployment(2));
    expect(writesOf(killed)).toEqual([
      "ecs:CreateService",
      "ecs:RegisterTaskDefinition",
      "ecs:RunTask",
      "ecs:TagResource",
      "ecs:UpdateService",
      "elasticloadbalancing:ModifyRule",
      "logs:CreateLogStream",
      "logs:PutLogEvents",
    ]);
    expect(killed.length).toBeGreaterThan(40);
  });

  it.concurrent("deploys for the first time to the same end", { timeout: MINUTES }, async () => {
    const { killed } = await killAll([], deployment(1));
    expect(writesOf(killed)).toEqual([
      "ecs:CreateService",
      "ecs:RegisterTaskDefinition",
      "ecs:RunTask",
      "ecs:TagResource",
      "elasticloadbalancing:CreateRule",
      "elasticloadbalancing:CreateTargetGroup",
      "elasticloadbalancing:ModifyRule",
      "elasticloadbalancing:ModifyTargetGroupAttributes",
      "logs:CreateLogGroup",
      "logs:CreateLogStream",
      "logs:PutLogEvents",
      "logs:PutRetentionPolicy",
      "secretsmanager:CreateSecret",
    ]);
  });

  it.concurrent("rolls back to the same end", { timeout: MINUTES }, async () => {
    const { killed } = await killAll([deployment(1), deployment(2)], rollback({ from: 2, to: 1 }));
    expect(writesOf(killed)).toEqual(["ecs:TagResource", "ecs:UpdateService", "elasticloadbalancing:ModifyRule"]);
    expect(killed.length).toBeGreaterThan(12);
  });

  it.concurrent("destroys until nothing is left", { timeout: MINUTES }, async () => {
    const { killed, end } = await killAll([deployment(1)], destruction);
    expect(end).toEqual(NOTHING_LEFT);
    expect(killed.length).toBeGreaterThan(35);
  });

  /** Does the work undisturbed in one place, and in another by processes that are killed. @returns the calls they were killed behind, and the end that both came to */
  async function killAll(before: Life[], work: Life): Promise<{ killed: string[]; end: SeenState }> {
    const [calm, place] = [newPlace(), newPlace()];
    for (const life of before) await Promise.all([live(life, target, calm), live(life, target, place)]);
    await live(work, target, calm);
    const killed = new Set<string>();
    for (let phase = 0; ; ) {
      const { error, reached, last } = await liveUntilNew(killed, { work, place, phase });
      phase = reached;
      if (last !== undefined) killed.add(last);
      // Nobody killed it, so whatever it stumbled over is its own fault.
      else if (error !== undefined) throw new Error(`after ${[...killed].at(-1)}: ${String(error)}`, { cause: error });
      else break;
    }
    const end = await stateOf(stage, target, place);
    expect(end).toEqual(await stateOf(stage, target, calm));
    await Promise.all([target.destroy(place, "remove"), target.destroy(calm, "remove")]);
    return { killed: [...killed], end };
  }

  /** One process. @returns the call it was killed behind, of which none of `killed` is another; undefined when it came through */
  async function liveUntilNew(killed: ReadonlySet<string>, at: { work: Life; place: Place; phase: number }) {
    let last: string | undefined;
    const proxy = await newFaultProxy(stage.endpoint, (call) => {
      if (last !== undefined) return "refused";
      if (killed.has(nameOf(call)) || call.before >= KILLS_A_QUESTION) return "pass";
      last = nameOf(call);
      return "lost";
    });
    const aws = { endpoint: proxy.endpoint, attempts: 1, speed: 1_000 };
    const phases = at.work(await openEcsTarget(targetOptions(stage, { aws })), at.place);
    let reached = at.phase;
    try {
      for (; reached < phases.length; reached++) await phases[reached]?.();
      return { reached, last };
    } catch (error) {
      return { reached, last, error };
    } finally {
      await proxy.close();
    }
  }
});

const nameOf = ({ question, before }: Call): string => `${question} #${before}`;

function writesOf(killed: string[]): string[] {
  const names = killed.map((one) => one.split(" ")[0] ?? "");
  return [...new Set(names.filter((name) => !/:(Describe|List|Get)/.test(name)))].sort();
}
