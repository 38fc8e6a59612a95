import { mkdir } from "node:fs/promises";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { sql } from "kysely";
import { createToken } from "./access/tokens.ts";
import { chooseDrivers, type DriverOptions, type Drivers } from "./drivers.ts";
import { installationKey, newSealer } from "./environment/sealing.ts";
import { newSecrets } from "./environment/secrets.ts";
import { openEventStream } from "./events/event-stream.ts";
import { fileLogStore } from "./events/log-store.ts";
import { deliver, deploy, type Stages } from "./flow.ts";
import type { Platform } from "./http/platform.ts";
import { serveGit } from "./http/serve-git.ts";
import { buildServer, type Server } from "./http/server.ts";
import { terraformCli } from "./infra/drivers/terraform-cli.ts";
import { endApplies } from "./infra/end-applies.ts";
import { newInfraCode } from "./infra/infra-code.ts";
import { newLookSlots } from "./infra/look-slots.ts";
import type { InfraDeps } from "./infra/run-terraform.ts";
import type { StartedRun } from "./infra/runs.ts";
import { newStates } from "./infra/states.ts";
import type { NotifyDeps } from "./notify/deliver.ts";
import { httpSend } from "./notify/drivers/http-send.ts";
import { runtimesOf } from "./release/runtimes.ts";
import type { StartedTeardown } from "./release/teardowns.ts";
import { placedTarget } from "./rollout/placed-target.ts";
import { newDeferred } from "./shared/deferred.ts";
import { fail, hasCode, toProblem } from "./shared/errors.ts";
import { gitMirrors } from "./source/mirrors.ts";
import { recordMissedPushes } from "./source/record-push.ts";
import { gitRepositories } from "./source/repositories.ts";
import { startEmbeddedPostgres } from "./store/embedded-postgres.ts";
import { holdLock } from "./store/hold-lock.ts";
import { openStore, type Store } from "./store/open-store.ts";
import { newBackings } from "./workflow/backings.ts";
import { continuePipeline } from "./workflow/continue-pipeline.ts";
import { newDeliveryStages } from "./workflow/delivery-stages.ts";
import { newDeploymentStages } from "./workflow/deployment-stages.ts";
import { startDriftLoop } from "./workflow/drift-loop.ts";
import { type DurableEngine, type DurableStep, launchDurableEngine, type Workflow } from "./workflow/durable.ts";
import { newExecs } from "./workflow/execs.ts";
import { forgetCi } from "./workflow/forget-ci.ts";
import { recordMissedInfraPushes } from "./workflow/infra-push.ts";
import { applyInfra, runInfra } from "./workflow/infra-stages.ts";
import { startNotifyLoop } from "./workflow/notify-loop.ts";
import { startReconcileLoop } from "./workflow/reconcile-loop.ts";
import { runTask } from "./workflow/task-run.ts";
import { finishTeardown, runTeardown } from "./workflow/teardown.ts";

/** Somebody waits for a plan, so more of them than of drift checks. */
const PLANS_AT_ONCE = 4;

export type ControlPlaneOptions = DriverOptions & {
  /** Label and name prefix of everything made in Docker; undefined draws a random one at the first start. */
  instance: string | undefined;
  /** Of the API and git. */
  port: number;
  databaseUrl: string | undefined;
  /** The installation's key as base64; undefined for the one that is kept in the data directory. */
  secretKey: string | undefined;
  /** The text of the admin token of the very first start; undefined draws one. */
  firstToken: string | undefined;
  /** Where others reach this server, such as a load balancer's address; undefined where that is the address they ask. */
  publicUrl: string | undefined;
  /**
   * The program that is run for infrastructure (undefined: terraform or tofu, whichever is there), a filesystem mirror of its providers, the program of
   * Shipway's own provider, and how many drift checks are made at a time.
   */
  terraform: {
    program: string | undefined;
    mirrorDir: string | undefined;
    providerProgram: string;
    /** Whether a Terraform at work is ended by the end of this process, as in a container; else it goes on, and is found again. */
    endsWithUs: boolean;
    /** Of every run, beside its own. */
    environment: Record<string, string>;
    driftChecks: number;
  };
  version: string;
  /** Told as the start goes on: `Postgres ready (40 ms)`. */
  onProgress: (text: string) => void;
  /** Told when another Shipway has this one's database: nothing more may be done here. */
  onTakenOver: (holder: string) => void;
};

export type ControlPlane = {
  apiUrl: string;
  /** Undefined where no router of ours carries traffic: without an engine. */
  httpPort: number | undefined;
  /** The first admin token, only at the very first start. */
  firstToken: string | undefined;
  /** Stops the control plane; the apps and the router go on serving. */
  stop(): Promise<void>;
};

