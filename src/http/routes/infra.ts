import { z } from "zod";
import { approveRun, approverOf } from "../../infra/approve-run.ts";
import { askDestroy } from "../../infra/ask-destroy.ts";
import { askAgain, askRun } from "../../infra/ask-run.ts";
import { describeAttributes, diffStates } from "../../infra/diff-states.ts";
import { ignoreDrift, listIgnored, unignoreDrift } from "../../infra/ignored-drift.ts";
import { findOutputs, outputText } from "../../infra/outputs.ts";
import { adviseRecovery, findRecovery, recover } from "../../infra/recovery.ts";
import { infraLogId } from "../../infra/run-terraform.ts";
import { findInfra, findLastApply, getRun, type InfraRun, listRuns } from "../../infra/runs.ts";
import { parseState, resourcesIn, type StateVersion } from "../../infra/states.ts";
import { forceStop, rejectRun, requestStop } from "../../infra/stop-requests.ts";
import { forceUnlock } from "../../infra/unlock.ts";
import { wakeTeardowns } from "../../release/teardowns.ts";
import { parseDurationMs } from "../../shared/duration.ts";
import { getApp } from "../../source/apps.ts";
import { Name } from "../../source/name.ts";
import {
  AcceptDriftRequest,
  DestroyInfraRequest,
  IgnoreDriftRequest,
  IgnoredDriftBody,
  InfraBody,
  InfraRunBody,
  type InfraRunView,
  InfraStartedBody,
  type InfraView,
  RecoverRequest,
  RecoveryBody,
  StartInfraRequest,
  StateBody,
  StateDiffBody,
  StateVersionBody,
  type StateVersionView,
  UnignoreDriftRequest,
  UnlockRequest,
} from "../infra-schemas.ts";
import type { Platform } from "../platform.ts";
import { identityOf, requireApp, type TypedServer } from "../server.ts";
import { viewTasks } from "../view-tasks.ts";

const params = z.object({ app: z.string(), environment: Name });
const idParams = z.object({ id: z.string() });
const limit = z.coerce.number().int().min(1).max(200).default(20);
const versionParams = params.extend({
  version: z.union([z.literal("latest"), z.coerce.number().int().min(1)]).describe("A number, or latest"),
});

export function infraRoutes(server: TypedServer, platform: Platform): void {
  runRoutes(server, platform);
  stateVersionRoutes(server, platform);
  careRoutes(server, platform);
  driftRoutes(server, platform);
}

