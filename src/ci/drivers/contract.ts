import { describe, expect, it as vitestIt } from "vitest";
import type { ErrorCode } from "../../shared/errors.ts";
import type { LogLine } from "../../shared/log-line.ts";
import { Secret } from "../../shared/secret.ts";
import { until } from "../../shared/until.ts";
import type { PipelineContext, StepExecutor, StepOutcome, StepPlan, StepProgress } from "../executor.ts";

/** A case and the opening and closing of its subject, on a machine that has other things to do. */
const CASE_MS = 90_000;
const PATIENT = { withinMs: 60_000 };

/** What a driver's test lends to the contract. */
export type ContractSubject = {
  executor: StepExecutor;
  /** A run of its own, on a repository that has a commit. */
  context: PipelineContext;
  /** An image that can run the scripts. */
  image: string;
  /** What a caller gets when whatever runs the steps cannot be reached. */
  unreachable: ErrorCode;
  /** Cuts every caller off as a crash of Shipway does, and gives an executor as after its restart. */
  crash(): Promise<StepExecutor>;
  /** Containers, or whatever stands for them, that the run still has. */
  left(): Promise<number>;
  close(): Promise<void>;
};

export function stepPlan(rest: Partial<StepPlan> & Pick<StepPlan, "image" | "script">): StepPlan {
  return {
    id: "1",
    name: "Test",
    stage: 0,
    afterScript: [],
    services: [],
    caches: [],
    artifacts: [],
    variables: {},
    maxTimeMs: 60_000,
    memoryMiB: 512,
    clone: { enabled: true },
    ignoreFailure: false,
    line: 1,
    ...rest,
  };
}

type Run = (
  step: Partial<StepPlan> & Pick<StepPlan, "script">,
  options?: { signal?: AbortSignal },
) => Promise<{ outcome: StepOutcome; progress: StepProgress[]; lines: LogLine[]; said: string[] }>;

const runOn =
  (subject: ContractSubject): Run =>
  async (step, options = {}) => {
    const lines: LogLine[] = [];
    const progress: StepProgress[] = [];
    const plan = stepPlan({ image: subject.image, ...step });
    const outcome = await subject.executor.runStep(subject.context, plan, (batch) => lines.push(...batch), {
      alreadyLogged: 0,
      onProgress: (event) => progress.push(event),
      ...options,
    });
    return { outcome, progress, lines, said: said(lines) };
  };

/**
 * What every executor must do. The scripts use only what all drivers understand. `sideBySide`: for a driver whose cases mostly wait, and whose subjects do not
 * share anything that one case could take from another. `hasShell`: it runs scripts in a real shell.
 */
