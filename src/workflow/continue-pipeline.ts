import { judgeApprover, suchAs } from "../access/approvers.ts";
import { type Identity, mayActAs } from "../access/roles.ts";
import type { Gate } from "../ci/executor.ts";
import { appendEvent } from "../events/event-stream.ts";
import { getChange } from "../release/deliveries.ts";
import { authorsOf, findRule } from "../release/gate.ts";
import {
  closePipeline,
  findContinued,
  getPipeline,
  type PipelineRow,
  pausedBefore,
  recordContinued,
  runnerOf,
  takeBackContinued,
} from "../release/pipelines.ts";
import { findReleaseOf } from "../release/releases.ts";
import { errorCode, fail, toProblem } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import { isOutage } from "../store/outage.ts";
import { type CiDeps, frameOf, masked, openRun, planCi, settleFor, tellPaused } from "./ci-stage.ts";
import type { DurableStep } from "./durable.ts";

/** As long as Bitbucket keeps artifacts: without those of earlier steps a manual one would not run as its author meant. */
const KEPT_DAYS = 14;

/**
 * Lets a paused run go on at one of its manual steps. Returns the workflow that does so.
 * @throws PIPELINE_NOT_FOUND, PIPELINE_NOT_PAUSED, REQUEST_INVALID when several can be started, PIPELINES_INVALID for what cannot be started,
 *   FORBIDDEN and APPROVAL_REFUSED where it deploys to an environment whose releases need an approval
 */
export async function requestContinuation(
  { store, repositories, secrets }: Pick<CiDeps, "store" | "repositories" | "secrets">,
  id: string,
  wanted: string | undefined,
  identity: Identity,
): Promise<string> {
  const { db } = store;
  const pipeline = await getPipeline(db, id);
  const gate = chooseGate(pipeline, wanted);
  await requireMayStart({ db }, pipeline, gate, identity);
  const change = await getChange(db, pipeline.change_id);
  const { asked } = await planContinued({ repositories }, change, pipeline, [gate.id]);
  // Its steps get what is set now, not what was when the run began.
  const values = await settleFor({ store, repositories, secrets }, change, asked);
  const key = newId("w");
  return db.transaction().execute(async (tx) => {
    // Somebody else may have started it since.
    if (!(await recordContinued(tx, pipeline, gate, { key, values })))
      chooseGate(await getPipeline(tx, pipeline.id), wanted);
    await appendEvent(
      tx,
      { ...frameOf(change, `pipeline:${pipeline.id}`), actor: identity.name },
      { kind: "ci.pipelineContinued", data: { pipelineId: pipeline.id, number: pipeline.number, gate } },
    );
    return key;
  });
}

function chooseGate(pipeline: PipelineRow, wanted: string | undefined): Gate {
  const { app, number, status, gates } = pipeline;
  if (status !== "paused" || gates === null) {
    throw fail("PIPELINE_NOT_PAUSED", {
      message: `Pipeline #${number} of ${app} does not wait to be continued: it is ${status}.`,
      hint: `See its steps: \`shipway pipelines ${number} --app ${app}\`.`,
    });
  }
  const found = gates.filter(({ id, name }) => wanted === undefined || wanted === id || wanted === name);
  const [gate] = found;
  if (gate !== undefined && found.length === 1) return gate;
  const all = gates.map(({ id, name }) => `"${name}" (${id})`).join(", ");
  throw fail("REQUEST_INVALID", {
    message: `${wanted === undefined || found.length > 0 ? "Which manual step?" : `No manual step "${wanted}" can be started now.`} Pipeline #${number} of ${app} waits at ${all}.`,
    hint: `Name one: \`shipway pipelines continue ${number} --app ${app} --step ${gates[0]?.id}\`.`,
  });
}