/** Asking for runs, watching and approving them. */
function runRoutes(server: TypedServer, platform: Platform): void {
  const { store, engine, secrets, repositories, infra } = platform;
  const { db } = store;

  server.post(
    "/api/apps/:app/environments/:environment/infra/runs",
    {
      config: { role: "developer" },
      schema: {
        summary: "Plan or apply an environment's Terraform, or look for drift",
        params,
        body: StartInfraRequest,
        response: { 202: InfraStartedBody },
      },
    },
    async (request, reply) => {
      const { app, environment } = request.params;
      const { kind, ref, again } = request.body;
      const actor = identityOf(request).name;
      await getApp(db, app);
      const place = { app, environment };
      const { id, start } =
        kind === "drift" || (kind === "apply" && again === true)
          ? await askAgain({ db }, place, { kind, actor })
          : await askRun({ db, repositories, secrets, code: infra.code }, place, { kind, ref, actor });
      if (start) await engine.startInfra(start);
      return reply.status(202).send({ runId: id, deliveryId: id });
    },
  );

  server.post(
    "/api/apps/:app/environments/:environment/infra/destroy",
    {
      config: { role: "operator" },
      schema: {
        summary: "Destroy all that an environment's Terraform has made, once an operator approved the plan",
        params,
        body: DestroyInfraRequest,
        response: { 202: InfraStartedBody },
      },
    },
    async (request, reply) => {
      await getApp(db, request.params.app);
      const wish = { ...request.body, actor: identityOf(request).name };
      const { id, start } = await askDestroy({ db, repositories, secrets, code: infra.code }, request.params, wish);
      if (start) await engine.startInfra(start);
      return reply.status(202).send({ runId: id, deliveryId: id });
    },
  );

  server.get(
    "/api/apps/:app/infra/runs",
    {
      config: { role: "viewer" },
      schema: {
        summary: "Infra runs, newest first",
        params: z.object({ app: z.string() }),
        querystring: z.strictObject({ environment: z.string().optional(), limit }),
        response: { 200: z.array(InfraRunBody) },
      },
    },
    async (request) => {
      await getApp(db, request.params.app);
      return (await listRuns(db, request.params.app, request.query)).map(viewRun);
    },
  );

  server.get(
    "/api/infra/runs/:id",
    {
      config: { role: "viewer" },
      schema: { summary: "One infra run with its plan", params: idParams, response: { 200: InfraRunBody } },
    },
    async (request) => {
      const run = await getRun(db, request.params.id);
      requireApp(request, "viewer", run.app);
      return viewRun(run);
    },
  );

  server.post(
    "/api/infra/runs/:id/approve",
    {
      config: { role: "tester" },
      schema: { summary: "Let a run that waits go on", params: idParams, response: { 202: InfraStartedBody } },
    },
    async (request, reply) => {
      const run = await getRun(db, request.params.id);
      requireApp(request, approverOf(run), run.app);
      const start = await approveRun(db, run.id, identityOf(request).name);
      if (start) await engine.startInfra(start);
      return reply.status(202).send({ runId: run.id, deliveryId: run.delivery_id });
    },
  );

  server.post(
    "/api/infra/runs/:id/reject",
    {
      config: { role: "developer" },
      schema: { summary: "Turn down a run that waits", params: idParams, response: { 204: z.null() } },
    },
    async (request, reply) => {
      const run = await getRun(db, request.params.id);
      requireApp(request, "developer", run.app);
      await rejectRun(db, run.id, identityOf(request).name);
      for (const one of await wakeTeardowns(db)) await engine.startTeardown(one);
      return reply.status(204).send(null);
    },
  );

  server.post(
    "/api/infra/runs/:id/cancel",
    {
      config: { role: "developer" },
      schema: {
        summary: "Stop a run: Terraform finishes what it is at, and the rest is not begun",
        params: idParams,
        response: { 202: InfraRunBody },
      },
    },
    async (request, reply) => {
      const run = await getRun(db, request.params.id);
      requireApp(request, "developer", run.app);
      await requestStop(db, run.id, identityOf(request).name);
      // One that waited has ended by that.
      for (const one of await wakeTeardowns(db)) await engine.startTeardown(one);
      return reply.status(202).send(viewRun(await getRun(db, run.id)));
    },
  );

  server.post(
    "/api/infra/runs/:id/cancel/force",
    {
      config: { role: "operator" },
      schema: {
        summary: "Stop a run at once that was asked to stop before; what it is at may be lost from the state",
        params: idParams,
        response: { 202: InfraRunBody },
      },
    },
    async (request, reply) => {
      const run = await getRun(db, request.params.id);
      requireApp(request, "operator", run.app);
      await forceStop(db, run.id, identityOf(request).name);
      return reply.status(202).send(viewRun(await getRun(db, run.id)));
    },
  );
}

