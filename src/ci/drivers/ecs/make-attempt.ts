import { randomBytes } from "node:crypto";
import { CACHE_EXPIRES_AFTER_MS, placeOf, versionOf } from "../../cache-version.ts";
import type { StepPlan } from "../../executor.ts";
import { expandVariables } from "../../step-environment.ts";
import { taskSizeOf } from "../../step-size.ts";
import type { Attempt } from "./attempts.ts";
import { hexHash, secretNameOf, tagsOfStep } from "./names.ts";
import type { Addresses, Order } from "./order.ts";
import { type KeptByScript, renderTaskScripts } from "./start-script.ts";
import type { StepRun } from "./step-run.ts";
import { SERVICE_START_S, STEP, serviceContainer, type TaskInput, taskDefinitionOf } from "./task-definition.ts";
import { noteTemporary } from "./temporary.ts";

/** What a step gets of its caches, and what of them is to be kept. */
type Caches = Pick<Order, "caches" | "cachesToKeep" | "remarks"> & {
  mounts: string[];
  keptByScript: KeptByScript[];
  /** Where each is kept, by name. */
  objects: Record<string, string>;
};

/** `~` of a step, whose image nobody here has seen. */
const HOME = "/root";
/** A signed address is valid for a week at most (Amazon S3 user guide, presigned URLs), and no longer than the credentials it is signed with. */
const MOST_EXPIRY_S = 7 * 24 * 3_600;
const SPARE_EXPIRY_S = 3_600;
/** Pulling a large image comes before its container begins. */
const BEGIN_WITHIN_MS = 15 * 60_000 + SERVICE_START_S * 1_000;

/** Brings everything that a task for the step needs to where it will look for it, and says how to start one. Nothing of the step runs by this. */
export async function makeAttempt(
  run: StepRun,
  number: number,
  begunAt: number,
  signal: AbortSignal,
): Promise<Attempt> {
  const { account, bucket, checkouts, context, key, step } = run;
  const [checkout, artifacts, caches, agent, sealed] = await Promise.all([
    step.clone.enabled ? checkouts.ensure(context, step.clone, signal) : undefined,
    earlierArtifacts(run),
    resolveCaches(run),
    run.agentKey(),
    sealValues(run),
    account.ensureLogGroup(key.app),
  ]);
  signal.throwIfAborted();
  const nonce = randomBytes(12).toString("hex");
  const definition = taskDefinitionOf({ ...taskOf(run, sealed.byContainer), mounts: caches.mounts });
  // With the address of a secret in it, it is of use to this step alone.
  if (sealed.secrets.length > 0) {
    const { secrets } = sealed;
    await noteTemporary(bucket, stepPrefixOf(run), { secrets, family: definition.family ?? "" });
  }
  const taskDefinition = await account.ensureDefinition(definition);
  const orderKey = orderKeyOf(run, number);
  const expiresS = expiryOf(run);
  const { scripts, unusable } = renderTaskScripts(step, nonce, run.environment, caches.keptByScript);
  const order: Order = {
    program: await bucket.addressToGet(agent, expiresS),
    checkout:
      checkout === undefined
        ? null
        : {
            address: await bucket.addressToGet(checkout, expiresS),
            what: `${context.refName} at ${context.commit.slice(0, 10)}`,
          },
    artifacts: await Promise.all(
      artifacts.map(async ({ name, key }) => ({ name, address: await bucket.addressToGet(key, expiresS) })),
    ),
    step: {
      stage: step.stage,
      artifacts: step.artifacts,
      maxTimeMs: step.maxTimeMs,
      ...(step.downloadArtifacts && { downloadArtifacts: step.downloadArtifacts }),
    },
    caches: caches.caches,
    cachesToKeep: caches.cachesToKeep,
    remarks: [
      ...caches.remarks,
      ...unusable.map((name) => `the variable ${name} is not handed over: a shell has none of that name`),
    ],
    scripts,
    openToAll: step.runAsUser !== undefined && step.runAsUser !== 0,
    secrets: Object.values(context.secrets).map((secret) => secret.reveal()),
    addresses: await signAddresses(run, number, caches.objects),
    beginWithinMs: BEGIN_WITHIN_MS,
  };
  await bucket.put(orderKey, JSON.stringify(order));
  run.remark(startText(step));
  return {
    number,
    begunAt,
    nonce,
    linesBefore: run.logged(),
    taskDefinition,
    token: hexHash(`${key.install}/${key.runId}/${key.stepId}/${number}`),
    orderAddress: await bucket.addressToGet(orderKey, expiresS),
    cacheObjects: caches.objects,
  };
}

