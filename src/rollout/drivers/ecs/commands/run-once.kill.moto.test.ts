import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LogLine } from "../../../../shared/log-line.ts";
import { newId } from "../../../../shared/new-id.ts";
import type { Place, Release } from "../../../release.ts";
import type { OneOffResult } from "../../../target.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { type Call, type Fate, newFaultProxy } from "../fault-testing.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, targetOptions } from "../testing.ts";

const place: Place = { app: "shop", environment: "asked" };
const KILLED = new Error("killed");
/** A question that is asked again and again (a poll) is killed behind so often. */
const KILLS_A_QUESTION = 3;

describe.skipIf(!hasMoto)("a run that a person asked for, by a driver that is killed", () => {
  let stage: AwsStage;
  beforeAll(async () => {
    stage = await newAwsStage();
  });
  afterAll(() => stage?.cleanUp());

  const service = ecsService(place, "worker", "worker");
  const release: Release = { app: place.app, number: 1, services: [service] };

  /** The row that outlives each process: whether the command began, and its output. */
  const newRow = () => ({ key: newId("run"), wasBegun: false, lines: [] as LogLine[] });
  type Row = ReturnType<typeof newRow>;

  /** One process, each of whose calls has a fate; with `diesInBegin` it is killed once it noted that the command begins. */
  async function attempt(row: Row, fateOf: (call: Call) => Fate, diesInBegin = false): Promise<OneOffResult> {
    const proxy = await newFaultProxy(stage.endpoint, fateOf);
    const aws = { endpoint: proxy.endpoint, attempts: 1, speed: 1_000 };
    const target = await openEcsTarget(targetOptions(stage, { aws }));
    const run = {
      key: row.key,
      service: "worker",
      command: ["sh", "-c", "echo begun; sleep 0.3; exit 3"],
      variables: { env: {}, secrets: {} },
      deadlineMs: 60_000,
      asked: {
        wasBegun: row.wasBegun,
        begin: async () => {
          row.wasBegun = true;
          if (diesInBegin) throw KILLED;
        },
      },
    };
    try {
      return await target.runOnce(place, release, run, (lines) => void row.lines.push(...lines));
    } finally {
      await proxy.close();
    }
  }

  it("comes to its end, and never runs twice, wherever it is killed", { timeout: 300_000 }, async () => {
    const row = newRow();
    const { started } = await stage.stats();
    const killed = new Set<string>();
    for (;;) {
      let last: string | undefined;
      const result = await attempt(row, (call) => {
        if (last !== undefined) return "refused";
        const name = `${call.question} #${call.before}`;
        if (killed.has(name) || call.before >= KILLS_A_QUESTION) return "pass";
        last = name;
        return "lost";
      }).catch((error: unknown) => error);
      if (last === undefined) {
        expect(result).toEqual({ exitCode: 3, outOfMemory: false, timedOut: false });
        break;
      }
      killed.add(last);
    }
    const names = new Set([...killed].map((one) => one.split(" ")[0]));
    expect(names).toEqual(
      expect.toSatisfy((all: Set<string>) =>
        ["ecs:RunTask", "logs:CreateLogStream", "logs:PutLogEvents"].every((one) => all.has(one)),
      ),
    );
    expect((await stage.stats()).started - started).toBe(1);
    expect(new Set(row.lines.map(({ text }) => text))).toEqual(new Set(["begun"]));
  });

  it("begins where it was killed between noting that it begins and beginning", async () => {
    const row = newRow();
    const { started } = await stage.stats();
    await expect(attempt(row, () => "pass", true)).rejects.toBe(KILLED);
    expect(row.wasBegun).toBe(true);
    expect((await stage.stats()).started - started).toBe(0);
    expect(await attempt(row, () => "pass")).toMatchObject({ exitCode: 3 });
    expect((await stage.stats()).started - started).toBe(1);
  });

  it("is not begun again when all that was known of it is gone", async () => {
    const row = { ...newRow(), wasBegun: true };
    const { started } = await stage.stats();
    await expect(attempt(row, () => "pass")).rejects.toMatchObject({ code: "RUN_OUTCOME_UNKNOWN" });
    expect((await stage.stats()).started - started).toBe(0);
  });
});