/** The versions of the state. */
function stateVersionRoutes(server: TypedServer, platform: Platform): void {
  const { states } = platform.infra;
  const find = async ({ app, environment, version }: z.infer<typeof versionParams>) => {
    const place = { app, environment };
    return states.get(place, version === "latest" ? await states.latestVersion(place) : version);
  };

  server.get(
    "/api/apps/:app/environments/:environment/infra/states",
    {
      config: { role: "viewer" },
      schema: {
        summary: "Versions of the state, newest first",
        params,
        querystring: z.strictObject({ limit }),
        response: { 200: z.array(StateVersionBody) },
      },
    },
    async (request) => (await states.list(request.params, request.query.limit)).map(viewVersion),
  );

  server.get(
    "/api/apps/:app/environments/:environment/infra/states/:version",
    {
      config: { role: "viewer" },
      schema: {
        summary: "The objects of one version; sensitive attributes by name only",
        params: versionParams,
        response: { 200: StateBody },
      },
    },
    async (request) => {
      const { text, version } = await find(request.params);
      const objects = [...resourcesIn(parseState(text))].map(([address, resource]) => ({
        address,
        attributes: describeAttributes(resource),
      }));
      return { ...viewVersion(version), objects };
    },
  );

  server.get(
    "/api/apps/:app/environments/:environment/infra/states/:version/raw",
    {
      config: { role: "operator" },
      schema: {
        summary: "One version as Terraform wrote it, secrets in clear",
        params: versionParams,
        response: { 200: z.unknown() },
      },
    },
    async (request) => JSON.parse((await find(request.params)).text) as unknown,
  );

  server.get(
    "/api/apps/:app/environments/:environment/infra/states/:version/diff",
    {
      config: { role: "viewer" },
      schema: {
        summary: "What changed from the version before, or from another one, to this",
        params: versionParams,
        querystring: z.strictObject({ from: z.coerce.number().int().min(0).optional() }),
        response: { 200: StateDiffBody },
      },
    },
    async (request) => {
      const { text, version } = await find(request.params);
      const from = request.query.from ?? version.version - 1;
      const before = from === 0 ? EMPTY_STATE : (await states.get(request.params, from)).text;
      return { from, to: version.version, resources: diffStates(parseState(before), parseState(text)) };
    },
  );

  server.post(
    "/api/apps/:app/environments/:environment/infra/states/:version/restore",
    {
      config: { role: "operator" },
      schema: {
        summary: "Make an earlier version the newest one; nothing real is changed by it",
        params: params.extend({ version: z.coerce.number().int().min(1) }),
        response: { 201: StateVersionBody },
      },
    },
    async (request, reply) => {
      const { version, ...place } = request.params;
      return reply.status(201).send(viewVersion(await states.restore(place, version, identityOf(request).name)));
    },
  );
}

const EMPTY_STATE = JSON.stringify({ serial: 0, lineage: "", resources: [] });