function startText(step: StepPlan): string {
  const size = taskSizeOf(step);
  const beside = step.services.length === 0 ? "" : ` with ${step.services.map(({ name }) => name).join(", ")}`;
  return `starting a task on Fargate${beside}: ${(size?.cpu ?? 0) / 1_024} vCPU, ${size?.memoryMiB} MiB`;
}

export const stepPrefixOf = ({ keys, key }: Pick<StepRun, "keys" | "key">): string => keys.step(key.runId, key.stepId);
export const orderKeyOf = (run: StepRun, number: number): string => `${stepPrefixOf(run)}order-${number}.json`;
export const resultKeyOf = (run: StepRun, number: number): string => `${stepPrefixOf(run)}result-${number}.json`;
const addressesKeyOf = (run: StepRun, number: number): string => `${stepPrefixOf(run)}addresses-${number}.json`;

const expiryOf = ({ step }: StepRun): number =>
  Math.min(MOST_EXPIRY_S, Math.ceil(step.maxTimeMs / 1_000) + SPARE_EXPIRY_S);

/** Addresses for what the task leaves, as they are now. */
async function signAddresses(run: StepRun, number: number, objects: Record<string, string>): Promise<Addresses> {
  const { bucket, key, keys, step } = run;
  const expiresS = expiryOf(run);
  const caches = await Promise.all(
    Object.entries(objects).map(async ([name, object]) => [name, await bucket.addressToPut(object, expiresS)] as const),
  );
  return {
    artifacts:
      step.artifacts.length === 0 ? null : await bucket.addressToPut(keys.artifactsOf(key.runId, step), expiresS),
    caches: Object.fromEntries(caches),
    result: await bucket.addressToPut(resultKeyOf(run, number), expiresS),
    again: await bucket.addressToGet(addressesKeyOf(run, number), expiresS),
  };
}

/** For the running task to find. */
export async function refreshAddresses(run: StepRun, { number, cacheObjects }: Attempt): Promise<void> {
  const addresses = await signAddresses(run, number, cacheObjects);
  await run.bucket.put(addressesKeyOf(run, number), JSON.stringify(addresses));
}

async function earlierArtifacts({ bucket, keys, key, step }: StepRun): Promise<{ name: string; key: string }[]> {
  if (step.downloadArtifacts?.length === 0) return [];
  const prefix = keys.artifacts(key.runId);
  return (await bucket.list(prefix))
    .map((object) => ({ name: object.key.slice(prefix.length).replace(/\.tar\.gz$/, ""), key: object.key }))
    .filter(({ name }) => Number(name.split(".")[0]) < step.stage);
}

