import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Identity } from "../access/roles.ts";
import { createToken } from "../access/tokens.ts";
import type { AccountSecrets, LookedUp } from "../aws/account-secrets.ts";
import { memoryExecutor } from "../ci/drivers/memory.ts";
import type { StepExecutor } from "../ci/executor.ts";
import { declareEnvironment } from "../environment/environments.ts";
import { newestVersions } from "../environment/pipeline-values.ts";
import { newSealer } from "../environment/sealing.ts";
import { newSecrets, type Secrets } from "../environment/secrets.ts";
import { removeVariable, setVariable } from "../environment/variables.ts";
import { readEvents } from "../events/event-stream.ts";
import { fileLogStore } from "../events/log-store.ts";
import { deliver, deploy, type Stages } from "../flow.ts";
import { MISSING_PREFIX, memoryBuilder } from "../image/drivers/memory.ts";
import type { ImagePublisher } from "../image/publisher.ts";
import { newInfraCode } from "../infra/infra-code.ts";
import { approveDeployment } from "../release/approval.ts";
import { getChange, openDeliveries } from "../release/deliveries.ts";
import { getDeployment, listDeployments, runningDeployments } from "../release/deployments.ts";
import { stepLogId } from "../release/log-ids.ts";
import { openContinuations, openPipeline, untidiedPipelines } from "../release/pipelines.ts";
import { requestPromotion } from "../release/promotion.ts";
import { getRelease } from "../release/releases.ts";
import { resolveRelease } from "../release/resolve-release.ts";
import { reviewOf } from "../release/review.ts";
import { requestRollback } from "../release/rollback.ts";
import { publishedRelease, runtimesOf } from "../release/runtimes.ts";
import { targetWithoutEngine } from "../rollout/drivers/docker/without-engine.ts";
import { type MemoryTarget, memoryTarget } from "../rollout/drivers/memory.ts";
import { placedTarget, type TargetOf } from "../rollout/placed-target.ts";
import type { RuntimeSettings } from "../rollout/runtime.ts";
import { fail } from "../shared/errors.ts";
import { until } from "../shared/until.ts";
import { createApp } from "../source/apps.ts";
import { gitMirrors } from "../source/mirrors.ts";
import { recordPush } from "../source/record-push.ts";
import { gitRepositories, type Repositories } from "../source/repositories.ts";
import { commitTo } from "../source/testing.ts";
import type { CiSettings } from "../spec/ci-settings.ts";
import type { SecretReference } from "../spec/secret-reference.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { newBackings } from "./backings.ts";
import { continuePipeline, endPaused, requestContinuation } from "./continue-pipeline.ts";
import { newDeliveryStages } from "./delivery-stages.ts";
import { newDeploymentStages } from "./deployment-stages.ts";
import type { DurableStep, Logger } from "./durable.ts";
import { forgetCi } from "./forget-ci.ts";