/** A step that deploys to an environment where releases need an approval is one: the same people may start it. */
async function requireMayStart(
  { db }: { db: CiDeps["store"]["db"] },
  { app, commit, change_id: changeId }: PipelineRow,
  { name, deployment: environment }: Gate,
  identity: Identity,
): Promise<void> {
  if (environment === undefined) return;
  const rule = await findRule(db, { app, environment }, await findReleaseOf(db, app, changeId));
  if (rule === undefined) return;
  if (!mayActAs(identity, "tester", app)) {
    throw fail("FORBIDDEN", {
      message: `"${name}" deploys to ${environment}, which wants an approval: starting it needs the role tester, and ${identity.name} is ${identity.role}.`,
      hint: "Ask a tester to start it.",
    });
  }
  const authors = await authorsOf(db, { app, commit });
  const { mayApprove, others } = await judgeApprover(db, { app, authors, approvers: rule.approvers }, identity.name);
  if (mayApprove) return;
  throw fail("APPROVAL_REFUSED", {
    message: `${identity.name} pushed the commit; "${name}" deploys to ${environment}, which wants somebody else to start it${suchAs(others)}.`,
    hint: "Ask a colleague.",
  });
}

async function planContinued(
  deps: Pick<CiDeps, "repositories">,
  change: Awaited<ReturnType<typeof getChange>>,
  pipeline: PipelineRow,
  more: string[] = [],
) {
  const started = new Set([...pipeline.started_gates, ...more]);
  const planned = await planCi(deps, change, { ci: { steps: runnerOf(pipeline).kind } }, started);
  if (planned.status === "plan") return planned;
  throw new Error(`pipeline ${pipeline.id} has no plan any more: ${planned.reason}`);
}

/** The rest of a paused run, up to its end or its next manual step. */
export async function continuePipeline(deps: CiDeps, key: string, step: DurableStep): Promise<void> {
  await step("ci-continue", async () => {
    const pipeline = await findContinued(deps.store.db, key);
    // Repeated after a crash: it has ended, or pauses again.
    if (pipeline === undefined) return null;
    await goOn(deps, pipeline).catch(async (error: unknown) => {
      if (isOutage(error)) throw error;
      if (errorCode(error) === undefined) deps.log.error({ err: error, pipeline: pipeline.id }, "a pipeline broke");
      await pauseAgain(deps, pipeline, toProblem(error).message);
    });
    return null;
  });
}

async function goOn(deps: CiDeps, pipeline: PipelineRow): Promise<void> {
  const change = await getChange(deps.store.db, pipeline.change_id);
  const { mask, run } = await openRun(deps, change, pipeline);
  await run(await planContinued(deps, change, pipeline)).catch((error: unknown) => {
    throw masked(error, mask);
  });
}

/** What kept the step from being run is not the step's failure: it can be started once more, and steps that had ended by then are not repeated. */
async function pauseAgain({ store: { db } }: CiDeps, pipeline: PipelineRow, reason: string): Promise<void> {
  const change = await getChange(db, pipeline.change_id);
  await db.transaction().execute(async (tx) => {
    if (await takeBackContinued(tx, pipeline))
      await tellPaused(tx, change, pipeline, { gates: pipeline.gates ?? [], reason });
  });
}

/** Ends runs that nobody continued for as long as their artifacts are kept. */
export async function endPaused(
  { store: { db }, executorOf }: Pick<CiDeps, "store" | "executorOf">,
  now: Date,
): Promise<void> {
  for (const pipeline of await pausedBefore(db, new Date(now.getTime() - KEPT_DAYS * 86_400_000))) {
    await executorOf(runnerOf(pipeline)).cleanUp(pipeline.id);
    const names = (pipeline.gates ?? []).map(({ name }) => `"${name}"`).join(", ");
    const reason = `${names} was not started within ${KEPT_DAYS} days`;
    await closePipeline(db, pipeline.id, "passed", reason);
    const data = { pipelineId: pipeline.id, number: pipeline.number, status: "passed", durationMs: 0, reason };
    const frame = frameOf(await getChange(db, pipeline.change_id), `pipeline:${pipeline.id}`);
    await appendEvent(db, { ...frame, actor: "shipway" }, { kind: "ci.pipelineEnded", data });
  }
}