async function resolveCaches(run: StepRun): Promise<Caches> {
  const { bucket, checkouts, context, keys, step, now } = run;
  const all: Caches = { caches: [], cachesToKeep: [], remarks: [], mounts: [], keptByScript: [], objects: {} };
  for (const cache of step.caches) {
    const { name } = cache;
    const version = await versionOf(cache, async (globs) =>
      step.clone.enabled ? checkouts.hashKeyFiles(context, globs) : undefined,
    );
    if (version === undefined) {
      all.remarks.push(`cache ${name}: none of its key files exists, so it is not used`);
      continue;
    }
    const place = placeOf(cache.path, HOME);
    const object = keys.cache(context.app, version);
    const found = await bucket.find(object);
    const isFresh = found !== undefined && now() - found.modifiedAt <= CACHE_EXPIRES_AFTER_MS;
    if (isFresh) {
      const mount = `mount${all.mounts.length}`;
      if (place.kind === "container") all.mounts.push(place.path);
      const into = place.kind === "checkout" ? place : { kind: "mount" as const, mount };
      all.caches.push({ name, address: await bucket.addressToGet(object, expiryOf(run)), into });
      continue;
    }
    all.remarks.push(
      found === undefined ? `cache ${name}: nothing kept yet` : `cache ${name}: older than 7 days, made anew`,
    );
    all.objects[name] = object;
    if (place.kind === "container") all.keptByScript.push({ path: place.path, dir: version });
    const from = place.kind === "checkout" ? place : { kind: "kept" as const, dir: version };
    all.cachesToKeep.push({ name, from });
  }
  return all;
}

/**
 * Everybody who may look at the account reads definitions. So what a service gets of the run's secrets, and logins to registries, are put into Secrets Manager
 * for as long as the run is there; the task's execution role reads them from there.
 */
async function sealValues(run: StepRun): Promise<{ secrets: string[]; byContainer: TaskInput["sealed"] }> {
  const { account, bucket, key } = run;
  const wanted = valuesToSeal(run);
  const secrets = wanted.map(({ name }) => name);
  if (wanted.length === 0) return { secrets, byContainer: {} };
  await noteTemporary(bucket, stepPrefixOf(run), { secrets });
  const byContainer: TaskInput["sealed"] = {};
  for (const { name, container, value, kind } of wanted) {
    const arn = await account.putSecret(name, value, tagsOfStep(key));
    const sealed = kind === "login" ? { login: arn } : { variables: { arn, names: Object.keys(value) } };
    byContainer[container] = { ...byContainer[container], ...sealed };
  }
  return { secrets, byContainer };
}

type ToSeal = { name: string; container: string; kind: "login" | "variables"; value: Record<string, string> };

function valuesToSeal(run: StepRun): ToSeal[] {
  const { environment, key, step } = run;
  const toSeal = (container: string, kind: ToSeal["kind"], value: Record<string, string>): ToSeal => ({
    name: secretNameOf(key, `${container}-${kind}`),
    container,
    kind,
    value,
  });
  const logins = [
    { container: STEP, login: step.login },
    ...step.services.map(({ name, login }) => ({ container: serviceContainer(name), login })),
  ].flatMap(({ container, login }) => {
    if (login === undefined) return [];
    const username = expandVariables(login.username, environment);
    return toSeal(container, "login", { username, password: expandVariables(login.password, environment) });
  });
  const variables = step.services.flatMap((service) => {
    const value = secretVariables(run, service.variables);
    return Object.keys(value).length === 0 ? [] : toSeal(serviceContainer(service.name), "variables", value);
  });
  return [...logins, ...variables];
}

/** Those that have the value of a secret in them, expanded. */
function secretVariables({ context, environment }: StepRun, variables: Record<string, string>): Record<string, string> {
  const withoutSecrets = Object.fromEntries(
    Object.entries(environment).filter(([name]) => !Object.hasOwn(context.secrets, name)),
  );
  return Object.fromEntries(
    Object.entries(variables)
      .filter(([, value]) => expandVariables(value, environment) !== expandVariables(value, withoutSecrets))
      .map(([name, value]) => [name, expandVariables(value, environment)]),
  );
}

function taskOf(run: StepRun, sealed: TaskInput["sealed"]): Omit<TaskInput, "mounts"> {
  const { environment, key, settings, step } = run;
  return {
    install: key.install,
    app: key.app,
    settings,
    step,
    services: step.services.map(({ name, image, memoryMiB, variables }) => {
      const expanded = Object.entries(variables).map(([one, value]) => [one, expandVariables(value, environment)]);
      return { name, image, memoryMiB, variables: Object.fromEntries(expanded) as Record<string, string> };
    }),
    sealed,
  };
}
