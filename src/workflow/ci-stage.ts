import { readChangedPaths } from "../ci/changed-paths.ts";
import type { Gate, PipelinePlan, StepExecutor } from "../ci/executor.ts";
import type { CiOutcome } from "../ci/outcome.ts";
import { parsePipelines } from "../ci/parse-pipelines.ts";
import { type Planned, planPipeline } from "../ci/plan.ts";
import { type RunPipelineDeps, runPipeline } from "../ci/run-pipeline.ts";
import { withoutHidden } from "../ci/step-values.ts";
import { openValues, type PipelineValues, type PipelineVersions } from "../environment/pipeline-values.ts";
import type { Sealer } from "../environment/sealing.ts";
import type { Secrets } from "../environment/secrets.ts";
import { appendEvent, type StageEvent } from "../events/event-stream.ts";
import type { LogStore } from "../events/log-store.ts";
import { maskQuotes, newMask } from "../events/mask-secrets.ts";
import type { Staged } from "../flow.ts";
import type { DeliveredChange } from "../release/deliveries.ts";
import { stepLogId } from "../release/log-ids.ts";
import {
  closePipeline,
  findPipelineOf,
  findSteps,
  openPipeline,
  type PipelineRow,
  pausePipeline,
  runnerOf,
  saveStep,
  setTidied,
} from "../release/pipelines.ts";
import { errorCode, ShipwayError, toProblem } from "../shared/errors.ts";
import type { Secret } from "../shared/secret.ts";
import type { Repositories } from "../source/repositories.ts";
import type { AppSpec, CiSpec } from "../spec/app-spec.ts";
import type { CiSettings } from "../spec/ci-settings.ts";
import type { Store, Tx } from "../store/open-store.ts";
import { findCiSettings } from "./ci-settings.ts";
import type { Logger } from "./durable.ts";
import { NO_VALUES, notesOnValues, settleValues } from "./pipeline-values.ts";

export type CiDeps = {
  store: Store;
  repositories: Repositories;
  secrets: Secrets;
  sealer: Sealer;
  logs: LogStore;
  /** By where an app's steps run. */
  executorOf(steps: CiSettings["steps"]): StepExecutor;
  log: Logger;
};

const PIPELINES_FILE = "bitbucket-pipelines.yml";

/** @throws PIPELINES_INVALID */
export async function planCi(
  { repositories }: Pick<CiDeps, "repositories">,
  change: DeliveredChange,
  spec: { ci?: Pick<CiSpec, "steps"> | undefined },
  started?: ReadonlySet<string>,
): Promise<Planned> {
  if (change.skipCi) return { status: "none", reason: "CI was skipped on request" };
  const text = await repositories.readFile(change.app, change.commit, PIPELINES_FILE);
  if (text === undefined) return { status: "none", reason: `there is no ${PIPELINES_FILE}` };
  const changedPaths = await readChangedPaths(repositories.git, repositories.dirOf(change.app), change.commit);
  const ref = { refKind: change.refKind, refName: change.refName, ...(changedPaths && { changedPaths }) };
  return planPipeline(parsePipelines(text, PIPELINES_FILE), ref, spec.ci?.steps, started);
}

/**
 * Runs the pipeline of a change, or goes on with it. Where its steps run and what they get is settled when it begins: settings, variables and secrets that
 * change meanwhile are for the next.
 */
export async function runCi(deps: CiDeps, change: DeliveredChange, spec: AppSpec): Promise<Staged<CiOutcome>> {
  const { store } = deps;
  const planned = await planCi(deps, change, spec);
  if (planned.status === "none") {
    const frame = frameOf(change, `change:${change.id}`);
    await appendEvent(store.db, frame, { kind: "delivery.note", data: { text: `No tests: ${planned.reason}.` } });
    return { ok: true, value: planned };
  }
  const pipeline = (await findPipelineOf(store.db, change.id)) ?? (await begin(deps, change, spec, planned));
  // Repeated after a crash: somebody may have continued it since, and that is not this delivery's any more.
  if (pipeline.status === "paused" || pipeline.started_gates.length > 0) return { ok: true, value: PAUSED };
  const { mask, run } = await openRun(deps, change, pipeline);
  const outcome = await run(planned).catch(async (error: unknown) => {
    const reason = toProblem(error).message;
    await end(deps, change, pipeline, mask, { status: "failed", durationMs: 0, reason }).catch(() => undefined);
    throw masked(error, mask);
  });
  if (outcome.status !== "failed" && outcome.status !== "canceled") return { ok: true, value: outcome };
  const why = outcome.status === "failed" ? outcome.reason : "it was canceled";
  return {
    ok: false,
    problem: {
      code: "PIPELINE_FAILED",
      message: `Pipeline #${pipeline.number} did not pass: ${mask(why)}`,
      hint: `Read the whole log with \`shipway logs --app ${change.app} --pipeline ${pipeline.number}\`.`,
    },
  };
}

const PAUSED: CiOutcome = { status: "paused", steps: [], durationMs: 0, gates: [] };

type PlannedRun = Extract<Planned, { status: "plan" }>;

