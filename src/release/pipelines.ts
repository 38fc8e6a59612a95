import type { Selectable } from "kysely";
import type { Gate, StepOutcome } from "../ci/executor.ts";
import type { PipelineVersions } from "../environment/pipeline-values.ts";
import { fail } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import type { CiSettings } from "../spec/ci-settings.ts";
import type { Database } from "../store/open-store.ts";
import type { PipelinesTable } from "../store/schema.ts";
import type { DeliveredChange } from "./deliveries.ts";

export type PipelineRow = Selectable<PipelinesTable>;

/** The pipeline run of a change, if it was opened. */
export async function findPipelineOf(db: Database, changeId: string): Promise<PipelineRow | undefined> {
  return db.selectFrom("pipelines").selectAll().where("change_id", "=", changeId).executeTakeFirst();
}

/** Opens the pipeline run of a change, once: a repeated call returns the run that is there. */
export async function openPipeline(
  db: Database,
  change: DeliveredChange,
  steps: { id: string; name: string }[],
  settled: { runner?: CiSettings["steps"]; values?: PipelineVersions } = {},
): Promise<PipelineRow> {
  const { runner = { kind: "docker" }, values } = settled;
  return db.transaction().execute(async (tx) => {
    const app = await tx
      .selectFrom("apps")
      .select("next_pipeline")
      .where("name", "=", change.app)
      .forUpdate()
      .executeTakeFirstOrThrow();
    const found = await tx.selectFrom("pipelines").selectAll().where("change_id", "=", change.id).executeTakeFirst();
    if (found) return found;
    await tx
      .updateTable("apps")
      .set({ next_pipeline: app.next_pipeline + 1 })
      .where("name", "=", change.app)
      .execute();
    return tx
      .insertInto("pipelines")
      .values({
        id: newId("p"),
        app: change.app,
        number: app.next_pipeline,
        change_id: change.id,
        commit: change.commit,
        ref_name: change.refName,
        status: "running",
        reason: null,
        steps: JSON.stringify(steps),
        value_versions: values === undefined ? null : JSON.stringify(values),
        runner: runner.kind === "docker" ? null : JSON.stringify(runner),
        ended_at: null,
        tidied_at: null,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
  });
}

/** Where a pipeline's steps run. */
export const runnerOf = ({ runner }: Pick<PipelineRow, "runner">): CiSettings["steps"] => runner ?? { kind: "docker" };

/** Nothing of its steps is left anywhere. */
export async function setTidied(db: Database, id: string): Promise<void> {
  await db.updateTable("pipelines").set({ tidied_at: new Date() }).where("id", "=", id).execute();
}

/** Pipelines away from this machine that have ended, and of which something may be left. An engine is asked itself. */
export async function untidiedPipelines(db: Database): Promise<PipelineRow[]> {
  return db
    .selectFrom("pipelines")
    .selectAll()
    .where("runner", "is not", null)
    .where("tidied_at", "is", null)
    .where("status", "not in", ["running", "paused"])
    .execute();
}

/** Everywhere that an app's steps ever ran, beside this machine. */
export async function runnersOf(db: Database, app: string): Promise<CiSettings["steps"][]> {
  const rows = await db
    .selectFrom("pipelines")
    .select("runner")
    .distinct()
    .where("app", "=", app)
    .where("runner", "is not", null)
    .execute();
  return rows.map(runnerOf);
}

export async function closePipeline(
  db: Database,
  id: string,
  status: PipelineRow["status"],
  reason: string | undefined,
): Promise<void> {
  await db
    .updateTable("pipelines")
    .set({ status, reason: reason ?? null, ended_at: new Date(), gates: null, paused_at: null, continuation: null })
    .where("id", "=", id)
    .execute();
}

/** Of these runs those that have ended, or that nobody knows. What a paused one keeps is needed when it goes on. */
export async function withoutRunning(db: Database, ids: string[]): Promise<string[]> {
  if (ids.length === 0) return [];
  const rows = await db
    .selectFrom("pipelines")
    .select("id")
    .where("id", "in", ids)
    .where("status", "in", ["running", "paused"])
    .execute();
  const running = new Set(rows.map(({ id }) => id));
  return ids.filter((id) => !running.has(id));
}

/** Keeps a step's outcome, so that a restart does not run it again. */
export async function saveStep(db: Database, pipelineId: string, outcome: StepOutcome): Promise<void> {
  await db
    .insertInto("steps")
    .values({ pipeline_id: pipelineId, step_id: outcome.id, outcome: JSON.stringify(outcome) })
    .onConflict((conflict) => conflict.columns(["pipeline_id", "step_id"]).doNothing())
    .execute();
}

export async function findSteps(db: Database, pipelineId: string): Promise<StepOutcome[]> {
  const rows = await db
    .selectFrom("steps")
    .select("outcome")
    .where("pipeline_id", "=", pipelineId)
    .orderBy("step_id")
    .execute();
  return rows.map((row) => row.outcome);
}

/** By id, or by `APP#NUMBER`. @throws PIPELINE_NOT_FOUND */
export async function getPipeline(db: Database, id: string): Promise<PipelineRow> {
  const byNumber = /^([a-z][a-z0-9-]*)#(\d{1,9})$/.exec(id);
  const query = db.selectFrom("pipelines").selectAll();
  const row = await (byNumber
    ? query.where("app", "=", byNumber[1] ?? "").where("number", "=", Number(byNumber[2]))
    : query.where("id", "=", id)
  ).executeTakeFirst();
  if (row) return row;
  throw fail("PIPELINE_NOT_FOUND", {
    message: `There is no pipeline run ${id}.`,
    hint: "List them with `shipway pipelines`.",
  });
}

export async function listPipelines(db: Database, app: string, limit: number): Promise<PipelineRow[]> {
  return db.selectFrom("pipelines").selectAll().where("app", "=", app).orderBy("number", "desc").limit(limit).execute();
}

/** All that starts by itself has passed. Nothing happens to a run that went on, or ended, since `pipeline` was read. */
export async function pausePipeline(db: Database, pipeline: PipelineRow, gates: Gate[]): Promise<boolean> {
  const paused = await db
    .updateTable("pipelines")
    .set({ status: "paused", gates: JSON.stringify(gates), paused_at: new Date(), continuation: null })
    .where("id", "=", pipeline.id)
    .where("status", "=", "running")
    .where("continuation", "is not distinct from", pipeline.continuation)
    .executeTakeFirst();
  return paused.numUpdatedRows > 0n;
}

/** The run goes on, by the workflow `key`; false when it does not pause any more as `pipeline` did. */
export async function recordContinued(
  db: Database,
  pipeline: PipelineRow,
  gate: Gate,
  { key, values }: { key: string; values: PipelineVersions },
): Promise<boolean> {
  const started = JSON.stringify([...pipeline.started_gates, gate.id]);
  const updated = await db
    .updateTable("pipelines")
    .set({
      status: "running",
      started_gates: started,
      value_versions: JSON.stringify(values),
      paused_at: null,
      continuation: key,
    })
    .where("id", "=", pipeline.id)
    .where("status", "=", "paused")
    .where("paused_at", "=", pipeline.paused_at)
    .executeTakeFirst();
  return updated.numUpdatedRows > 0n;
}

/** As before `recordContinued`: its step could not be run. */
export async function takeBackContinued(db: Database, pipeline: PipelineRow): Promise<boolean> {
  const started = JSON.stringify(pipeline.started_gates.slice(0, -1));
  const updated = await db
    .updateTable("pipelines")
    .set({ status: "paused", started_gates: started, paused_at: new Date(), continuation: null })
    .where("id", "=", pipeline.id)
    .where("continuation", "=", pipeline.continuation)
    .executeTakeFirst();
  return updated.numUpdatedRows > 0n;
}

/** The run that a workflow goes on with; undefined once it has ended or pauses again. */
export async function findContinued(db: Database, key: string): Promise<PipelineRow | undefined> {
  return db.selectFrom("pipelines").selectAll().where("continuation", "=", key).executeTakeFirst();
}

/** Workflows of continued runs that the engine must know of. */
export async function openContinuations(db: Database): Promise<string[]> {
  const rows = await db.selectFrom("pipelines").select("continuation").where("continuation", "is not", null).execute();
  return rows.flatMap(({ continuation }) => continuation ?? []);
}

export async function pausedBefore(db: Database, at: Date): Promise<PipelineRow[]> {
  return db.selectFrom("pipelines").selectAll().where("paused_at", "<", at).execute();
}