export function describeStepExecutor(
  name: string,
  open: () => Promise<ContractSubject>,
  { sideBySide = false, hasShell = true }: { sideBySide?: boolean; hasShell?: boolean } = {},
): void {
  describe(`${name} executor`, () => {
    const it = (title: string, body: (lent: { subject: ContractSubject; run: Run }) => Promise<void>) => {
      const test = sideBySide ? vitestIt.concurrent : vitestIt;
      test(
        title,
        async () => {
          const subject = await open();
          try {
            await body({ subject, run: runOn(subject) });
          } finally {
            await subject.close();
          }
        },
        CASE_MS,
      );
    };

    it("passes when every command does, printing and timing each", async ({ run }) => {
      const { outcome, said, progress } = await run({ script: ["echo one", "echo two"] });
      expect(outcome).toMatchObject({ id: "1", name: "Test", status: "passed", exitCode: 0 });
      expect(said).toEqual(["+ echo one", "one", "+ echo two", "two"]);
      expect(outcome.commands.map(({ command, exitCode }) => [command, exitCode])).toEqual([
        ["echo one", 0],
        ["echo two", 0],
      ]);
      expect(outcome.endedAt).toBeGreaterThanOrEqual(outcome.startedAt);
      expect(progress.map((event) => event.kind)).toEqual([
        "commandStarted",
        "commandEnded",
        "commandStarted",
        "commandEnded",
      ]);
    });

    it("stops at the first command that fails and names it with its exit code", async ({ run }) => {
      const { outcome, said } = await run({ script: ["echo before", "exit 3", "echo never"] });
      expect(outcome).toMatchObject({ status: "failed", exitCode: 3, failedCommand: "exit 3" });
      expect(outcome.reason).toBe("`exit 3` exited with 3");
      expect(outcome.commands.map(({ exitCode }) => exitCode)).toEqual([0, 3]);
      expect(outcome.lastLines).toEqual(said);
      expect(said).not.toContain("never");
    });

    it("runs the after-script whatever happened, with the exit code in BITBUCKET_EXIT_CODE", async ({ run }) => {
      const { outcome, said } = await run({
        script: ["exit 7"],
        afterScript: ["echo code $BITBUCKET_EXIT_CODE", "false", "echo never"],
      });
      expect(said).toContain("code 7");
      expect(said).not.toContain("never");
      expect(outcome).toMatchObject({ status: "failed", exitCode: 7, failedCommand: "exit 7" });
    });

    it("gives the step its variables and secrets, and keeps no value in the outcome's reason", async ({
      subject,
      run,
    }) => {
      subject.context.variables.GREETING = "hello";
      subject.context.secrets.TOKEN = new Secret("TOKEN", "s3cr3t-value");
      const { said } = await run({ script: ["echo $GREETING $WHO $TOKEN"], variables: { WHO: "you" } });
      // A driver whose lines go through a place that others may read masks them before they get there.
      expect(said.at(-1)).toMatch(/^hello you (s3cr3t-value|\*{4})$/);
    });

    if (hasShell) {
      it("hands over a secret of many lines as it is", async ({ subject, run }) => {
        subject.context.secrets.KEY = new Secret(
          "KEY",
          "-----BEGIN KEY-----\n$HOME 'it' \"\\n`id`\n-----END KEY-----\n",
        );
        const { said } = await run({
          script: ['printf "%s" "$KEY" | tail -c +2 | od -An -tx1 | tr -d " \\n"', "echo"],
        });
        const bytes = Buffer.from(subject.context.secrets.KEY.reveal().slice(1)).toString("hex");
        expect(said).toContain(bytes);
      });
    }

    it("fails a step that runs longer than its max-time, and says so", async ({ subject, run }) => {
      const { outcome } = await run({ script: ["echo begun", "sleep 50"], maxTimeMs: 1_500 });
      expect(outcome.status).toBe("failed");
      expect(outcome.reason).toMatch(/^ran longer than/);
      expect(await subject.left()).toBe(0);
    });

    it("ends as canceled within seconds when it is aborted, and leaves nothing running", async ({ subject }) => {
      const cancel = new AbortController();
      const lines: LogLine[] = [];
      const running = subject.executor.runStep(
        subject.context,
        stepPlan({ image: subject.image, script: ["echo begun", "sleep 50"] }),
        (batch) => lines.push(...batch),
        { alreadyLogged: 0, signal: cancel.signal },
      );
      await until("the step begins", () => said(lines).includes("begun"), PATIENT);
      const canceledAt = Date.now();
      cancel.abort();
      expect(await running).toMatchObject({ status: "canceled" });
      // By itself it would have gone on for so much longer; seconds are what a calm machine needs.
      expect(Date.now() - canceledAt).toBeLessThan(45_000);
      expect(await subject.left()).toBe(0);
    });

    it("runs nothing when it is aborted before it began", async ({ run }) => {
      const { outcome, said } = await run({ script: ["echo never"] }, { signal: AbortSignal.abort() });
      expect(outcome.status).toBe("canceled");
      expect(said).toEqual([]);
    });

    it("goes on with a step that outlived a crash: no line twice, none lost, nothing run again", async ({
      subject,
    }) => {
      const lines: LogLine[] = [];
      const step = stepPlan({ image: subject.image, script: ["echo one", "sleep 2", "echo two", "exit 4"] });
      const sink = (batch: LogLine[]) => lines.push(...batch);
      const cut = subject.executor.runStep(subject.context, step, sink, { alreadyLogged: 0 });
      cut.catch(() => undefined);
      await until("the first line", () => said(lines).includes("one"), PATIENT);
      const restarted = await subject.crash();
      await expect(cut).rejects.toMatchObject({ code: subject.unreachable });
      const outcome = await restarted.runStep(subject.context, step, sink, { alreadyLogged: lines.length });
      expect(outcome).toMatchObject({ status: "failed", exitCode: 4, failedCommand: "exit 4" });
      expect(outcome.commands).toHaveLength(4);
      expect(said(lines)).toEqual(["+ echo one", "one", "+ sleep 2", "+ echo two", "two", "+ exit 4"]);
      expect(await subject.left()).toBe(0);
    });

    it("takes the exit code of a step that ended while nobody watched", async ({ subject }) => {
      const lines: LogLine[] = [];
      const step = stepPlan({ image: subject.image, script: ["echo one", "sleep 1", "exit 5"] });
      const cut = subject.executor.runStep(subject.context, step, (batch) => lines.push(...batch), {
        alreadyLogged: 0,
      });
      cut.catch(() => undefined);
      await until("the first line", () => said(lines).includes("one"), PATIENT);
      const restarted = await subject.crash();
      await cut.catch(() => undefined);
      const waited = Date.now() + 1_700;
      await until("the step has ended by itself", () => Date.now() > waited);
      const outcome = await restarted.runStep(subject.context, step, () => undefined, { alreadyLogged: lines.length });
      expect(outcome).toMatchObject({ status: "failed", exitCode: 5 });
    });

    it("returns the same outcome when an ended step is asked for again", async ({ run }) => {
      const step = { script: ["echo one", "exit 2"] };
      const first = await run(step);
      const second = await run(step);
      expect(second.outcome).toEqual(first.outcome);
    });

    it("says that an image cannot be had, with its name", async ({ run }) => {
      const running = run({ script: ["echo never"], image: "shipway.invalid/no/such:unavailable" });
      await expect(running).rejects.toMatchObject({
        code: "IMAGE_UNAVAILABLE",
        message: expect.stringContaining("shipway.invalid/no/such:unavailable"),
      });
    });

    it("names a run that was cut off, until it is cleaned up", async ({ subject }) => {
      const lines: LogLine[] = [];
      const step = stepPlan({ image: subject.image, script: ["echo one", "sleep 30"] });
      const cut = subject.executor.runStep(subject.context, step, (batch) => lines.push(...batch), {
        alreadyLogged: 0,
      });
      cut.catch(() => undefined);
      await until("the first line", () => said(lines).includes("one"), PATIENT);
      const restarted = await subject.crash();
      await cut.catch(() => undefined);
      expect(await restarted.runs()).toContain(subject.context.runId);
      await restarted.cleanUp(subject.context.runId);
      expect(await restarted.runs()).not.toContain(subject.context.runId);
    });

    it("cleans up any number of times", async ({ subject, run }) => {
      await run({ script: ["echo one"] });
      await subject.executor.cleanUp(subject.context.runId);
      await subject.executor.cleanUp(subject.context.runId);
      expect(await subject.left()).toBe(0);
    });
  });
}

/** What the script printed, without Shipway's own remarks. */
export function said(lines: readonly LogLine[]): string[] {
  return lines.filter(({ stream }) => stream !== "meta").map(({ text }) => text);
}