/** `run` goes on with a run from where it is to its end, or to a manual step, and puts on the record what it amounts to. */
export async function openRun(
  deps: CiDeps,
  change: DeliveredChange,
  pipeline: PipelineRow,
): Promise<{ mask: Mask; run(planned: PlannedRun): Promise<CiOutcome> }> {
  const { store, repositories } = deps;
  const versions = pipeline.value_versions ?? NO_VALUES;
  const values = await openValues({ db: store.db, secrets: deps.secrets }, change.app, versions);
  const mask = newMask([...(await deps.secrets.allOfApp(change.app)), ...secretsOf(values)]);
  const context = {
    runId: pipeline.id,
    app: change.app,
    repositoryDir: repositories.dirOf(change.app),
    commit: change.commit,
    refKind: change.refKind,
    refName: change.refName,
    buildNumber: pipeline.number,
    ...withoutHidden(values.every),
    deployments: values.deployments,
  };
  return {
    mask,
    async run({ plan, asked }) {
      const shown = withNotes(plan, notesOnValues(asked, versions));
      const outcome = await runPipeline(shown, context, await pipelineDeps(deps, change, pipeline, mask));
      if (outcome.status === "paused") await pause(deps, change, pipeline, outcome);
      else await end(deps, change, pipeline, mask, outcome);
      return outcome;
    },
  };
}

type Mask = (text: string) => string;

async function begin(
  deps: CiDeps,
  change: DeliveredChange,
  spec: AppSpec,
  { plan, asked }: PlannedRun,
): Promise<PipelineRow> {
  const { store, sealer } = deps;
  const values = await settleFor(deps, change, asked);
  const runner = (await findCiSettings(store.db, sealer, spec)).steps;
  const steps = plan.stages.flatMap((stage) => stage.steps).map(({ id, name }) => ({ id, name }));
  return openPipeline(store.db, change, steps, { runner, values });
}

/** The values as they are now. @throws PIPELINE_VALUES_MISSING */
export async function settleFor(
  deps: Pick<CiDeps, "store" | "repositories" | "secrets">,
  change: DeliveredChange,
  asked: PlannedRun["asked"],
): Promise<PipelineVersions> {
  const readFile = () => deps.repositories.readFile(change.app, change.commit, PIPELINES_FILE);
  return settleValues(deps, change, asked, { file: PIPELINES_FILE, readFile });
}

/** In the order of the file's lines, with which each note begins. */
function withNotes(plan: PipelinePlan, more: string[]): PipelinePlan {
  const lineOf = (note: string) => Number(/^line (\d+):/.exec(note)?.[1] ?? 0);
  return { ...plan, notes: [...plan.notes, ...more].sort((a, b) => lineOf(a) - lineOf(b)) };
}

const secretsOf = ({ every, deployments }: PipelineValues): Secret[] =>
  [every, ...Object.values(deployments)].flatMap(({ secrets }) => Object.values(secrets));

/** A registry may quote in its refusal who logged in. */
export function masked(error: unknown, mask: Mask): unknown {
  const code = errorCode(error);
  if (code === undefined) return error;
  const { message, hint } = toProblem(error);
  return new ShipwayError(code, {
    message: mask(message),
    ...(hint !== undefined && { hint: mask(hint) }),
    cause: error,
  });
}

export const frameOf = (change: DeliveredChange, subject: string) => ({
  app: change.app,
  subject,
  deliveryId: change.id,
  actor: change.actor,
});

async function pipelineDeps(
  { store, logs, executorOf }: CiDeps,
  change: DeliveredChange,
  { id, number, runner }: PipelineRow,
  mask: Mask,
): Promise<RunPipelineDeps> {
  const known = await findSteps(store.db, id);
  return {
    executor: executorOf(runnerOf({ runner })),
    journal: {
      load: async (stepId) => known.find((step) => step.id === stepId),
      save: (step) => saveStep(store.db, id, maskQuotes(step, mask)),
    },
    logFor: async (stepId) => {
      const writer = await logs.open(stepLogId(id, stepId), mask);
      return { sink: writer.sink, alreadyLogged: writer.linesBefore, close: writer.close };
    },
    onEvent: (event) =>
      appendEvent(store.db, frameOf(change, `pipeline:${id}`), {
        kind: `ci.${event.kind}`,
        data: { ...maskQuotes(event, mask), pipelineId: id, number },
      } satisfies StageEvent),
    now: Date.now,
  };
}

async function end(
  { store, executorOf, log }: CiDeps,
  change: DeliveredChange,
  { id, number, runner }: PipelineRow,
  mask: Mask,
  outcome: Pick<CiOutcome, "status"> & { durationMs?: number; reason?: string },
): Promise<void> {
  const { status, durationMs = 0, reason } = outcome;
  const why = reason === undefined ? {} : { reason: mask(reason) };
  await closePipeline(store.db, id, status, why.reason);
  await appendEvent(store.db, frameOf(change, `pipeline:${id}`), {
    kind: "ci.pipelineEnded",
    data: { pipelineId: id, number, status, durationMs, ...why },
  });
  // What cannot be removed now (Docker, or AWS, is away) is found and removed by the reconcile loop.
  await executorOf(runnerOf({ runner }))
    .cleanUp(id)
    .then(() => setTidied(store.db, id))
    .catch((error: unknown) => log.warn({ err: error, pipeline: id }, "a pipeline could not clean up"));
}

/** Artifacts are kept until it goes on; its containers are gone. */
async function pause(
  { store }: CiDeps,
  change: DeliveredChange,
  pipeline: PipelineRow,
  { gates, durationMs }: { gates: Gate[]; durationMs: number },
): Promise<void> {
  await store.db.transaction().execute(async (tx) => {
    if (await pausePipeline(tx, pipeline, gates)) await tellPaused(tx, change, pipeline, { gates, durationMs });
  });
}

export async function tellPaused(
  tx: Tx,
  change: DeliveredChange,
  { id, number }: PipelineRow,
  told: { gates: Gate[]; durationMs?: number; reason?: string },
): Promise<void> {
  const data = { pipelineId: id, number, ...told };
  await appendEvent(tx, frameOf(change, `pipeline:${id}`), { kind: "ci.pipelinePaused", data });
}