/** The one place where drivers are chosen and wired. Parts start side by side where they do not need each other. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const closing: Closer[] = [];
  try {
    return await start(options, closing);
  } catch (error) {
    // A start that fails must not leave a server, a database or a process behind.
    await closeAll(closing).catch((cause: unknown) =>
      options.log.warn({ err: cause }, "stopping after a failed start"),
    );
    throw error;
  }
}

type Closer = () => Promise<unknown>;

/** What was opened last is closed first. */
async function closeAll(closing: Closer[]): Promise<void> {
  for (let close = closing.pop(); close !== undefined; close = closing.pop()) await close();
}

async function start(options: ControlPlaneOptions, closing: Closer[]): Promise<ControlPlane> {
  const { dataDir, log } = options;
  const startedAt = Date.now();
  await mkdir(dataDir, { recursive: true, mode: 0o711 });
  const store = await openDatabase(options, closing);
  await refuseTakenPort(options);

  const instance = await instanceName(store, options.instance);
  const key = await installationKey(options.secretKey, join(dataDir, "secret.key"));
  const sealer = newSealer(key);
  const repositories = gitRepositories({ dir: join(dataDir, "repositories"), searchPath: options.searchPath });
  const mirrors = gitMirrors({ dir: join(dataDir, "mirrors"), git: repositories.git });
  const drivers = chooseDrivers(options, { instance, key, git: repositories.git });
  const {
    engine: docker,
    builderOf,
    executorOf,
    namespace,
    targetOf,
    publisherOf,
    publisherAt,
    accountSecretsOf,
  } = drivers;
  const target = placedTarget(targetOf, (place) => runtimesOf(store.db, place));
  const secrets = newSecrets(store.db, sealer);
  const logs = fileLogStore(join(dataDir, "logs"));
  const code = newInfraCode({ db: store.db, repositories, mirrors, secrets });

  const apiUrl = `http://${options.bind === "0.0.0.0" ? "127.0.0.1" : options.bind}:${options.port}`;
  const infra: InfraDeps = {
    lookSlots: newLookSlots({ plans: PLANS_AT_ONCE, drifts: options.terraform.driftChecks }),
    db: store.db,
    secrets,
    sealer,
    states: newStates(store.db, sealer),
    logs,
    git: repositories.git,
    code,
    // Terraform runs in folders of its own: a relative path would not lead here from there.
    dir: resolve(dataDir, "infra"),
    apiUrl,
    terraform: terraformCli({
      program: options.terraform.program,
      mirrorDir: options.terraform.mirrorDir,
      searchPath: options.searchPath,
      environment: options.terraform.environment,
      configFile: resolve(dataDir, "infra", "terraform.rc"),
      ownProvider: {
        mirrorDir: resolve(dataDir, "infra", "providers"),
        version: options.version,
        program: options.terraform.providerProgram,
        node: process.execPath,
      },
    }),
  };

  const notify: NotifyDeps = {
    db: store.db,
    sealer,
    send: httpSend(),
    apiUrl: options.publicUrl ?? apiUrl,
    now: Date.now,
    random: Math.random,
  };

  const ciDeps = { store, repositories, secrets, sealer, logs, executorOf, log };
  const stagesFor = (step: DurableStep): Stages => ({
    ...newDeliveryStages(
      {
        ...ciDeps,
        builderOf,
        namespace,
        hasEngine: docker !== undefined,
        startDeployment,
      },
      step,
    ),
    ...newDeploymentStages(
      {
        store,
        secrets,
        sealer,
        repositories,
        code,
        logs,
        targetOf,
        publisherOf,
        accountSecretsOf,
        httpPort: options.httpPort,
        startDeployment,
        startInfra,
        log,
      },
      step,
    ),
  });
  // Requests that come before the engine runs wait for it, and so do workflows that it recovers while it starts.
  const launched =
    newDeferred<
      DurableEngine<{
        deliver: Workflow;
        deploy: Workflow;
        infra: Workflow;
        "infra-apply": Workflow;
        "task-run": Workflow;
        teardown: Workflow;
        "teardown-rest": Workflow;
        pipeline: Workflow;
      }>
    >();
  const startDelivery = async (id: string): Promise<void> => (await launched.promise).start("deliver", id);
  const startDeployment = async (id: string): Promise<void> => (await launched.promise).start("deploy", id);
  const startTaskRun = async (id: string): Promise<void> => (await launched.promise).start("task-run", id);
  const startPipeline = async (key: string): Promise<void> => (await launched.promise).start("pipeline", key);
  const startInfra = async ({ workflow, id }: StartedRun): Promise<void> =>
    (await launched.promise).start(workflow, id);

  const startTeardown = async ({ workflow, id }: StartedTeardown): Promise<void> =>
    (await launched.promise).start(workflow, id);
  const teardown = {
    db: store.db,
    repositories,
    secrets,
    code,
    target,
    infraDir: infra.dir,
    startInfra,
    startDeployment,
    log,
  };

  const routerReady = startRouter(options, docker);
  routerReady.catch(() => undefined);
  const events = await openEventStream(store);
  closing.push(() => events.close());
  const execs = newExecs({ store, secrets, sealer, target });
  const platform: Platform = {
    version: options.version,
    instance,
    store,
    events,
    logs,
    secrets,
    backings: newBackings({ db: store.db, secrets, target }),
    execs,
    target,
    publisherAt,
    forgetCi: (app) => forgetCi({ db: store.db, executorOf }, app),
    forgetImages: async (app) => void (await builderOf({ kind: "docker" }).prune(app, [])),
    repositories,
    infra,
    notify,
    engine: { startDelivery, startDeployment, startInfra, startPipeline, startTaskRun, startTeardown },
    docker,
    apiUrl,
    publicUrl: options.publicUrl,
    httpPort: options.httpPort,
    dataDir,
    startedAt,
  };
  const server = await buildServer(platform, { logger: log });
  let stopEngine: Closer = async () => undefined;
  closing.push(() => stopEngine());
  closing.push(() => server.close());
  await serveGit(server, platform, log);
  await recordMissedPushes(store.db, repositories);
  await recordMissedInfraPushes({ db: store.db, repositories, secrets, code }, log);
  await listen(server, options);
  // Workflows that go on after a crash need the router and Docker; an engine that is away is their error to report, not ours to die of.
  await routerReady;
  const engine = await launchDurableEngine(
    { connectionString: store.connectionString, executorId: `shipway-${instance}`, log },
    {
      deliver: (id, step) => deliver(id, stagesFor(step)),
      deploy: (id, step) => deploy(id, stagesFor(step)),
      infra: (id, step) => runInfra({ ...infra, startInfra, startTeardown, log }, id, step),
      "infra-apply": (id, step) => applyInfra({ ...infra, startInfra, startTeardown, log }, id, step),
      pipeline: (key, step) => continuePipeline(ciDeps, key, step),
      "task-run": (id, step) => runTask({ store, secrets, sealer, logs, target, log }, id, step),
      teardown: (id, step) => runTeardown(teardown, id, step),
      "teardown-rest": (id, step) => finishTeardown(teardown, id, step),
    },
  );
  launched.resolve(engine);
  stopEngine = () => engine.shutdown();
  const notifyLoop = startNotifyLoop({ ...notify, events, log });
  closing.push(() => notifyLoop.stop());
  if (options.terraform.endsWithUs)
    closing.push(() => endApplies(store.db).catch((error: unknown) => log.warn({ err: error }, "ending applies")));
  const driftLoop = startDriftLoop({
    store,
    logs,
    startInfra,
    startIfNew: ({ workflow, id }) => engine.startIfNew(workflow, id),
    log,
  });
  closing.push(() => driftLoop.stop());
  const loop = startReconcileLoop({
    store,
    secrets,
    sealer,
    target,
    execs,
    builderOf,
    publisherAt,
    executorOf,
    repositories,
    code,
    startDelivery: (id) => engine.startIfNew("deliver", id),
    startDeployment: (id) => engine.startIfNew("deploy", id),
    startTaskRun: (id) => engine.startIfNew("task-run", id),
    startTeardown: ({ workflow, id }) => engine.startIfNew(workflow, id),
    startPipeline: (key) => engine.startIfNew("pipeline", key),
    log,
  });
  closing.push(() => loop.stop());
  void loop.once();
  if (docker) closing.push(docker.watchUse());

  const firstToken = await firstAdminToken(store, options.firstToken);
  return {
    apiUrl: platform.apiUrl,
    httpPort: docker && options.httpPort,
    firstToken,
    stop: () => closeAll(closing),
  };
}

