import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBucket } from "../../../aws/bucket.ts";
import type { Call } from "../../../rollout/drivers/ecs/fault-testing.ts";
import { type AwsStage, hasMoto, newAwsStage } from "../../../rollout/drivers/ecs/testing.ts";
import type { LogLine } from "../../../shared/log-line.ts";
import { Secret } from "../../../shared/secret.ts";
import { sleep } from "../../../shared/until.ts";
import type { StepExecutor, StepOutcome } from "../../executor.ts";
import { said, stepPlan } from "../contract.ts";
import { newLineNumbers } from "./numbered-lines.ts";
import type { Order } from "./order.ts";
import { type EcsSubject, openEcsSubject } from "./testing.ts";

/** Some thirty runs on an emulator that answers one call at a time. */
const MINUTES = 300_000;

/** Tasks are played: what the program in their last container would print and store, the test does. So a kill behind every call takes no containers. */
describe.skipIf(!hasMoto)("an executor that is killed after any write of its work", () => {
  let stage: AwsStage;
  let subject: EcsSubject;
  let program: { stop(): Promise<void> };
  beforeAll(async () => {
    stage = await newAwsStage();
    subject = await openEcsSubject(stage);
    subject.context.secrets.TOKEN = new Secret("TOKEN", "s3cr3t-value");
    program = playProgram(stage);
  });
  afterAll(async () => {
    await program?.stop();
    await subject?.close();
    await stage?.cleanUp();
  });

  const plan = (id: string) =>
    stepPlan({
      id,
      image: subject.image,
      script: ["echo one", "true"],
      artifacts: ["dist/**"],
      caches: [{ name: "node", path: "node_modules", keyFiles: [] }],
      services: [{ name: "db", image: "example/db", variables: { PASSWORD: "$TOKEN" }, memoryMiB: 128 }],
    });

  it("runs the step once, and shows each line once", { timeout: MINUTES }, async () => {
    const calls: Call[] = [];
    const calm = await runIn(subject, "calm", await subject.open({ fateOf: note(calls) }));
    expect(calm.outcome).toMatchObject({ status: "passed", exitCode: 0 });
    const writes = calls.flatMap(({ isRead }, index) => (isRead ? [] : [index + 1]));
    expect(writes.length).toBeGreaterThanOrEqual(10);
    for (const kill of [1, ...writes]) {
      const where = `killed after call ${kill}, ${calls[kill - 1]?.name}`;
      const before = (await stage.stats()).started;
      const cut = await subject.open({ fateOf: ({ n }) => (n < kill ? "pass" : n === kill ? "lost" : "refused") });
      const run = await runIn(subject, `k${kill}`, cut, subject.executor);
      expect(run.outcome, where).toMatchObject({ status: "passed", exitCode: 0, commands: calm.outcome.commands });
      expect(said(run.lines), where).toEqual(said(calm.lines));
      expect((await stage.stats()).started - before, where).toBe(1);
      await subject.executor.cleanUp(run.runId);
    }
    await subject.executor.cleanUp("calm");
    expect(await subject.executor.runs()).toEqual([]);
    const { SecretList } = await stage.aws.secrets.listSecrets({});
    expect(SecretList).toEqual([]);
    await subject.executor.forget("shop");
    await subject.executor.forget("shop");
    expect((await stage.aws.ecs.listTaskDefinitions({})).taskDefinitionArns).toEqual([]);
    expect((await stage.aws.logs.describeLogGroups({})).logGroups).toEqual([]);
  });

  it("ends the same when calls are throttled, fail or lose their answer, and it goes on by itself", async () => {
    const seen = new Set<string>();
    // The first of each kind of call goes wrong, in turn in each way.
    const fates = ["lost", "throttled", "broken"] as const;
    const shaken = await subject.open({
      attempts: 4,
      fateOf({ name }) {
        if (seen.has(name)) return "pass";
        seen.add(name);
        return fates[seen.size % fates.length] ?? "pass";
      },
    });
    const before = (await stage.stats()).started;
    const run = await runIn(subject, "shaken", shaken);
    expect(run.outcome).toMatchObject({ status: "passed", exitCode: 0 });
    expect((await stage.stats()).started - before).toBe(1);
    expect(seen.size).toBeGreaterThan(10);
    await subject.executor.cleanUp("shaken");
  });

  it("asks again for a place while Fargate has none, and starts nothing twice", async () => {
    let refusals = 0;
    const full = { tasks: [], failures: [{ reason: "Capacity is unavailable at this time. Please try again later" }] };
    const executor = await subject.open({
      fateOf: ({ name }) => (name === "ecs:RunTask" && refusals++ < 2 ? { says: full } : "pass"),
    });
    const before = (await stage.stats()).started;
    const run = await runIn(subject, "full", executor);
    expect(run.outcome).toMatchObject({ status: "passed", exitCode: 0 });
    const remarks = run.lines.filter(({ stream }) => stream === "meta").map(({ text }) => text);
    expect(remarks.filter((text) => /^Fargate has no place for the task .*trying again in/.test(text))).toHaveLength(2);
    expect((await stage.stats()).started - before).toBe(1);
    await subject.executor.cleanUp("full");
  });

  it("says so when there is no place for too long", async () => {
    const full = { tasks: [], failures: [{ reason: "You've reached the limit on the number of vCPUs" }] };
    const executor = await subject.open({
      times: { capacityMs: 300 },
      fateOf: ({ name }) => (name === "ecs:RunTask" ? { says: full } : "pass"),
    });
    await expect(runIn(subject, "never", executor)).rejects.toMatchObject({ code: "AWS_QUOTA" });
    await subject.executor.cleanUp("never");
  });

  it("takes the result of a task that ECS has forgotten from what it left", async () => {
    const executor = await subject.open();
    const first = await runIn(subject, "old", executor);
    const { region, workBucket } = subject.settings;
    const bucket = await openBucket({ region, endpoint: stage.endpoint, bucket: workBucket });
    await bucket.remove([`shipway/${subject.install}/ci/runs/old/steps/1/outcome.json`]);
    const forgetful = await subject.open({
      times: { unseenMs: 0 },
      fateOf: ({ name }) => (name === "ecs:DescribeTasks" ? { says: { tasks: [], failures: [] } } : "pass"),
    });
    const again = await runIn(subject, "old", forgetful);
    expect(again.outcome).toMatchObject({ status: "passed", exitCode: 0, commands: first.outcome.commands });
    await subject.executor.cleanUp("old");
  });

  /** Runs the step with the first executor, and, when that is cut off, on with the second. */
  async function runIn(of: EcsSubject, runId: string, ...lives: StepExecutor[]) {
    const lines: LogLine[] = [];
    let outcome: StepOutcome | undefined;
    for (const [life, executor] of lives.entries()) {
      const alreadyLogged = lines.length;
      const running = executor.runStep({ ...of.context, runId }, plan("1"), (batch) => lines.push(...batch), {
        alreadyLogged,
      });
      outcome = await running.catch((error: unknown) => {
        if (life === lives.length - 1) throw error;
        return undefined;
      });
      if (outcome !== undefined) break;
    }
    if (outcome === undefined) throw new Error("no life ended the step");
    return { outcome, lines, runId };
  }
});

