import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Role } from "../access/roles.ts";
import { createToken } from "../access/tokens.ts";
import { newSealer } from "../environment/sealing.ts";
import { newSecrets } from "../environment/secrets.ts";
import { openEventStream } from "../events/event-stream.ts";
import { fileLogStore } from "../events/log-store.ts";
import { terraformCli } from "../infra/drivers/terraform-cli.ts";
import { newInfraCode } from "../infra/infra-code.ts";
import { newLookSlots } from "../infra/look-slots.ts";
import type { StartedRun } from "../infra/runs.ts";
import { newStates } from "../infra/states.ts";
import type { NotifyDeps } from "../notify/deliver.ts";
import { httpSend } from "../notify/drivers/http-send.ts";
import { getChange } from "../release/deliveries.ts";
import { endDeployment, requestDeployment } from "../release/deployments.ts";
import { openPipeline } from "../release/pipelines.ts";
import { recordRelease } from "../release/releases.ts";
import type { StartedTeardown } from "../release/teardowns.ts";
import { type MemoryTarget, memoryTarget } from "../rollout/drivers/memory.ts";
import { createApp } from "../source/apps.ts";
import { gitMirrors } from "../source/mirrors.ts";
import { recordManualChange } from "../source/record-push.ts";
import { gitRepositories } from "../source/repositories.ts";
import { commitTo } from "../source/testing.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { newTestStore } from "../store/testing.ts";
import { newBackings } from "../workflow/backings.ts";
import { newExecs } from "../workflow/execs.ts";
import type { Platform } from "./platform.ts";
import { buildServer, type Server } from "./server.ts";

export type TestPlatform = {
  platform: Platform & { target: MemoryTarget };
  server: Server;
  /** What was handed to the engine: `deliver c_…`, `deploy d_…`. */
  started: string[];
  /** Before each call of the target; may throw, as an engine that is gone does. */
  onTargetCall: { current: (method: string) => void };
  tokenFor(role: Role, app?: string): Promise<string>;
  close(): Promise<void>;
};

/** The HTTP edge on a real Postgres and real git, with tasks in memory and an engine that only takes notes. */
export async function newTestPlatform(): Promise<TestPlatform> {
  const dir = await mkdtemp(join(tmpdir(), "shipway-http-"));
  const store = await newTestStore();
  const events = await openEventStream(store);
  const started: string[] = [];
  const onTargetCall = { current: (_method: string): void => undefined };
  const sealer = newSealer(Buffer.alloc(32, 7));
  const secrets = newSecrets(store.db, sealer);
  const logs = fileLogStore(join(dir, "logs"));
  const repositories = gitRepositories({ dir: join(dir, "repositories") });
  const target = memoryTarget({ onCall: (method) => onTargetCall.current(method) });
  const mirrors = gitMirrors({ dir: join(dir, "mirrors"), git: repositories.git });
  const platform = {
    version: "1.2.3",
    instance: "test",
    store,
    events,
    logs,
    secrets,
    infra: {
      db: store.db,
      secrets,
      sealer,
      states: newStates(store.db, sealer),
      logs,
      lookSlots: newLookSlots({ plans: 4, drifts: 2 }),
      git: repositories.git,
      code: newInfraCode({ db: store.db, repositories, mirrors, secrets }),
      dir: join(dir, "infra"),
      apiUrl: "http://127.0.0.1:7420",
      terraform: terraformCli({
        program: "terraform",
        searchPath: "/usr/local/bin:/usr/bin:/bin",
        mirrorDir: undefined,
        configFile: join(dir, "infra", "terraform.rc"),
      }),
    },
    notify: {
      db: store.db,
      sealer,
      send: httpSend(),
      apiUrl: "http://127.0.0.1:7420",
      now: Date.now,
      random: Math.random,
    } satisfies NotifyDeps,
    target,
    execs: newExecs({ store, secrets, sealer, target }),
    backings: newBackings({ db: store.db, secrets, target }),
    repositories,
    forgetCi: async (app: string) => void started.push(`forget the pipelines of ${app}`),
    forgetImages: async (app: string) => void started.push(`forget the images of ${app}`),
    publisherAt: (registry: string) => ({
      removeApp: async (app: string) => {
        started.push(`remove images of ${app} at ${registry}`);
        return [];
      },
    }),
    engine: {
      startDelivery: async (id: string) => void started.push(`deliver ${id}`),
      startDeployment: async (id: string) => void started.push(`deploy ${id}`),
      startTaskRun: async (id: string) => void started.push(`task-run ${id}`),
      startTeardown: async ({ workflow, id }: StartedTeardown) => void started.push(`${workflow} ${id}`),
      startPipeline: async (key: string) => void started.push(`pipeline ${key}`),
      startInfra: async ({ workflow, id }: StartedRun) => void started.push(`${workflow} ${id}`),
    },
    docker: { version: async () => "20.10.24", latestUse: () => [] },
    apiUrl: "http://127.0.0.1:7420",
    publicUrl: undefined as string | undefined,
    httpPort: 8080,
    dataDir: dir,
    startedAt: Date.now(),
  };
  const server = await buildServer(platform);
  return {
    platform,
    server,
    started,
    onTargetCall,
    async tokenFor(role, app) {
      const wanted = { name: app === undefined ? role : `${role}-${app}`, role, app };
      return (await createToken(store.db, wanted, "test")).token;
    },
    async close() {
      await server.close();
      await events.close();
      await store.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export type DeliveredApp = {
  commit: string;
  changeId: string;
  pipelineId: string;
  /** Of the releases r1 and r2, the newest last. */
  deploymentIds: string[];
};

/** An app with a repository, two releases and the environment `production`, in which r2 runs and r1 stands by. */
export async function newDeliveredApp({ platform }: TestPlatform, app: string): Promise<DeliveredApp> {
  const { db } = platform.store;
  const spec = parseAppSpec(`app: ${app}\nservices:\n  web:\n    build: {}\n    port: 3000\n`);
  await createApp(db, platform.repositories, app, "ada");
  const commit = await commitTo(platform.repositories, app, { files: { "shipway.yml": "{}" }, message: "Sell things" });
  const place = { app, environment: "production" };
  const deploymentIds: string[] = [];
  let changeId = "";
  let pipelineId = "";
  for (const number of [1, 2]) {
    const wanted = { ...place, commit, refName: "main", actor: "ada" };
    const { id: deliveryId } = await recordManualChange(db, platform.repositories, wanted);
    const change = await getChange(db, deliveryId);
    const image = { service: "web", name: `shipway/${app}/web:${number}`, digest: `sha256:${number}`, reused: false };
    await recordRelease(db, change, spec, [image]);
    pipelineId = (await openPipeline(db, change, [{ id: "0", name: "unit" }])).id;
    changeId = deliveryId;
    const request = { ...place, release: number, kind: "deploy" as const, actor: "ada", deliveryId };
    const { id } = await db.transaction().execute((tx) => requestDeployment(tx, request));
    deploymentIds.push(id);
    await endDeployment(db, id, {
      status: "succeeded",
      live: number,
      standby: number === 1 ? null : number - 1,
      standbyMs: 60_000,
      phases: [],
      evidence: [],
      rolledBack: false,
    });
  }
  return { commit, changeId, pipelineId, deploymentIds };
}
