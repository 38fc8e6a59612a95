import { newMask } from "../events/mask-secrets.ts";
import type { LogSink } from "../shared/log-line.ts";
import type { PipelineContext, PipelinePlan, StepExecutor, StepOutcome, StepPlan, StepProgress } from "./executor.ts";
import type { CiOutcome } from "./outcome.ts";
import { contextFor, type RunContext } from "./step-values.ts";

/** What happens in a pipeline run, in order per step. After a crash an event may come a second time, never with other content. */
export type CiEvent =
  | { kind: "pipelineStarted"; selector: string; steps: { id: string; name: string; stage: number }[]; notes: string[] }
  | { kind: "stepStarted"; stepId: string; name: string; at: number }
  | ({ stepId: string } & StepProgress)
  | { kind: "stepEnded"; stepId: string; outcome: StepOutcome };

/** Outcomes of ended steps, kept over a crash. */
export type StepJournal = {
  load(stepId: string): Promise<StepOutcome | undefined>;
  save(outcome: StepOutcome): Promise<void>;
};

export type RunPipelineDeps = {
  executor: StepExecutor;
  journal: StepJournal;
  /** Where a step's lines go, and how many it took before a crash. */
  logFor: (stepId: string) => StepLog | Promise<StepLog>;
  onEvent: (event: CiEvent) => void | Promise<void>;
  signal?: AbortSignal;
  now: () => number;
};

export type StepLog = { sink: LogSink; alreadyLogged: number; close?: () => Promise<void> };

/**
 * Runs the stages one after the other and the steps of each side by side; those that are held get no outcome. Calling it again after a crash goes on: an ended step is taken from the
 * journal, a step that still runs is attached again. Nothing that it returns, stores or tells contains the value of a secret.
 * The caller removes what is left with `executor.cleanUp(runId)` once the outcome is stored.
 * @throws what the executor throws, after the other steps of the stage have ended.
 */
export async function runPipeline(plan: PipelinePlan, context: RunContext, deps: RunPipelineDeps): Promise<CiOutcome> {
  const steps = plan.stages.flatMap((stage) => stage.steps);
  await deps.onEvent({
    kind: "pipelineStarted",
    selector: plan.selector,
    steps: steps.map(({ id, name, stage }) => ({ id, name, stage })),
    notes: plan.notes,
  });
  const outcomes: StepOutcome[] = [];
  for (const planned of plan.stages) {
    const stage = { ...planned, steps: planned.steps.filter(({ held }) => held === undefined) };
    const ended = stops(outcomes, steps) || deps.signal?.aborted === true;
    outcomes.push(...(ended ? await skipStage(stage.steps, outcomes, deps) : await runStage(stage, context, deps)));
  }
  const outcome = concludePipeline(steps, outcomes, deps.signal?.aborted === true);
  if (outcome.status !== "passed" || plan.gates === undefined) return outcome;
  const { durationMs } = outcome;
  return { status: "paused", steps: outcomes, durationMs, gates: plan.gates };
}

/** What the outcomes of all steps amount to. */
function concludePipeline(steps: readonly StepPlan[], outcomes: StepOutcome[], aborted: boolean): CiOutcome {
  const ran = outcomes.filter(({ status }) => status !== "skipped");
  const durationMs =
    ran.length === 0
      ? 0
      : Math.max(...ran.map((step) => step.endedAt)) - Math.min(...ran.map((step) => step.startedAt));
  const failed = outcomes.find((outcome) => outcome.status === "failed" && counts(outcome, steps));
  if (failed) {
    const reason = `step "${failed.name}" failed${failed.reason === undefined ? "" : `: ${failed.reason}`}`;
    return { status: "failed", steps: outcomes, durationMs, reason };
  }
  if (aborted || outcomes.some(({ status }) => status === "canceled")) {
    return { status: "canceled", steps: outcomes, durationMs };
  }
  return { status: "passed", steps: outcomes, durationMs };
}

function counts(outcome: StepOutcome, steps: readonly StepPlan[]): boolean {
  return steps.find(({ id }) => id === outcome.id)?.ignoreFailure !== true;
}

