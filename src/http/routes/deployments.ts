import { z } from "zod";
import { listEnvironments } from "../../environment/environments.ts";
import { approveDeployment, rejectDeployment } from "../../release/approval.ts";
import { cancelDeployment, getDeployment, listDeployments } from "../../release/deployments.ts";
import { findSteps, getPipeline, listPipelines } from "../../release/pipelines.ts";
import { requestPromotion } from "../../release/promotion.ts";
import { listReleases } from "../../release/releases.ts";
import { reviewOf } from "../../release/review.ts";
import { getApp } from "../../source/apps.ts";
import { recordManualChange } from "../../source/record-push.ts";
import { requestContinuation } from "../../workflow/continue-pipeline.ts";
import type { Platform } from "../platform.ts";
import {
  ApproveRequest,
  ContinuedBody,
  ContinueRequest,
  DeploymentBody,
  DeploymentStatusBody,
  DeployRequest,
  PipelineBody,
  RejectRequest,
  ReleaseBody,
  ReviewBody,
  StartedBody,
} from "../schemas.ts";
import { identityOf, requireApp, type TypedServer } from "../server.ts";
import { viewDeployment, viewPipeline, viewRelease } from "../views.ts";

const limit = z.coerce.number().int().min(1).max(200).default(20);

export function deploymentRoutes(server: TypedServer, platform: Platform): void {
  const { store, engine, repositories, secrets } = platform;
  const appParams = z.object({ app: z.string() });
  const idParams = z.object({ id: z.string() });

  server.post(
    "/api/apps/:app/deployments",
    {
      config: { role: "developer" },
      schema: {
        summary: "Deploy a ref, or promote a release",
        params: appParams,
        body: DeployRequest,
        response: { 202: StartedBody },
      },
    },
    async (request, reply) => {
      const { app } = request.params;
      const { environment, ref, release } = request.body;
      const actor = identityOf(request).name;
      await getApp(store.db, app);
      if (release !== undefined) {
        const { start, ...started } = await requestPromotion(
          { db: store.db, repositories },
          { app, environment },
          release,
          actor,
        );
        if (start) await engine.startDeployment(start);
        return reply.status(202).send(started);
      }
      const refName = ref ?? "";
      const commit = await repositories.resolveCommit(app, refName);
      const change = await recordManualChange(store.db, repositories, { app, commit, refName, environment, actor });
      await engine.startDelivery(change.id);
      return reply.status(202).send({ deliveryId: change.id, deploymentId: null });
    },
  );

  server.get(
    "/api/apps/:app/deployments",
    {
      config: { role: "viewer" },
      schema: {
        summary: "Deployments, newest first",
        params: appParams,
        querystring: z.strictObject({
          environment: z.string().optional(),
          status: DeploymentStatusBody.optional(),
          limit,
        }),
        response: { 200: z.array(DeploymentBody) },
      },
    },
    async (request) => {
      await getApp(store.db, request.params.app);
      return (await listDeployments(store.db, request.params.app, request.query)).map(viewDeployment);
    },
  );

  server.get(
    "/api/deployments/:id",
    {
      config: { role: "viewer" },
      schema: { summary: "One deployment with its evidence", params: idParams, response: { 200: DeploymentBody } },
    },
    async (request) => {
      const deployment = await getDeployment(store.db, request.params.id);
      requireApp(request, "viewer", deployment.app);
      return viewDeployment(deployment);
    },
  );

  server.get(
    "/api/deployments/:id/review",
    {
      config: { role: "viewer" },
      schema: {
        summary: "What a deployment would change now, and where its images ran before",
        params: idParams,
        response: { 200: ReviewBody },
      },
    },
    async (request) => {
      const deployment = await getDeployment(store.db, request.params.id);
      requireApp(request, "viewer", deployment.app);
      return reviewOf({ db: store.db, repositories }, deployment, deployment.release);
    },
  );

  server.post(
    "/api/deployments/:id/approve",
    {
      config: { role: "tester" },
      schema: {
        summary: "Let a deployment that waits for an approval go on",
        params: idParams,
        body: ApproveRequest,
        response: { 202: StartedBody },
      },
    },
    async (request, reply) => {
      const { id, app, delivery_id: deliveryId } = await getDeployment(store.db, request.params.id);
      requireApp(request, "tester", app);
      const start = await approveDeployment(store.db, id, identityOf(request).name, request.body.comment);
      if (start) await engine.startDeployment(start);
      return reply.status(202).send({ deliveryId, deploymentId: id });
    },
  );

  server.post(
    "/api/deployments/:id/reject",
    {
      config: { role: "tester" },
      schema: {
        summary: "Turn down a deployment that waits for an approval",
        params: idParams,
        body: RejectRequest,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const { id, app } = await getDeployment(store.db, request.params.id);
      requireApp(request, "tester", app);
      await rejectDeployment(store.db, id, identityOf(request).name, request.body.reason);
      return reply.status(204).send(null);
    },
  );

  server.post(
    "/api/deployments/:id/cancel",
    {
      config: { role: "developer" },
      schema: {
        summary: "Stop a deployment; the old release keeps serving",
        params: idParams,
        response: { 202: z.object({ status: DeploymentStatusBody }) },
      },
    },
    async (request, reply) => {
      const deployment = await getDeployment(store.db, request.params.id);
      requireApp(request, "developer", deployment.app);
      return reply.status(202).send({ status: await cancelDeployment(store.db, deployment.id) });
    },
  );

  server.get(
    "/api/apps/:app/releases",
    {
      config: { role: "viewer" },
      schema: {
        summary: "Releases, newest first",
        params: appParams,
        querystring: z.strictObject({ limit }),
        response: { 200: z.array(ReleaseBody) },
      },
    },
    async (request) => {
      const { app } = request.params;
      await getApp(store.db, app);
      const environments = await listEnvironments(store.db, app);
      return (await listReleases(store.db, app, request.query.limit)).map((record) =>
        viewRelease(record, environments),
      );
    },
  );

  server.get(
    "/api/apps/:app/pipelines",
    {
      config: { role: "viewer" },
      schema: {
        summary: "Pipeline runs, newest first",
        params: appParams,
        querystring: z.strictObject({ limit }),
        response: { 200: z.array(PipelineBody) },
      },
    },
    async (request) => {
      const { app } = request.params;
      await getApp(store.db, app);
      const rows = await listPipelines(store.db, app, request.query.limit);
      return Promise.all(rows.map(async (row) => viewPipeline(row, await findSteps(store.db, row.id))));
    },
  );

  server.get(
    "/api/pipelines/:id",
    {
      config: { role: "viewer" },
      schema: { summary: "One pipeline run, by id or `APP#NUMBER`", params: idParams, response: { 200: PipelineBody } },
    },
    async (request) => {
      const row = await getPipeline(store.db, request.params.id);
      requireApp(request, "viewer", row.app);
      return viewPipeline(row, await findSteps(store.db, row.id));
    },
  );

  server.post(
    "/api/pipelines/:id/continue",
    {
      config: { role: "developer" },
      schema: {
        summary:
          "Start a manual step of a paused pipeline run; one that deploys where releases need an approval needs a tester",
        params: idParams,
        body: ContinueRequest,
        response: { 202: ContinuedBody },
      },
    },
    async (request, reply) => {
      const { id, app, change_id: deliveryId } = await getPipeline(store.db, request.params.id);
      requireApp(request, "developer", app);
      const key = await requestContinuation(
        { store, repositories, secrets },
        id,
        request.body.step,
        identityOf(request),
      );
      await engine.startPipeline(key);
      return reply.status(202).send({ pipelineId: id, deliveryId });
    },
  );
}