/** Says at once, too, where there will be none: whoever expects apps at a port must not look for them. */
async function startRouter({ httpPort, onProgress }: ControlPlaneOptions, docker: Drivers["engine"]): Promise<void> {
  if (docker === undefined) return onProgress("Docker: none, as asked; apps run in environments with runtime: ecs");
  await docker.ensureRouter().catch((error: unknown) => {
    if (!hasCode(error, "DOCKER_UNREACHABLE")) throw error;
    throw fail("DOCKER_UNREACHABLE", {
      message: toProblem(error).message,
      hint: "Start Docker with `systemctl start docker`, then run `shipway doctor`. To run apps on ECS only: `shipway up --no-docker`.",
      cause: error,
    });
  });
  onProgress(`Router: apps answer on port ${httpPort}`);
}

/** Amazon ECS kills a task at the latest after two minutes: its successor waits a little longer than that. */
const WAIT_FOR_OTHER_MS = 150_000;

/** Our own Postgres or the user's, migrated; closed again in the order that loses nothing. */
async function openDatabase(options: ControlPlaneOptions, closing: Closer[]): Promise<Store> {
  const { dataDir, log } = options;
  const postgres =
    options.databaseUrl === undefined ? await startEmbeddedPostgres(join(dataDir, "postgres")) : undefined;
  const store = await openStore(postgres?.connectionString ?? options.databaseUrl ?? "", log);
  // Only its owner may stop a Postgres: a start that finds the data directory in use leaves the other's alone.
  if (postgres) {
    const release = await lockDataDir(store, dataDir);
    closing.push(() => postgres.stop());
    closing.push(() => store.close(), release);
  } else {
    closing.push(() => store.close());
    const lock = await holdLock(
      store.connectionString,
      { waitMs: WAIT_FOR_OTHER_MS },
      {
        onWait: (holder) => options.onProgress(`Postgres: waiting for another Shipway to end (${holder})`),
        onLost: options.onTakenOver,
      },
    );
    closing.push(() => lock.release());
  }
  options.onProgress(
    postgres
      ? postgres.adopted
        ? "Postgres: took over the one that was running"
        : "Postgres: ready"
      : "Postgres: the one at DATABASE_URL",
  );
  return store;
}