/** What becomes of drift, beside putting it back. */
function driftRoutes(server: TypedServer, { store, engine }: Platform): void {
  const { db } = store;
  const path = "/api/apps/:app/environments/:environment/infra/drift";

  server.post(
    `${path}/accept`,
    {
      config: { role: "operator" },
      schema: {
        summary: "Take over into the state what exists, once an operator approved the plan; nothing real is changed",
        params,
        body: AcceptDriftRequest,
        response: { 202: InfraStartedBody },
      },
    },
    async (request, reply) => {
      await getApp(db, request.params.app);
      const takeover = { addresses: request.body.targets };
      const asked = await askAgain({ db }, request.params, {
        kind: "apply",
        actor: identityOf(request).name,
        takeover,
      });
      if (asked.start) await engine.startInfra(asked.start);
      return reply.status(202).send({ runId: asked.id, deliveryId: asked.id });
    },
  );

  server.get(
    `${path}/ignored`,
    {
      config: { role: "viewer" },
      schema: {
        summary: "Drift that nobody wants to hear of",
        params,
        response: { 200: z.array(IgnoredDriftBody) },
      },
    },
    async (request) => {
      await getApp(db, request.params.app);
      return (await listIgnored(db, request.params, Date.now())).map(({ until, createdAt, ...one }) => ({
        ...one,
        until: until?.toISOString() ?? null,
        createdAt: createdAt.toISOString(),
      }));
    },
  );

  server.post(
    `${path}/ignore`,
    {
      config: { role: "operator" },
      schema: {
        summary: "Keep quiet about the drift of a resource or of one attribute",
        params,
        body: IgnoreDriftRequest,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await getApp(db, request.params.app);
      const { what, reason } = request.body;
      const forMs = request.body.for === undefined ? undefined : parseDurationMs(request.body.for);
      const until = forMs === undefined ? null : new Date(Date.now() + forMs);
      await ignoreDrift(db, request.params, { what, reason, until }, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );

  server.post(
    `${path}/unignore`,
    {
      config: { role: "operator" },
      schema: { summary: "Hear of it again", params, body: UnignoreDriftRequest, response: { 204: z.null() } },
    },
    async (request, reply) => {
      await getApp(db, request.params.app);
      await unignoreDrift(db, request.params, request.body.what, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );
}

/** What an environment has, its drift, and what to do when something went wrong. */
function careRoutes(server: TypedServer, platform: Platform): void {
  const { store, infra, engine } = platform;
  const { db } = store;

  server.get(
    "/api/apps/:app/environments/:environment/infra",
    {
      config: { role: "viewer" },
      schema: {
        summary: "What is applied, its drift and that of the tasks, lock and outputs",
        params,
        response: { 200: InfraBody },
      },
    },
    async (request) => {
      await getApp(db, request.params.app);
      return viewInfra(platform, request.params);
    },
  );

  server.post(
    "/api/apps/:app/environments/:environment/infra/unlock",
    {
      config: { role: "operator" },
      schema: {
        summary: "Take the state's lock from a run that is gone",
        params,
        body: UnlockRequest,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await getApp(db, request.params.app);
      await forceUnlock(infra, request.params, request.body.lockId, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );

  server.get(
    "/api/apps/:app/environments/:environment/infra/recovery",
    {
      // Of a state that lies elsewhere only Terraform can tell, with the environment's credentials.
      config: { role: "developer" },
      schema: { summary: "What is known of the run that blocks it", params, response: { 200: RecoveryBody } },
    },
    async (request) => {
      const recovery = await findRecovery(infra, request.params);
      const { run, lock, errored, unsaved } = recovery;
      return {
        run: viewRun(run),
        lock: lock ?? null,
        errored: errored ? { serial: errored.serial, resources: errored.resources } : null,
        finished: unsaved.finished.map((one) => ({ ...one, id: one.id ?? null })),
        uncertain: unsaved.uncertain,
        beside: unsaved.beside,
        advice: adviseRecovery(recovery),
      };
    },
  );

  server.post(
    "/api/apps/:app/environments/:environment/infra/recover",
    {
      config: { role: "operator" },
      schema: {
        summary: "End the block after a run of unknown outcome",
        params,
        body: RecoverRequest,
        response: { 200: z.object({ runId: z.string().nullable() }) },
      },
    },
    async (request) => {
      const { way, found } = request.body;
      const { runId, start } = await recover(infra, request.params, way, identityOf(request).name, found);
      if (start) await engine.startInfra(start);
      return { runId: runId ?? null };
    },
  );
}

async function viewInfra(platform: Platform, place: { app: string; environment: string }): Promise<InfraView> {
  const { store, infra } = platform;
  const row = await findInfra(store.db, place);
  const outputs = (await findOutputs(store.db, infra.sealer, place)) ?? {};
  const { applied_run: runId = null, applied_commit: commit = null } = row ?? {};
  const repository = row?.applied_spec?.repository ?? null;
  return {
    app: place.app,
    environment: place.environment,
    applied: runId !== null && commit !== null ? { runId, commit, repository } : null,
    runningRun: row?.running_run ?? null,
    blockedBy: row?.blocked_by ?? null,
    stateIn: (await findLastApply(store.db, place))?.state_in ?? null,
    lock: row?.lock ?? null,
    drift: row?.drift && row.drift_at ? { ...row.drift, checkedAt: row.drift_at.toISOString() } : null,
    tasks: await viewTasks(platform, place),
    outputs: Object.entries(outputs).map(([name, { value, sensitive }]) => ({
      name,
      value: sensitive ? "(sensitive)" : outputText(value),
      sensitive,
    })),
  };
}

function viewRun(run: InfraRun): InfraRunView {
  return {
    id: run.id,
    app: run.app,
    environment: run.environment,
    kind: run.kind,
    status: run.status,
    commit: run.commit,
    repository: run.spec.repository ?? null,
    refName: run.ref_name,
    actor: run.actor,
    approvedBy: run.approved_by,
    takeover: run.takeover,
    overrule: run.overrule,
    canceledBy: run.cancel_requested_by,
    deliveryId: run.delivery_id,
    createdAt: run.created_at.toISOString(),
    startedAt: run.started_at?.toISOString() ?? null,
    endedAt: run.ended_at?.toISOString() ?? null,
    plan: run.plan,
    problem: run.problem,
    timings: run.timings,
    logs: [
      infraLogId(run.id, "init"),
      ...(run.started_at ? [infraLogId(run.id, "plan")] : []),
      ...(run.apply_started_at ? [infraLogId(run.id, "apply")] : []),
    ],
  };
}

function viewVersion({ createdAt, ...version }: StateVersion): StateVersionView {
  return { ...version, createdAt: createdAt.toISOString() };
}