/** True when what follows is not run. */
function stops(outcomes: readonly StepOutcome[], steps: readonly StepPlan[]): boolean {
  return outcomes.some(
    (outcome) => outcome.status === "canceled" || (outcome.status === "failed" && counts(outcome, steps)),
  );
}

async function runStage(
  stage: PipelinePlan["stages"][number],
  context: RunContext,
  deps: RunPipelineDeps,
): Promise<StepOutcome[]> {
  const group = new AbortController();
  const signal = deps.signal ? AbortSignal.any([deps.signal, group.signal]) : group.signal;
  // Before any step is attached again: one of them may have failed before the crash, and then the others are to stop.
  const journaled = await Promise.all(stage.steps.map((step) => deps.journal.load(step.id)));
  const onEnded = (step: StepPlan, outcome: StepOutcome) => {
    if (stage.failFast && outcome.status === "failed" && !step.ignoreFailure)
      group.abort(new Error(`step "${step.name}" failed`));
  };
  stage.steps.forEach((step, index) => {
    const outcome = journaled[index];
    if (outcome) onEnded(step, outcome);
  });
  const results = await Promise.allSettled(
    stage.steps.map(async (step, index) => {
      const outcome = journaled[index] ?? (await runStep(step, contextFor(context, step), deps, signal));
      onEnded(step, outcome);
      return outcome;
    }),
  );
  return results.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

async function runStep(
  step: StepPlan,
  context: PipelineContext,
  deps: RunPipelineDeps,
  signal: AbortSignal,
): Promise<StepOutcome> {
  if (step.skip !== undefined) return endStep(skipped(step, step.skip, deps.now()), deps);
  const log = await deps.logFor(step.id);
  await deps.onEvent({ kind: "stepStarted", stepId: step.id, name: step.name, at: deps.now() });
  const events = newQueue(deps.onEvent);
  try {
    const outcome = await deps.executor.runStep(context, step, log.sink, {
      alreadyLogged: log.alreadyLogged,
      signal,
      onProgress: (progress) => events.push({ stepId: step.id, ...progress }),
    });
    await events.drained();
    return await endStep(withoutSecrets(outcome, context), deps);
  } finally {
    await log.close?.();
  }
}

async function skipStage(
  steps: readonly StepPlan[],
  before: readonly StepOutcome[],
  deps: RunPipelineDeps,
): Promise<StepOutcome[]> {
  const failed = before.find(({ status }) => status === "failed");
  const reason = failed ? `not run: step "${failed.name}" failed` : "not run: the pipeline was canceled";
  const outcomes: StepOutcome[] = [];
  for (const step of steps) {
    outcomes.push(
      (await deps.journal.load(step.id)) ?? (await endStep(skipped(step, step.skip ?? reason, deps.now()), deps)),
    );
  }
  return outcomes;
}

/** Stored before it is told: who hears of an ended step finds it in the journal. */
async function endStep(outcome: StepOutcome, deps: RunPipelineDeps): Promise<StepOutcome> {
  await deps.journal.save(outcome);
  await deps.onEvent({ kind: "stepEnded", stepId: outcome.id, outcome });
  return outcome;
}

function skipped(step: StepPlan, reason: string, at: number): StepOutcome {
  return {
    id: step.id,
    name: step.name,
    status: "skipped",
    reason,
    startedAt: at,
    endedAt: at,
    commands: [],
    lastLines: [],
  };
}

function withoutSecrets(outcome: StepOutcome, context: PipelineContext): StepOutcome {
  const mask = newMask(Object.values(context.secrets));
  return {
    ...outcome,
    ...(outcome.reason === undefined ? {} : { reason: mask(outcome.reason) }),
    lastLines: outcome.lastLines.map(mask),
  };
}

/** Hands events to a slow listener one at a time, in order. Its failure comes out of `drained`. */
function newQueue(onEvent: RunPipelineDeps["onEvent"]): { push(event: CiEvent): void; drained(): Promise<void> } {
  let tail: Promise<void> = Promise.resolve();
  return {
    push(event) {
      tail = tail.then(() => onEvent(event));
      // Reported by `drained`; until then it must not count as unhandled.
      tail.catch(() => undefined);
    },
    drained: () => tail,
  };
}