/**
 * One control plane per data directory. The lock is a session of Postgres: it ends with the process, however that ends, so it is never stale.
 * @throws DATA_DIR_IN_USE
 */
async function lockDataDir(store: Store, dataDir: string): Promise<() => Promise<void>> {
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let held: Promise<void> = Promise.resolve();
  const locked = await new Promise<boolean>((resolve, reject) => {
    held = store.db
      .connection()
      .execute(async (connection) => {
        const { rows } = await sql<{
          locked: boolean;
        }>`select pg_try_advisory_lock(hashtext('shipway-control-plane')) as locked`.execute(connection);
        const got = rows[0]?.locked === true;
        resolve(got);
        if (!got) return;
        await released;
        await sql`select pg_advisory_unlock(hashtext('shipway-control-plane'))`.execute(connection);
      })
      .catch(reject);
  });
  if (locked) {
    return async () => {
      release();
      await held;
    };
  }
  await store.close();
  throw fail("DATA_DIR_IN_USE", {
    message: `Another Shipway runs on ${dataDir}.`,
    hint: "Use that one (`shipway status`), or give this one its own place with `shipway up --data DIR --port N --http-port N`.",
  });
}

/** The name of this installation, kept from its first start, so that two on one Docker Engine never touch each other's containers. */
async function instanceName(store: Store, wanted: string | undefined): Promise<string> {
  await store.db
    .insertInto("settings")
    .values({ name: "instance", value: wanted ?? newInstanceName() })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return (
    await store.db.selectFrom("settings").select("value").where("name", "=", "instance").executeTakeFirstOrThrow()
  ).value;
}

const newInstanceName = () => Math.random().toString(36).slice(2, 8).padEnd(6, "0");

/** Before anything is made in Docker, which a start that cannot go on would leave behind. @throws PORT_IN_USE */
async function refuseTakenPort(options: ControlPlaneOptions): Promise<void> {
  const probe = createServer();
  const { port, bind: host } = options;
  await new Promise<void>((resolve, reject) => {
    probe.once("error", reject).listen({ port, host }, () => probe.close(() => resolve()));
  }).catch((cause: unknown) => {
    throw asPortInUse(cause, options);
  });
}

async function listen(server: Server, options: ControlPlaneOptions): Promise<void> {
  await server.listen({ port: options.port, host: options.bind }).catch((cause: unknown) => {
    throw asPortInUse(cause, options);
  });
}

function asPortInUse(cause: unknown, { port, bind }: ControlPlaneOptions): unknown {
  if ((cause as NodeJS.ErrnoException).code !== "EADDRINUSE") return cause;
  return fail("PORT_IN_USE", {
    message: `Port ${port} of ${bind} is in use by another program.`,
    hint: "Choose another with `shipway up --port N`.",
    cause,
  });
}

/** Undefined where there are tokens, and where its text was given: who gave it knows it, and it must be in no log. */
async function firstAdminToken(store: Store, given: string | undefined): Promise<string | undefined> {
  const any = await store.db.selectFrom("tokens").select("id").executeTakeFirst();
  if (any) return undefined;
  const { token } = await createToken(store.db, { name: "admin", role: "admin" }, "shipway", given);
  return given === undefined ? token : undefined;
}