const note = (calls: Call[]) => (call: Call) => {
  calls.push(call);
  return "pass" as const;
};

/** Prints and stores for every task what the program in its last container would. */
function playProgram({ aws, settings: { cluster } }: AwsStage): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const done = new Set<string>();
  const loop = async () => {
    while (!stopping.signal.aborted) {
      const arns = await Promise.all(
        (["RUNNING", "STOPPED"] as const).map((desiredStatus) => aws.ecs.listTasks({ cluster, desiredStatus })),
      );
      const fresh = arns.flatMap(({ taskArns }) => taskArns ?? []).filter((arn) => !done.has(arn));
      const { tasks } = fresh.length === 0 ? { tasks: [] } : await aws.ecs.describeTasks({ cluster, tasks: fresh });
      for (const task of tasks ?? []) {
        const [override] = task.overrides?.containerOverrides ?? [];
        const address = override?.environment?.find(({ name }) => name === "SHIPWAY_ORDER")?.value ?? "";
        done.add(task.taskArn ?? "");
        await printLines(aws, task.taskArn ?? "", (await (await fetch(address)).json()) as Order);
      }
      await sleep(20, stopping.signal).catch(() => undefined);
    }
  };
  const looping = loop();
  return {
    async stop() {
      stopping.abort();
      await looping;
    },
  };
}

async function printLines(aws: AwsStage["aws"], arn: string, order: Order): Promise<void> {
  const nonce = /'([0-9a-f]{24})'/.exec(order.scripts["main.sh"] ?? "")?.[1] ?? "";
  const mark = `\u001d${nonce}`;
  const numbers = newLineNumbers();
  const at = Date.now();
  const messages = [
    { stream: "err" as const, text: `${mark} command 0` },
    { stream: "out" as const, text: `${mark}+ echo one` },
    { stream: "out" as const, text: "one" },
    { stream: "err" as const, text: `${mark} command 1` },
    { stream: "out" as const, text: `${mark}+ true` },
    { stream: "err" as const, text: `${mark} scriptEnd 0` },
    { stream: "out" as const, text: `${mark} outEnd` },
  ].flatMap((line) => numbers.render({ ...line, at }));
  const result = { exitCode: 0, lines: numbers.count() };
  await fetch(order.addresses.result, { method: "PUT", body: JSON.stringify(result) });
  const { logGroups } = await aws.logs.describeLogGroups({ logGroupNamePrefix: "/shipway/" });
  const logGroupName = logGroups?.[0]?.logGroupName ?? "";
  const logStreamName = `ci/collect/${arn.split("/").at(-1)}`;
  await aws.logs.createLogStream({ logGroupName, logStreamName });
  const logEvents = [...messages, numbers.renderEnd(result, at)].map((message) => ({ timestamp: at, message }));
  await aws.logs.putLogEvents({ logGroupName, logStreamName, logEvents });
}