/** The flow on real Postgres and git; steps, builds and tasks in memory. */
let store: Store;
let dir: string;
let repositories: Repositories;
let secrets: Secrets;
let target: MemoryTarget;
/** Tasks of environments on ECS. */
let onEcs: MemoryTarget;
let published: string[];
let logged: string[];
let app: string;
let apps = 0;
beforeAll(async () => {
  store = await newTestStore();
  dir = await mkdtemp(join(tmpdir(), "shipway-flow-"));
  repositories = gitRepositories({ dir: join(dir, "repositories") });
  secrets = newSecrets(store.db, newSealer(Buffer.alloc(32, 5)));
});
afterAll(async () => {
  await store?.close();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(async () => {
  app = `shop${++apps}`;
  target = memoryTarget();
  onEcs = memoryTarget();
  published = [];
  logged = [];
  hasEngine = true;
  builtElsewhere = false;
  await createApp(store.db, repositories, app, "ada");
});

const targetOf: TargetOf = ({ kind }) => (kind === "ecs" ? onEcs : hasEngine ? target : targetWithoutEngine());
const publisherOf = ({ kind }: RuntimeSettings): Pick<ImagePublisher, "publish"> => ({
  async publish({ service, digest, name }) {
    published.push(`${service} ${digest}${kind === "docker" ? ` as ${name}` : ""}`);
    return kind === "docker" ? `engine:${digest.slice(-8)}` : `registry.example.com/${service}@${digest}`;
  },
});

/** Versions of the account's secrets and parameters, by what a task definition calls them; what is not there is missing, "denied" is denied. */
let inAccount: Record<string, string> = {};
let looks = 0;
const accountSecretsOf = ({ kind }: RuntimeSettings): AccountSecrets | undefined =>
  kind === "docker" ? undefined : { lookUp: async (references) => references.map(lookedUp) };
function lookedUp(reference: SecretReference): LookedUp {
  looks += 1;
  const name = reference.kind === "secret" ? reference.arn : (reference.names[0] ?? "");
  const newest = inAccount[name];
  if (newest === undefined) return { status: "missing", why: "there is no such secret" };
  if (newest === "denied")
    return { status: "denied", why: "Shipway's role may not look", policy: `{"Allow":"${name}"}` };
  if (reference.kind === "parameter")
    return { status: "found", valueFrom: name, version: newest, isPinned: false, resource: name };
  const version = reference.versionId ?? newest;
  if (version === "gone") return { status: "missing", why: "its version gone is not there (any more)" };
  const valueFrom = `${name}:${reference.key ?? ""}::${version}`;
  return { status: "found", valueFrom, version, isPinned: true, resource: name };
}

/** As of builds away from this machine: images are in a registry, and named by that. */
let builtElsewhere = false;

/** Where steps ran, by the step, and of which pipelines nothing is left there. */
let ranOn: string[] = [];
let tidied: string[] = [];
let isAway = false;
const executorOf = (steps: CiSettings["steps"]): StepExecutor => {
  const where = steps.kind === "docker" ? "docker" : `ecs in ${steps.settings.cluster} by ${steps.settings.workBucket}`;
  const inMemory = memoryExecutor();
  return {
    ...inMemory,
    runStep(context, step, log, options) {
      ranOn.push(`${step.name} on ${where}`);
      return inMemory.runStep(context, step, log, options);
    },
    async cleanUp(runId) {
      if (isAway) throw fail("AWS_UNREACHABLE", { message: "AWS did not answer." });
      tidied.push(`${runId} on ${where}`);
    },
  };
};

/** False: as a Shipway that was started without a Docker Engine. */
let hasEngine = true;

class Killed extends Error {}

/** What outlives a kill: the results of finished steps, as JSON. `dieAt` kills at the end of the nth step, before its result is kept. */
function newJournal() {
  const kept = new Map<string, string>();
  let ended = 0;
  return {
    steps: () => ended,
    life(dieAt = Number.POSITIVE_INFINITY) {
      let dead = false;
      ended = 0;
      return (workflow: string): DurableStep => {
        const seen = new Map<string, number>();
        return async (name, fn) => {
          const nth = (seen.get(name) ?? 0) + 1;
          seen.set(name, nth);
          const key = `${workflow}/${name}/${nth}`;
          const before = kept.get(key);
          if (dead) throw new Killed();
          if (before !== undefined) return JSON.parse(before).value;
          const value = await fn();
          ended += 1;
          if (dead || ended === dieAt) {
            dead = true;
            throw new Killed();
          }
          kept.set(key, JSON.stringify({ value }));
          return JSON.parse(JSON.stringify({ value })).value;
        };
      };
    },
  };
}

/** Runs all work there is to its end, as the engine and the recovery at a start do. */
async function runAll(stepOf: (workflow: string) => DurableStep): Promise<void> {
  const note = (details: object, text: string) => void logged.push(`${text} ${JSON.stringify(details)}`);
  const log: Logger = {
    info: note,
    warn: note,
    error: (details, text) => void logged.push(`${text} ${String((details as { err?: unknown }).err)}`),
  };
  const shared = { store, secrets, logs: fileLogStore(join(dir, "logs")), log, startDeployment: async () => undefined };
  const mirrors = gitMirrors({ dir: join(dir, "mirrors"), git: repositories.git });
  const code = newInfraCode({ db: store.db, repositories, mirrors, secrets });
  const infra = { sealer: newSealer(Buffer.alloc(32, 5)), repositories, code, startInfra: async () => undefined };
  const inMemory = memoryBuilder();
  // A task in memory behaves as the tag of its image says, so a fetched image keeps its name.
  const fetch: typeof inMemory.fetch = async (name, log) =>
    name.startsWith(MISSING_PREFIX) ? inMemory.fetch(name, log) : { digest: name };
  const build: typeof inMemory.build = async (plan, log, signal) => {
    const outcome = await inMemory.build(plan, log, signal);
    if (!builtElsewhere || outcome.status !== "built") return outcome;
    const { image } = outcome;
    return { ...outcome, image: { ...image, reference: `ecr.example/${image.service}@${image.digest}` } };
  };
  const builder = { ...inMemory, build, fetch };
  const stagesOf = (step: DurableStep): Stages => ({
    ...newDeliveryStages(
      {
        ...shared,
        ...infra,
        executorOf,
        builderOf: () => builder,
        namespace: "test",
        hasEngine,
      },
      step,
    ),
    ...newDeploymentStages({ ...shared, ...infra, targetOf, publisherOf, accountSecretsOf, httpPort: 8080 }, step),
  });
  for (const id of await openDeliveries(store.db, app)) {
    if ((await deploymentsOf(id)).length > 0) continue;
    await deliver(id, stagesOf(stepOf(`deliver:${id}`)));
  }
  for (const key of await openContinuations(store.db))
    await continuePipeline({ ...shared, ...infra, executorOf }, key, stepOf(`pipeline:${key}`));
  for (let ids = await runningDeployments(store.db); ids.length > 0; ids = await runningDeployments(store.db))
    for (const id of ids) await deploy(id, stagesOf(stepOf(`deploy:${id}`)));
}

const deploymentsOf = (deliveryId: string) =>
  store.db.selectFrom("deployments").selectAll().where("delivery_id", "=", deliveryId).execute();

const SPEC = "services:\n  web:\n    build: {}\n    port: 3000\nbake: 0s\n";
const OUTPUTS = [
  "environments:",
  "  production:",
  "    branch: main",
  "    infra: { dir: ./infra/, outputs: { DB_URL: db_ulr } }",
  "",
].join("\n");

type Push = { branch?: string; spec?: string; pipelines?: string; message?: string; files?: Record<string, string> };

async function pushed(push: Push = {}): Promise<string> {
  const { branch = "main", spec = SPEC, pipelines, message = "Change", files = {} } = push;
  const before = (await repositories.refs(app)).get(`refs/heads/${branch}`);
  const commit = await commitTo(repositories, app, {
    ref: `refs/heads/${branch}`,
    message,
    files: {
      Dockerfile: "FROM scratch\n",
      "shipway.yml": `app: ${app}\n${spec}`,
      ...(pipelines !== undefined && { "bitbucket-pipelines.yml": pipelines }),
      ...files,
    },
    ...(before && { parent: before }),
  });
  const ref = {
    ref: `refs/heads/${branch}`,
    refKind: "branch" as const,
    refName: branch,
    oldCommit: before,
    newCommit: commit,
    forced: false,
  };
  const { changes } = await recordPush(store.db, repositories, { app, actor: "ada", refs: [ref], options: [] });
  return changes[0]?.id ?? "";
}

async function delivered(push?: Push) {
  const id = await pushed(push);
  await runAll(newJournal().life());
  const ends = (await readEvents(store.db, { deliveryId: id, limit: 1_000 })).filter(
    ({ kind }) => kind === "delivery.ended",
  );
  expect(ends).toHaveLength(1);
  return ends[0]?.data as { status: string; at?: string; problem?: { code: string; message: string; hint?: string } };
}

const ECS = `
environments:
  production:
    branch: main
    runtime: ecs
    aws:
      region: eu-central-1
      cluster: shop
      listener: arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/shop/0123456789abcdef/0123456789abcdef
      subnets: [subnet-0a1b2c3d]
      securityGroups: [sg-0a1b2c3d]
      executionRole: arn:aws:iam::123456789012:role/shop-exec
`;

describe("an environment that moves to ECS", () => {
  const answers = () => [target.answering(place(), "web"), onEcs.answering(place(), "web")];
  const placed = () => placedTarget(targetOf, (where) => runtimesOf(store.db, where));
  const row = () =>
    store.db
      .selectFrom("environments")
      .select(["live_release", "standby_release"])
      .where("app", "=", app)
      .executeTakeFirst();

  it("pushes its images once, leaves what serves on Docker for the standby time, and ends it there then", async () => {
    await delivered();
    expect(await delivered({ spec: SPEC + ECS })).toMatchObject({ status: "live" });
    expect(answers()).toEqual([1, 2]);
    expect(await row()).toEqual({ live_release: 2, standby_release: 1 });
    expect(published).toHaveLength(1);
    await delivered({ spec: `${SPEC}standby: 1h\n${ECS}` });
    expect(answers()).toEqual([1, 3]);
    await requestRollback(store.db, place(), undefined, "ada");
    await runAll(newJournal().life());
    expect(answers()).toEqual([1, 2]);
    // The image of r3 is another one; that of r2 was there.
    expect([published.length, new Set(published).size]).toEqual([2, 2]);
    await placed().stop(place(), 1);
    expect(answers()).toEqual([undefined, 2]);
  });

  it("goes back to Docker by a rollback, where the old release still serves", async () => {
    await delivered();
    await delivered({ spec: SPEC + ECS });
    await requestRollback(store.db, place(), undefined, "ada");
    await runAll(newJournal().life());
    expect(await row()).toMatchObject({ live_release: 1 });
    expect((await runtimesOf(store.db, place())).current).toEqual({ kind: "docker" });
    expect((await placed().observe(place())).map(({ release }) => release)).toEqual([1]);
  });

  it("brings no image there before what is missing was told: that takes minutes", async () => {
    const spec = SPEC.replace("port:", "secrets: [KEY]\n    port:");
    const deliveryId = await pushed({ spec: spec + ECS });
    await runAll(newJournal().life());
    const [deployment] = await deploymentsOf(deliveryId);
    expect(deployment?.problem).toMatchObject({ code: "SECRET_MISSING" });
    expect(published).toEqual([]);
    await secrets.set(place(), "KEY", "value", "ada");
    await requestPromotion({ db: store.db, repositories }, place(), 1, "ada");
    await runAll(newJournal().life());
    expect(published).toHaveLength(1);
    const { phases } = await store.db
      .selectFrom("deployments")
      .select("phases")
      .where("status", "=", "succeeded")
      .where("app", "=", app)
      .executeTakeFirstOrThrow();
    expect(phases.map(({ name }) => name)).toEqual(["images", "prove", "shift", "bake", "settle"]);
  });

  it("stays on Docker when the release does not prove itself there", async () => {
    await delivered();
    const broken = "services:\n  web:\n    image: shop:broken\n    port: 3000\n    health: { grace: 50ms }\nbake: 0s\n";
    await delivered({ spec: broken + ECS });
    expect(answers()).toEqual([1, undefined]);
    expect(await row()).toMatchObject({ live_release: 1 });
    expect((await runtimesOf(store.db, place())).current).toEqual({ kind: "docker" });
  });
});

describe("secrets of the account", () => {
  const SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf";
  const TAKEN = SPEC.replace("port:", "secrets: [DB, MAIL, OWN]\n    port:");
  const withSources = (sources = `{ DB: "${SECRET}:password", MAIL: "ssm:/shop/mail" }`) => ({
    spec: `${TAKEN}${ECS}    secrets: ${sources}\n`,
  });
  const references = async () => {
    const [task] = (await onEcs.observe(place())).filter(({ traffic }) => traffic === "serving");
    return onEcs.variablesOf(task?.tasks[0]?.name ?? "")?.references;
  };
  const notes = async () =>
    (await readEvents(store.db, { app, limit: 1_000 }))
      .filter(({ kind }) => kind === "rollout.note")
      .map(({ data }) => String(data.text));
  const newestDeployment = () =>
    store.db
      .selectFrom("deployments")
      .selectAll()
      .where("app", "=", app)
      .orderBy("created_at", "desc")
      .executeTakeFirstOrThrow();
  const rollBack = async (to?: number) => {
    await requestRollback(store.db, place(), to, "ada");
    await runAll(newJournal().life());
    return newestDeployment();
  };
  beforeEach(async () => {
    inAccount = { [SECRET]: "one", "/shop/mail": "1" };
    await secrets.set(place(), "OWN", "stored here", "ada");
  });

  it("reach tasks in the version of their deployment, beside those stored here, and a rollback restores it", async () => {
    expect(await delivered(withSources())).toMatchObject({ status: "live" });
    expect(await references()).toEqual({ DB: `${SECRET}:password::one`, MAIL: "/shop/mail" });
    inAccount = { [SECRET]: "two", "/shop/mail": "2" };
    await delivered(withSources());
    expect(await references()).toEqual({ DB: `${SECRET}:password::two`, MAIL: "/shop/mail" });
    await delivered(withSources());
    // r1 is not on standby any more, so its tasks are started anew.
    expect(await rollBack(1)).toMatchObject({
      status: "succeeded",
      account_secrets: { DB: { version: "one", isPinned: true }, MAIL: { version: "2", isPinned: false } },
    });
    expect(await references()).toEqual({ DB: `${SECRET}:password::one`, MAIL: "/shop/mail" });
    expect(await notes()).toContainEqual(expect.stringMatching(/MAIL is not as it was: r1 ran with version 1 .* 2\.$/));
  });

  it("are not looked at by who goes back to what stands by", async () => {
    await delivered(withSources());
    await delivered(withSources());
    looks = 0;
    expect(await rollBack()).toMatchObject({ status: "succeeded" });
    expect(looks).toBe(0);
  });

  it("that are not there or may not be looked at stop a deployment before it starts anything, all with their lines", async () => {
    inAccount = { "/shop/mail": "denied" };
    await delivered(withSources());
    const { problem } = await newestDeployment();
    expect(problem).toMatchObject({ code: "SECRET_NOT_USABLE" });
    expect(problem?.message).toMatch(/shipway.yml at [0-9a-f]{7}:\d+:\d+ {2}DB: there is no such secret/);
    expect(problem?.message).toMatch(/MAIL: Shipway's role may not look \(ssm:\/shop\/mail\)/);
    expect(problem?.hint).toContain('{"Allow":"/shop/mail"}');
    expect(await onEcs.observe(place())).toEqual([]);
  });

  it("whose old version is gone stop a rollback, which says how to go on with today's", async () => {
    await delivered(withSources());
    await delivered(withSources());
    await delivered(withSources());
    await store.db
      .updateTable("deployments")
      .set({
        account_secrets: JSON.stringify({ DB: { from: SECRET, valueFrom: "", version: "gone", isPinned: true } }),
      })
      .where("release", "=", 1)
      .where("app", "=", app)
      .execute();
    const { status, problem } = await rollBack(1);
    expect([status, problem?.code]).toEqual(["failed", "SECRET_NOT_USABLE"]);
    expect(problem?.hint).toContain(`shipway deploy --app ${app} --env production --release r1`);
  });

  it("stay what a deployment chose that was killed and goes on, and what it had not chosen is today's", async () => {
    const pushedAndKilled = async (dieAt: number) => {
      app = `shop${++apps}`;
      [onEcs, inAccount] = [memoryTarget(), { [SECRET]: "one", "/shop/mail": "1" }];
      await createApp(store.db, repositories, app, "ada");
      await secrets.set(place(), "OWN", "stored here", "ada");
      await pushed(withSources());
      const journal = newJournal();
      await expect(runAll(journal.life(dieAt))).rejects.toThrow(Killed);
      const chosen = (await newestDeployment().catch(() => undefined))?.account_secrets?.DB?.version;
      inAccount = { [SECRET]: "two", "/shop/mail": "1" };
      await runAll(journal.life());
      expect(await references()).toHaveProperty("DB", `${SECRET}:password::${chosen ?? "two"}`);
      return chosen;
    };
    expect(await pushedAndKilled(1)).toBeUndefined();
    let dieAt = 2;
    while ((await pushedAndKilled(dieAt)) === undefined) dieAt += 1;
  });

  it("win over a value of that name that is stored here, which is said", async () => {
    await secrets.set(place(), "DB", "stored long ago", "ada");
    await delivered(withSources());
    expect(await notes()).toContainEqual(expect.stringContaining(`shipway secret remove DB --app ${app}`));
  });
});

describe("a pipeline whose steps run on ECS", () => {
  const pipelines = "image: a\npipelines:\n  default:\n    - step: { name: Test, script: [echo one] }\n";
  const ci = () => `${SPEC}ci: { steps: ecs, environment: production }\n${ECS}      workBucket: shop-work\n`;
  const row = () => store.db.selectFrom("pipelines").selectAll().where("app", "=", app).executeTakeFirstOrThrow();
  beforeEach(() => {
    [ranOn, tidied, isAway] = [[], [], false];
  });

  it("has them in the account of the environment that ci names, before the first release is there", async () => {
    expect(await delivered({ spec: ci(), pipelines })).toMatchObject({ status: "live" });
    expect(ranOn).toEqual(["Test on ecs in shop by shop-work"]);
    const { id, tidied_at } = await row();
    expect(tidied).toEqual([`${id} on ecs in shop by shop-work`]);
    expect(tidied_at).not.toBeNull();
  });

  it("stays where it began, whatever the settings are by then", async () => {
    await pushed({ spec: ci(), pipelines });
    const journal = newJournal();
    // Killed with the pipeline behind it and nothing of that on the record.
    await runAll(journal.life(2)).catch(() => undefined);
    await until("the pipeline is over", () => tidied.length > 0);
    const { id, runner } = await row();
    const before = JSON.stringify(runner).replaceAll("shop-work", "where-it-began");
    await store.db.updateTable("pipelines").set({ runner: before }).where("id", "=", id).execute();
    tidied = [];
    await runAll(journal.life());
    expect(tidied).toEqual([`${id} on ecs in shop by where-it-began`]);
  });

  it("is stopped before anything begins where the Terraform that gives the settings was never applied", async () => {
    const spec = `${SPEC}ci: { steps: ecs, environment: production }\nenvironments: { production: { branch: main, runtime: ecs, infra: { dir: infra } } }\n`;
    const end = await delivered({ spec, pipelines, files: { "infra/main.tf": "" } });
    expect(end).toMatchObject({ status: "stopped", at: "spec", problem: { code: "AWS_SETTINGS_INVALID" } });
    expect(end.problem?.hint).toContain(`\`shipway infra apply --app ${app} --env production\``);
    expect(ranOn).toEqual([]);
  });

  it("leaves to be tidied later what AWS could not be asked to remove", async () => {
    isAway = true;
    await delivered({ spec: ci(), pipelines });
    expect((await untidiedPipelines(store.db)).map((one) => one.app)).toContain(app);
    isAway = false;
    await forgetCi({ db: store.db, executorOf }, app);
    expect(tidied).toEqual([`${(await row()).id} on ecs in shop by shop-work`]);
  });
});

describe("images that were built elsewhere", () => {
  const recorded = () => store.db.selectFrom("releases").select("images").where("app", "=", app).executeTakeFirst();

  it("are brought to the engine for each deployment there, and tasks are started from what it calls them", async () => {
    builtElsewhere = true;
    expect(await delivered()).toMatchObject({ status: "live" });
    const image = (await recorded())?.images[0];
    expect(image?.reference).toBe(`ecr.example/web@${image?.digest}`);
    expect(published).toEqual([`web ${image?.reference} as ${image?.name}`]);
    const { release } = resolveRelease(await getRelease(store.db, app, 1), "production");
    const placed = await publishedRelease(store.db, release, { kind: "docker" });
    expect(placed.services[0]?.image).toBe(`engine:${image?.digest.slice(-8)}`);
    expect(await target.findDrift(place(), { live: { release: placed, variables: {} }, inProgress: [] })).toEqual([]);
    await delivered({ files: { "more.txt": "2" } });
    await requestRollback(store.db, place(), undefined, "ada");
    await runAll(newJournal().life());
    // An engine may have lost since what it had pulled: the rollback asks again.
    expect(published.filter((one) => one === published[0])).toHaveLength(2);
  });
});

describe("a push to a Shipway without a Docker Engine", () => {
  const READY = "services:\n  web:\n    image: shop:1\n    port: 3000\nbake: 0s\n";
  beforeEach(() => {
    hasEngine = false;
  });

  it("is refused with all that would need one, before anything is begun", async () => {
    const ended = await delivered({ pipelines: passing("echo ok") });
    expect(ended).toMatchObject({ status: "stopped", at: "spec", problem: { code: "DOCKER_MISSING" } });
    expect(ended.problem?.message).toBe(
      `${app} cannot be shipped from here: production has runtime: docker; the steps of its pipeline run on Docker; the image of web would be built on Docker, and this Shipway runs without a Docker Engine (\`shipway up --no-docker\`).`,
    );
    expect(ended.problem?.hint).toContain("shipway.yml");
    const rows = await Promise.all(
      (["pipelines", "releases"] as const).map((table) =>
        store.db.selectFrom(table).selectAll().where("app", "=", app).execute(),
      ),
    );
    expect(rows).toEqual([[], []]);
  });

  it("goes live on ECS where nothing of it needs one", async () => {
    expect(await delivered({ spec: READY + ECS })).toMatchObject({ status: "live" });
    expect(onEcs.answering(place(), "web")).toBe(1);
  });

  it("goes live when its pipeline is left out", async () => {
    const message = "Ship it [skip ci]";
    expect(await delivered({ spec: READY + ECS, pipelines: passing("echo ok"), message })).toMatchObject({
      status: "live",
    });
  });

  it("deploys nowhere and needs nothing, when no environment wants it and no pipeline is there", async () => {
    const elsewhere = "environments: { staging: { branch: develop } }\n";
    expect(await delivered({ spec: SPEC + elsewhere })).toMatchObject({ status: "nothing-to-deploy" });
  });

  it("can be rolled back only to what runs on ECS", async () => {
    hasEngine = true;
    await delivered();
    await delivered({ spec: READY + ECS });
    hasEngine = false;
    await requestRollback(store.db, place(), undefined, "ada");
    await runAll(newJournal().life());
    const rollbacks = store.db
      .selectFrom("deployments")
      .selectAll()
      .where("app", "=", app)
      .where("kind", "=", "rollback");
    const row = await rollbacks.executeTakeFirstOrThrow();
    expect(row).toMatchObject({ status: "failed", problem: { code: "DOCKER_MISSING" } });
    expect(await liveRelease()).toBe(2);
  });
});

const passing = (script: string) =>
  `image: any\npipelines:\n  default:\n    - step:\n        name: Unit\n        script: ["${script}"]\n`;
const place = () => ({ app, environment: "production" });
const liveRelease = async () =>
  (await store.db.selectFrom("environments").select("live_release").where("app", "=", app).executeTakeFirst())
    ?.live_release;

describe("a push", () => {
  it("is tested, built, recorded and live", async () => {
    expect(await delivered({ pipelines: passing("echo ok") })).toMatchObject({ status: "live" });
    expect([await liveRelease(), target.answering(place(), "web")]).toEqual([1, 1]);
  });

  it.each<[string, Push, object]>([
    [
      "without shipway.yml's required keys",
      { spec: "services: {}\n" },
      { status: "stopped", at: "spec", problem: { code: "SPEC_INVALID" } },
    ],
    [
      "that takes a variable from an output its code does not declare",
      {
        spec: SPEC + OUTPUTS,
        files: { "infra/main.tf": 'output "db_url" {}\n', "infra/x/x.tf": 'output "db_ulr" {}' },
      },
      { status: "stopped", at: "spec", problem: { code: "INFRA_OUTPUT_MISSING" } },
    ],
    [
      "whose pipelines file is wrong",
      { pipelines: "pipelines: 7\n" },
      { status: "stopped", at: "ci", problem: { code: "PIPELINES_INVALID" } },
    ],
    [
      "whose tests fail",
      { pipelines: passing("false") },
      { status: "stopped", at: "ci", problem: { code: "PIPELINE_FAILED" } },
    ],
    [
      "whose step has no image",
      { pipelines: passing("true").replace("any", "gone:unavailable") },
      { status: "stopped", at: "ci" },
    ],
    [
      "whose build fails",
      { spec: SPEC.replace("{}", "{ target: broken }") },
      { status: "stopped", at: "images", problem: { code: "BUILD_FAILED" } },
    ],
    [
      "whose Dockerfile is missing",
      { spec: SPEC.replace("{}", "{ dockerfile: Other }") },
      { status: "stopped", at: "images", problem: { code: "DOCKERFILE_MISSING" } },
    ],
    [
      "whose image cannot be had",
      { spec: SPEC.replace("build: {}", "image: missing/web:1") },
      { status: "stopped", at: "images", problem: { code: "IMAGE_UNAVAILABLE" } },
    ],
    [
      "that no environment is for",
      { spec: `${SPEC}environments:\n  production: { tag: "v*" }\n` },
      { status: "nothing-to-deploy" },
    ],
    [
      "that needs a secret nobody set",
      { spec: SPEC.replace("port:", "secrets: [API_KEY]\n    port:") },
      { status: "stopped", at: "rollout", problem: { code: "SECRET_MISSING" } },
    ],
  ])("%s ends there, with a reason and what to do", async (_, push, expected) => {
    const end = await delivered(push);
    expect(end).toMatchObject(expected);
    if (end.problem) expect(end.problem.hint ?? end.problem.message).toMatch(/\S/);
    expect(target.answering(place(), "web")).toBeUndefined();
    expect(logged).toEqual([]);
  });

  it("is not stopped by what another environment's code lacks", async () => {
    const elsewhere = OUTPUTS.replace("branch: main", "tag: v*").replace("production", "staging");
    const spec = `${SPEC}${elsewhere}  production: { branch: main }\n`;
    expect(await delivered({ spec, files: { "infra/main.tf": "" } })).toMatchObject({ status: "live" });
  });

  it("belongs to the app whose repository it came to", async () => {
    expect(await delivered({ spec: SPEC, files: { "shipway.yml": `app: other\n${SPEC}` } })).toMatchObject({
      at: "spec",
      problem: { code: "SPEC_INVALID", message: expect.stringContaining("other") },
    });
  });

  it("skips the tests when the commit says so, and is live", async () => {
    expect(await delivered({ pipelines: passing("false"), message: "Fix a word [skip ci]" })).toMatchObject({
      status: "live",
    });
  });

  it("that never becomes healthy leaves the release before it serving", async () => {
    await delivered();
    const end = await delivered({
      spec: SPEC.replace("build: {}", "image: shop:broken\n    health: { interval: 100ms, grace: 200ms }"),
    });
    expect(end).toMatchObject({ status: "stopped", at: "rollout", problem: { code: "ROLLOUT_FAILED" } });
    expect([await liveRelease(), target.answering(place(), "web")]).toEqual([1, 1]);
    const [failed] = await store.db
      .selectFrom("deployments")
      .selectAll()
      .where("app", "=", app)
      .where("release", "=", 2)
      .execute();
    expect(failed?.evidence).toMatchObject([{ service: "web", probes: [expect.stringContaining("500")] }]);
  });

  it("goes nowhere while the environment is frozen by a rollback, and says so", async () => {
    await delivered();
    await delivered({ files: { more: "1" } });
    await requestRollback(store.db, place(), undefined, "ada");
    await runAll(newJournal().life());
    expect([await liveRelease(), target.answering(place(), "web")]).toEqual([1, 1]);
    expect(await delivered({ files: { more: "2" } })).toMatchObject({ status: "nothing-to-deploy" });
    const notes = (await readEvents(store.db, { app, limit: 1_000 })).filter(({ kind }) => kind === "delivery.note");
    expect(notes.map(({ data }) => data.text)).toContainEqual(
      expect.stringMatching(/^production is frozen .*shipway resume/),
    );
    expect(await liveRelease()).toBe(1);
  });
});

describe("what is declared through the API", () => {
  const at = (environment: string) => ({ app, environment });
  const byHand = { branch: null, tag: null };
  const envOf = (task: string) => {
    const { env, secrets } = target.variablesOf(task) ?? { env: {}, secrets: {} };
    return { ...env, ...Object.fromEntries(Object.entries(secrets).map(([name, one]) => [name, one.reveal()])) };
  };

  it("is an environment that shipway.yml knows nothing of: a push goes there, and the release records its rules", async () => {
    await declareEnvironment(store.db, at("demo"), { branch: "main", tag: null }, "ada");
    await declareEnvironment(store.db, at("later"), byHand, "ada");
    await declareEnvironment(store.db, at("production"), { branch: "never", tag: null }, "ada");
    expect(await delivered()).toMatchObject({ status: "live" });
    expect([target.answering(at("demo"), "web"), target.answering(at("production"), "web")]).toEqual([1, 1]);
    expect(target.answering(at("later"), "web")).toBeUndefined();
    const { spec } = await getRelease(store.db, app, 1);
    expect(spec.environments).toMatchObject({ demo: { branch: "main" }, production: { branch: "main" } });
    await requestPromotion({ db: store.db, repositories }, at("later"), 1, "ada");
    await runAll(newJournal().life());
    expect(target.answering(at("later"), "web")).toBe(1);
  });

  it("reaches tasks in this order, the last wins: shipway.yml, variables, backing services, secrets; a rollback restores it", async () => {
    const spec = SPEC.replace("port:", "env: { A: yml, B: yml }\n    secrets: [D]\n    port:");
    for (const name of ["B", "CACHE_URL", "D"]) await setVariable(store.db, place(), name, "variable", "ada");
    await secrets.set(place(), "D", "secret", "ada");
    await newBackings({ db: store.db, secrets, target }).put(place(), "cache", { engine: "redis" }, { actor: "ada" });
    await delivered({ spec });
    const first = { B: "variable", CACHE_URL: "memory://cache", D: "secret" };
    expect(envOf(`${app}.production.web.r1-1`)).toEqual(first);
    await setVariable(store.db, place(), "B", "newer", "ada");
    await removeVariable(store.db, place(), "CACHE_URL", "ada");
    await setVariable(store.db, place(), "E", "new", "ada");
    await delivered({ spec, files: { more: "1" } });
    expect(envOf(`${app}.production.web.r2-1`)).toMatchObject({ B: "newer", E: "new" });
    target.lose(`${app}.production.web.r1-1`);
    await requestRollback(store.db, place(), undefined, "ada");
    await runAll(newJournal().life());
    expect(envOf(`${app}.production.web.r1-1`)).toEqual(first);
  });

  it("is a backing service that counts instead of shipway.yml's own, and the deployment says so and starts it again", async () => {
    const backings = newBackings({ db: store.db, secrets, target });
    await backings.put(place(), "cache", { engine: "redis", version: "7" }, { actor: "ada" });
    target.loseBacking(place(), "cache");
    await delivered({ spec: `${SPEC}backing:\n  cache: { engine: mysql }\n` });
    expect(await backings.get(place(), "cache")).toMatchObject({ engine: "redis", state: "running", version: "7" });
    const notes = (await readEvents(store.db, { app, limit: 1_000 })).filter(({ kind }) => kind === "rollout.note");
    expect(notes.map(({ data }) => data.text)).toContainEqual(expect.stringMatching(/^cache is the one declared/));
  });

  it("is refused where a service of the pushed commit has its name", async () => {
    await newBackings({ db: store.db, secrets, target }).put(place(), "web", { engine: "redis" }, { actor: "ada" });
    expect(await delivered()).toMatchObject({ at: "spec", problem: { code: "SPEC_INVALID" } });
  });
});

const GATED = "environments:\n  staging: { branch: main }\n  production: { tag: v*, approval: required }\n";
const approvedBy = async (who: string, id: string) => {
  await approveDeployment(store.db, id, who, undefined);
  await runAll(newJournal().life());
};
const waitingHere = async () => {
  const rows = await listDeployments(store.db, app, { status: "waiting", limit: 10 });
  expect(rows).toHaveLength(1);
  return rows[0]?.id ?? "";
};

describe("an environment with approval: required", () => {
  const promote = async (release: number) => {
    await requestPromotion({ db: store.db, repositories }, place(), release, "ada");
    await runAll(newJournal().life());
  };
  const dataOf = async (kind: string) =>
    (await readEvents(store.db, { app, limit: 1_000 })).findLast((event) => event.kind === kind)?.data;

  it("gets what ran in staging, the same bytes, once somebody said yes; until then the release before serves", async () => {
    await delivered({ spec: SPEC + GATED });
    await promote(1);
    expect(await dataOf("deployment.waiting")).toMatchObject({ release: 1, from: null, commits: [{}], more: 0 });
    await approvedBy("tess", await waitingHere());
    await delivered({ spec: SPEC + GATED, files: { more: "2" }, message: "Sell tickets" });
    await delivered({ spec: SPEC + GATED, files: { more: "3" }, message: "Sell more" });
    await promote(3);
    expect(target.answering(place(), "web")).toBe(1);
    expect(await dataOf("deployment.waiting")).toMatchObject({
      release: 3,
      from: 1,
      commits: [{ subject: "Sell more" }, { subject: "Sell tickets" }],
      takesBack: 0,
      ranIn: [{ environment: "staging", release: 3, status: "succeeded", isLive: true }],
    });
    await approvedBy("tess", await waitingHere());
    expect(target.answering(place(), "web")).toBe(3);
    await promote(2);
    const review = await reviewOf({ db: store.db, repositories }, place(), 2);
    expect(review).toMatchObject({
      from: 3,
      commits: [],
      takesBack: 1,
      ranIn: [{ environment: "staging", release: 2, isLive: false }],
    });
  });

  it("gets nothing of a release whose record was changed after it was approved", async () => {
    await delivered({ spec: SPEC + GATED });
    await promote(1);
    const id = await waitingHere();
    await approveDeployment(store.db, id, "tess", undefined);
    const forged = JSON.stringify([{ service: "web", name: "web", digest: "sha256:other", reused: false }]);
    await store.db.updateTable("releases").set({ images: forged }).where("app", "=", app).execute();
    await runAll(newJournal().life());
    const problem = { code: "APPROVAL_REFUSED" };
    expect(await getDeployment(store.db, id)).toMatchObject({ status: "failed", problem });
    expect(target.answering(place(), "web")).toBeUndefined();
  });
});

describe("what the team set for pipelines", () => {
  const steps = { pipelines: true as const };
  const deploying = [
    "image: any",
    "pipelines:",
    "  default:",
    "    - step: { name: Test, script: [echo $COLOR $TOKEN $KEY] }",
    "    - step: { name: Publish, deployment: Production, script: [echo $COLOR $TOKEN $KEY] }",
    "",
  ].join("\n");
  const printed = async () => {
    const { id } = await store.db.selectFrom("pipelines").select("id").where("app", "=", app).executeTakeFirstOrThrow();
    const logs = fileLogStore(join(dir, "logs"));
    const lines = await Promise.all(["1", "2"].map((step) => logs.read(stepLogId(id, step), 0, 10)));
    return lines.map((log) => log.filter(({ text }) => !text.startsWith("+ ")).map(({ text }) => text));
  };
  const setAll = async () => {
    await setVariable(store.db, { app, ...steps }, "COLOR", "red", "ada");
    await secrets.set({ app, ...steps }, "TOKEN", "t0ken-of-steps", "ada");
    await setVariable(store.db, { ...place(), ...steps }, "COLOR", "blue", "ada");
    await secrets.set({ ...place(), ...steps }, "KEY", "k3y-of-production", "ada");
    await secrets.set(place(), "TOKEN", "t0ken-of-tasks", "ada");
  };

  it("reaches their steps, with a deployment's own only those of that deployment, and secrets masked", async () => {
    await setAll();
    expect(await delivered({ pipelines: deploying })).toMatchObject({ status: "live" });
    expect(await printed()).toEqual([["red **** "], ["blue **** ****"]]);
  });

  it("stays as it was when the pipeline began, after a crash as well", async () => {
    await setAll();
    const change = await getChange(store.db, await pushed({ pipelines: deploying }));
    const values = await newestVersions({ db: store.db, secrets }, app, ["production"]);
    await openPipeline(store.db, change, [], { values });
    await setVariable(store.db, { app, ...steps }, "COLOR", "green", "ada");
    await secrets.remove({ ...place(), ...steps }, "KEY", "ada");
    await runAll(newJournal().life());
    expect(await printed()).toEqual([["red **** "], ["blue **** ****"]]);
  });

  it("is not for a branch that the environment does not take, whatever that branch's own shipway.yml says", async () => {
    await delivered();
    const spec = `${SPEC}environments: { production: { branch: "**" } }\n`;
    expect(await delivered({ branch: "mine", pipelines: deploying, spec })).toMatchObject({ status: "live" });
    await setAll();
    ranOn = [];
    const { at, problem } = await delivered({ branch: "mine", pipelines: deploying, spec });
    expect({ at, code: problem?.code, ranOn }).toEqual({ at: "ci", code: "PIPELINE_VALUES_MISSING", ranOn: [] });
    expect(problem?.message).toMatch(/yml:5:42 .*for branch main only, as main has it, not for branch mine$/m);
  });

  it("is for the branch that an environment takes which the API declares, and for no push of one without a rule", async () => {
    await delivered();
    const demo = { app, environment: "demo" };
    await setVariable(store.db, { ...demo, ...steps }, "COLOR", "green", "ada");
    const pipelines = deploying.replace("Production", "demo");
    const push = async (branch: string | null) => {
      await declareEnvironment(store.db, demo, { branch, tag: null }, "ada");
      return (await delivered({ branch: "mine", pipelines })).problem?.message;
    };
    expect(await push(null)).toMatch(/of demo are for no push: demo is deployed by hand only, as main has it$/m);
    expect(await push("mine")).toBeUndefined();
    expect(await printed()).toEqual([["  "], ["green  "]]);
  });

  it("is asked for before anything begins where a login needs it, under the line and with the command", async () => {
    const login = "image: { name: r.example/a, username: $REGISTRY_USER, password: $REGISTRY_PASSWORD }";
    await setVariable(store.db, { app, ...steps }, "REGISTRY_USER", "ada", "ada");
    ranOn = [];
    const { problem } = await delivered({ pipelines: deploying.replace("image: any", login) });
    expect({ code: problem?.code, ranOn }).toEqual({ code: "PIPELINE_VALUES_MISSING", ranOn: [] });
    expect(problem?.message).toContain("bitbucket-pipelines.yml:1:65");
    expect(problem?.hint).toContain(`shipway secret set REGISTRY_PASSWORD --app ${app} --pipelines\n`);
    expect(problem?.hint).not.toContain("REGISTRY_USER");
  });
});

describe("a manual step", () => {
  const pipelines = [
    "image: any",
    "pipelines:",
    "  default:",
    "    - step: { name: Test, script: [echo tested] }",
    "    - parallel:",
    "        - step: { name: Check, script: [echo checked] }",
    "        - step: { name: Ship, trigger: manual, deployment: production, script: [echo shipped] }",
    "    - step: { name: After, script: [echo after] }",
    "    - step: { name: Last, trigger: manual, script: [echo last] }",
    "",
  ].join("\n");
  const ada: Identity = { tokenId: "t", name: "ada", role: "developer", app: null };
  const row = () =>
    store.db.selectFrom("pipelines").selectAll().where("app", "=", app).orderBy("number").executeTakeFirstOrThrow();
  const start = async (step?: string, who = ada) =>
    requestContinuation({ store, repositories, secrets }, (await row()).id, step, who);
  const names = () => ranOn.map((text) => text.split(" on ")[0]);
  beforeEach(() => {
    [ranOn, tidied, isAway] = [[], [], false];
  });

  it("pauses the run, holds nothing else up, and goes on with what was kept once somebody starts it", async () => {
    expect(await delivered({ pipelines })).toMatchObject({ status: "live" });
    const paused = await row();
    expect([paused.status, paused.gates]).toEqual(["paused", [{ id: "2.2", name: "Ship", deployment: "production" }]]);
    await delivered({ pipelines, files: { more: "1" } });
    expect(names()).toEqual(["Test", "Check", "Test", "Check"]);
    await start("Ship");
    await runAll(newJournal().life());
    expect(names().slice(4)).toEqual(["Ship", "After"]);
    expect([(await row()).status, (await row()).gates]).toEqual(["paused", [{ id: "4", name: "Last" }]]);
    // Artifacts are there until nothing can need them any more.
    expect(tidied).toEqual([]);
    await start();
    await runAll(newJournal().life());
    expect([(await row()).status, names().at(-1)]).toEqual(["passed", "Last"]);
    expect(tidied).toEqual([`${(await row()).id} on docker`]);
    await expect(start()).rejects.toMatchObject({ code: "PIPELINE_NOT_PAUSED" });
  });

  it("is started once, by name, and by one of two", async () => {
    await delivered({ pipelines });
    await expect(start("Shpi")).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    const both = await Promise.allSettled([start(), start()]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    await expect(start()).rejects.toThrow(/it is running/);
  });

  it("that deploys where releases need an approval is started by a tester who did not push", async () => {
    await pushed({ spec: `${SPEC}environments:\n  production: { branch: main, approval: required }\n`, pipelines });
    await runAll(newJournal().life());
    await store.db.deleteFrom("tokens").execute();
    await createToken(store.db, { name: "tess", role: "tester" }, "root");
    await expect(start()).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(start("Ship", { ...ada, role: "tester" })).rejects.toMatchObject({ code: "APPROVAL_REFUSED" });
    expect(await start("Ship", { ...ada, name: "tess", role: "tester" })).toBeDefined();
  });

  it("that Shipway cannot run is told at the push, runs nothing else, and is refused with its line when it is started", async () => {
    await delivered({ pipelines: pipelines.replace("[echo shipped]", "[{ pipe: atlassian/ssh-run:0.4.0 }]") });
    await expect(start()).rejects.toMatchObject({
      code: "PIPELINES_INVALID",
      message: expect.stringContaining("pipes are not supported yet"),
    });
    expect((await row()).status).toBe("paused");
  });

  it("gets what the team has set for its deployment by the time it is started", async () => {
    await delivered({ pipelines: pipelines.replace("echo shipped", "echo $KEY") });
    await setVariable(store.db, { ...place(), pipelines: true }, "KEY", "set since", "ada");
    await start();
    await runAll(newJournal().life());
    const log = await fileLogStore(join(dir, "logs")).read(stepLogId((await row()).id, "2.2"), 0, 10);
    expect(log.map(({ text }) => text)).toContain("set since");
  });

  it("waits again where something else than its script kept it from being run", async () => {
    await delivered({
      pipelines: pipelines.replace("production, script", "production, image: gone:unavailable, script"),
    });
    await start();
    await runAll(newJournal().life());
    expect(await row()).toMatchObject({ status: "paused", started_gates: [], gates: [{ id: "2.2" }] });
    await start();
  });

  it("is given up after as many days as its artifacts are kept", async () => {
    await delivered({ pipelines });
    const inDays = (days: number) => new Date(Date.now() + days * 86_400_000);
    await endPaused({ store, executorOf }, inDays(13));
    expect((await row()).status).toBe("paused");
    await endPaused({ store, executorOf }, inDays(15));
    expect(await row()).toMatchObject({ status: "passed", reason: '"Ship" was not started within 14 days' });
    expect(tidied).toContain(`${(await row()).id} on docker`);
  });

  it("survives a kill at the end of any step, before it was started and after", async () => {
    const killedAt = async (dieAt: number): Promise<boolean> => {
      app = `shop${++apps}`;
      target = memoryTarget();
      ranOn = [];
      await createApp(store.db, repositories, app, "ada");
      const deliveryId = await pushed({ pipelines });
      const journal = newJournal();
      const lives = async (left: number) => {
        if (
          await runAll(journal.life(left)).then(
            () => true,
            () => false,
          )
        )
          return false;
        await runAll(journal.life());
        return true;
      };
      let died = await lives(dieAt);
      const before = died ? Number.POSITIVE_INFINITY : journal.steps();
      expect((await row()).status).toBe("paused");
      await start();
      died = (await lives(dieAt - before)) || died;
      expect((await row()).status).toBe("paused");
      expect(names().filter((name) => name === "Ship")).toHaveLength(1);
      const kinds = (await readEvents(store.db, { deliveryId, limit: 1_000 })).map(({ kind }) => kind);
      expect(kinds.filter((kind) => kind === "ci.pipelinePaused")).toHaveLength(2);
      expect(kinds.filter((kind) => kind === "delivery.ended")).toHaveLength(1);
      return died;
    };
    let steps = 0;
    while (await killedAt(steps + 1)) steps += 1;
    expect(steps).toBeGreaterThan(8);
  }, 60_000);
});

describe("a kill at the end of any step", () => {
  it("before or after an approval repeats nothing, and forgets neither what waits nor who approved it", async () => {
    const spec = `${SPEC}environments:\n  production: { branch: main, approval: required }\n`;
    /** Killed at the end of its nth step; false when there are fewer. */
    const killedAt = async (dieAt: number): Promise<boolean> => {
      app = `shop${++apps}`;
      target = memoryTarget();
      await createApp(store.db, repositories, app, "ada");
      const deliveryId = await pushed({ spec });
      const journal = newJournal();
      const asked = await runAll(journal.life(dieAt)).then(
        () => true,
        () => false,
      );
      if (!asked) await runAll(journal.life());
      const id = await waitingHere();
      expect(target.effects).toEqual([]);
      await approveDeployment(store.db, id, "tess", undefined);
      const toDie = asked ? dieAt - journal.steps() : Number.POSITIVE_INFINITY;
      const ended = await runAll(journal.life(toDie)).then(
        () => true,
        () => false,
      );
      if (!ended) await runAll(journal.life());
      const events = await readEvents(store.db, { deliveryId, limit: 1_000 });
      const kinds = [
        "deployment.waiting",
        "delivery.waiting",
        "deployment.approved",
        "deployment.started",
        "delivery.ended",
      ];
      expect(kinds.map((kind) => events.filter((event) => event.kind === kind).length)).toEqual([1, 1, 1, 1, 1]);
      expect(target.effects.filter((effect) => /^(start|shift)/.test(effect))).toHaveLength(2);
      expect(await liveRelease()).toBe(1);
      return !asked || !ended;
    };
    let steps = 0;
    while (await killedAt(steps + 1)) steps += 1;
    expect(steps).toBeGreaterThan(8);
  }, 60_000);

  it("loses nothing and repeats no effect", async () => {
    const counting = newJournal();
    const deliveryId = await pushed({ pipelines: passing("echo ok") });
    await runAll(counting.life());
    const total = counting.steps();
    expect(total).toBeGreaterThan(8);
    expect(await deploymentsOf(deliveryId)).toHaveLength(1);
    for (let dieAt = 1; dieAt <= total; dieAt++) {
      app = `shop${++apps}`;
      target = memoryTarget();
      await createApp(store.db, repositories, app, "ada");
      const id = await pushed({ pipelines: passing("echo ok") });
      const journal = newJournal();
      await expect(runAll(journal.life(dieAt)), `step ${dieAt}`).rejects.toThrow(Killed);
      await runAll(journal.life());
      const events = await readEvents(store.db, { deliveryId: id, limit: 1_000 });
      const count = (kind: string) => events.filter((event) => event.kind === kind).length;
      expect(
        {
          ends: events.filter(({ kind }) => kind === "delivery.ended").map(({ data }) => data.status),
          releases: count("release.recorded"),
          deployments: [count("deployment.queued"), count("deployment.ended")],
          starts: target.effects.filter((effect) => effect.startsWith("start")).length,
          shifts: target.effects.filter((effect) => effect.startsWith("shift")).length,
          live: await liveRelease(),
        },
        `killed at the end of step ${dieAt}`,
      ).toEqual({ ends: ["live"], releases: 1, deployments: [1, 1], starts: 1, shifts: 1, live: 1 });
    }
  }, 60_000);
});
