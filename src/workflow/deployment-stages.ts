import type { AccountSecrets } from "../aws/account-secrets.ts";
import type { Sealer } from "../environment/sealing.ts";
import { storedSecretNames, type UsedSecret } from "../environment/secret-sources.ts";
import type { Secrets } from "../environment/secrets.ts";
import { resolveVariables } from "../environment/variables.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { LogStore } from "../events/log-store.ts";
import { maskQuotes, newMask, SHORTEST_MASKED } from "../events/mask-secrets.ts";
import type { Stages } from "../flow.ts";
import type { ImagePublisher } from "../image/publisher.ts";
import type { InfraCode } from "../infra/infra-code.ts";
import { findOutputs, outputText, outputVariables } from "../infra/outputs.ts";
import { findInfra, type StartedRun } from "../infra/runs.ts";
import {
  type Deployment,
  type DeploymentResult,
  endDeployment,
  frameOf,
  getDeployment,
  isCancelRequested,
  markLive,
} from "../release/deployments.ts";
import { deploymentLogId } from "../release/log-ids.ts";
import { getRelease } from "../release/releases.ts";
import { addressesOf, resolveRelease } from "../release/resolve-release.ts";
import { moveTo, publishedRelease, recordRuntime } from "../release/runtimes.ts";
import type { RolloutEvent, RolloutOutcome } from "../rollout/outcome.ts";
import type { TargetOf } from "../rollout/placed-target.ts";
import type { Place } from "../rollout/release.ts";
import { rollOut } from "../rollout/run.ts";
import { type RuntimeSettings, runtimeKey, runtimeOf } from "../rollout/runtime.ts";
import type { BackingVariables, RolloutTarget, TaskVariables } from "../rollout/target.ts";
import { assertNever } from "../shared/assert-never.ts";
import { formatDurationMs } from "../shared/duration.ts";
import { ERRORS, errorCode, hasCode, type Problem, toProblem } from "../shared/errors.ts";
import type { LogSink } from "../shared/log-line.ts";
import { Secret } from "../shared/secret.ts";
import type { Repositories } from "../source/repositories.ts";
import type { EnvironmentSpec } from "../spec/app-spec.ts";
import type { Store } from "../store/open-store.ts";
import type { DeployedInfra } from "../store/schema.ts";
import { chooseAccountSecrets, usedSecrets, valuesFrom } from "./account-secrets.ts";
import { backingOf, type EnvironmentBacking } from "./backings.ts";
import { bringImages } from "./bring-images.ts";
import type { DurableStep, Logger } from "./durable.ts";
import { provision } from "./provision-stage.ts";

export type DeploymentDeps = {
  store: Store;
  secrets: Secrets;
  sealer: Sealer;
  repositories: Repositories;
  code: InfraCode;
  startInfra(run: StartedRun): Promise<void>;
  logs: LogStore;
  targetOf: TargetOf;
  /** Undefined where images need not be brought, or cannot be. */
  publisherOf?: (runtime: RuntimeSettings) => Pick<ImagePublisher, "publish"> | undefined;
  /** Undefined where a runtime has no account with secrets. */
  accountSecretsOf?: (runtime: RuntimeSettings) => AccountSecrets | undefined;
  /** Where the apps answer. */
  httpPort: number;
  startDeployment(id: string): Promise<void>;
  log: Logger;
};

type DeploymentStages = Pick<Stages, "openDeployment" | "provision" | "rollOut" | "endDeployment" | "stoppedAt">;

/** How soon a running deployment notices that somebody canceled it. */
const CANCEL_POLL_MS = 300;

/** The stages of `deploy`. */
export function newDeploymentStages(deps: DeploymentDeps, step: DurableStep): DeploymentStages {
  return {
    openDeployment: (id) => getDeployment(deps.store.db, id),
    provision: (deployment) => provision({ ...deps, db: deps.store.db }, deployment, step),
    stoppedAt: (deployment, phase, problem) => ({
      status: problem.code === "CANCELED" ? "canceled" : "failed",
      live: deployment.from_release,
      standby: undefined,
      standbyMs: 0,
      phases: [],
      phase,
      problem: withDeploy(deployment, problem),
      evidence: [],
      rolledBack: false,
    }),
    rollOut: (deployment) => rollOutDeployment(deps, deployment, step),
    endDeployment: async (deployment, result) => {
      const next = await step("end-deployment", () =>
        endDeployment(deps.store.db, deployment.id, result).then((id) => id ?? null),
      );
      if (next !== null) await deps.startDeployment(next);
    },
  };
}

async function rollOutDeployment(
  deps: DeploymentDeps,
  deployment: Deployment,
  step: DurableStep,
): Promise<DeploymentResult> {
  const place = { app: deployment.app, environment: deployment.environment };
  const canceling = watchCancel(deps, deployment.id);
  const mask = await maskOf(deps, deployment);
  const logs = openLogs(deps, deployment, mask);
  const write = eventWriter(deps, deployment);
  const emit = (event: RolloutEvent & { addresses?: string[] }) => write(maskQuotes(event, mask));
  try {
    const record = await getRelease(deps.store.db, place.app, deployment.release);
    const { release: resolved, environmentSpec } = resolveRelease(record, place.environment);
    const outputs = await outputValues(deps, place, environmentSpec);
    const runtime = runtimeOf(place, environmentSpec, outputs);
    await recordRuntime(deps.store.db, place, runtime);
    const note = (text: string) => emit({ kind: "note", text });
    const accountSecrets = await chooseAccountSecrets(deps, deployment, {
      spec: environmentSpec,
      runtime,
      outputs,
      note,
    });
    const names = new Map(record.images.map(({ service, name }) => [service, name]));
    const target = deps.targetOf(runtime);
    const backing = await backingOf({ ...deps, db: deps.store.db }, place, environmentSpec);
    const addresses = target.backingVariables(place, backing.all);
    const [variables, before] = await Promise.all([
      variablesOf(deps, deployment, environmentSpec, { backing: addresses, accountSecrets }),
      findPrevious(deps, deployment, addresses),
    ]);
    // After everything that can be refused at once: to bring an image may take minutes.
    const { release, phases } = await bringImages(
      {
        db: deps.store.db,
        publisher: deps.publisherOf?.(runtime),
        names,
        step,
        log: logs.sink("images"),
        emit,
      },
      resolved,
      runtime,
    );
    const broughtMs = phases.reduce((all, { durationMs }) => all + durationMs, 0);
    // A release that serves elsewhere is not replaced but left: it serves until the names lead here, for as long as a standby is kept.
    const isMoved = before !== undefined && runtimeKey(before.runtime) !== runtimeKey(runtime);
    const previous = isMoved ? undefined : before;
    if (isMoved) await note(movedText(before.release.number, environmentSpec));
    const outcome = await rollOut(
      {
        place,
        deploymentId: deployment.id,
        kind: deployment.kind,
        release,
        ...(previous && { previous }),
        verify: environmentSpec.verify,
        bakeMs: environmentSpec.bakeMs,
      },
      {
        target,
        ensureBacking: (signal) => ensureBacking(target, place, backing, { log: logs.sink("backing"), emit, signal }),
        variables,
        durable: step,
        onEvent: async (event) => {
          if (event.kind !== "live") return emit(event);
          const afterMs = event.afterMs + broughtMs;
          const addresses = addressesOf(release, deps.httpPort);
          await markLive(deps.store.db, deployment, afterMs, addresses);
          await moveTo(deps.store.db, place, runtime);
          await emit({ ...event, afterMs, addresses });
        },
        log: logs.sink,
        signal: canceling.signal,
        isCanceled: () => isCancelRequested(deps.store.db, deployment.id),
        now: Date.now,
      },
    );
    if (isMoved && outcome.status !== "done") await moveTo(deps.store.db, place, before.runtime);
    const timed = { ...outcome, phases: [...phases, ...outcome.phases] };
    const result = resultOf(deployment, environmentSpec, timed);
    return maskQuotes(
      isMoved && outcome.status === "done" ? { ...result, standby: deployment.from_release } : result,
      mask,
    );
  } catch (error) {
    return maskQuotes(brokenResult(deps, deployment, error), mask);
  } finally {
    canceling.stop();
    await logs.close();
  }
}

function watchCancel(deps: DeploymentDeps, id: string): { signal: AbortSignal; stop(): void } {
  const controller = new AbortController();
  const timer = setInterval(async () => {
    if (await isCancelRequested(deps.store.db, id).catch(() => false))
      controller.abort(new Error("the deployment was canceled"));
  }, CANCEL_POLL_MS);
  return { signal: controller.signal, stop: () => clearInterval(timer) };
}

function openLogs(
  deps: DeploymentDeps,
  deployment: Deployment,
  mask: (text: string) => string,
): { sink(name: string): LogSink; close(): Promise<void> } {
  const writers = new Map<string, ReturnType<LogStore["open"]>>();
  const sink =
    (name: string): LogSink =>
    (lines) => {
      const writer = writers.get(name) ?? deps.logs.open(deploymentLogId(deployment.id, name), mask);
      writers.set(name, writer);
      void writer.then((opened) => opened.sink(lines));
    };
  return {
    sink,
    close: async () => void (await Promise.all([...writers.values()].map(async (writer) => (await writer).close()))),
  };
}

function eventWriter(deps: DeploymentDeps, deployment: Deployment) {
  return (event: RolloutEvent & { addresses?: string[] }) =>
    appendEvent(deps.store.db, frameOf(deployment), {
      kind: `rollout.${event.kind}`,
      data: { ...event, deploymentId: deployment.id, release: deployment.release },
    });
}

/** Says what is waited for when it takes long: a database that prepares its data directory needs seconds. */
async function ensureBacking(
  target: RolloutTarget,
  place: Place,
  { all, overruled }: EnvironmentBacking,
  { log, emit, signal }: { log: LogSink; emit(event: RolloutEvent): Promise<void>; signal: AbortSignal | undefined },
): Promise<void> {
  for (const name of overruled) {
    await emit({
      kind: "note",
      text: `${name} is the one declared through the API; what shipway.yml says of it under backing does not count here`,
    });
  }
  const names = all.map(({ name }) => name).join(" and ");
  const slow = setTimeout(() => void emit({ kind: "note", text: `starting ${names}` }), 500);
  await target.ensureBacking(place, all, log, signal).finally(() => clearTimeout(slow));
}

/**
 * What each service's tasks are started with, beside what shipway.yml says. The last wins: variables, backing services' addresses, outputs, secrets. Secrets
 * and variables have the versions of this deployment.
 */
async function variablesOf(
  deps: DeploymentDeps,
  deployment: Deployment,
  spec: EnvironmentSpec,
  { backing, accountSecrets }: { backing: BackingVariables; accountSecrets: Record<string, UsedSecret> },
): Promise<Record<string, TaskVariables>> {
  const names = storedSecretNames(Object.values(spec.services), spec.secretSources);
  const restored = deployment.kind === "rollback" ? await versionsOf(deps, deployment) : undefined;
  const kept = Object.keys(deployment.secret_versions).length > 0 ? deployment.secret_versions : restored?.secrets;
  const [{ values, versions }, variables, outputs] = await Promise.all([
    deps.secrets.resolve(deployment, names, kept),
    resolveVariables(deps.store.db, deployment, deployment.variable_versions ?? restored?.variables),
    outputsOf(deps, deployment, spec),
  ]);
  await deps.store.db
    .updateTable("deployments")
    .set({
      secret_versions: JSON.stringify(versions),
      variable_versions: JSON.stringify(variables.versions),
      account_secrets: JSON.stringify(accountSecrets),
      infra: JSON.stringify((await deployedInfra(deps, deployment, spec)) ?? null),
    })
    .where("id", "=", deployment.id)
    .execute();
  return handedOver(Object.entries(spec.services), {
    env: variables.values,
    given: { ...backing, ...outputs },
    values,
    references: valuesFrom(accountSecrets),
  });
}

/** The same for every service, but each gets only the secrets that it names. */
function handedOver(
  services: [name: string, { secrets: string[] }][],
  {
    env,
    given,
    values,
    references,
  }: {
    env: Record<string, string>;
    given: Record<string, Secret>;
    values: Record<string, Secret>;
    references: Record<string, string>;
  },
): Record<string, TaskVariables> {
  return Object.fromEntries(
    services.map(([name, { secrets }]) => [
      name,
      { env, secrets: { ...given, ...pick(values, secrets) }, references: pick(references, secrets) },
    ]),
  );
}

const pick = <T>(all: Record<string, T>, names: string[]): Record<string, T> =>
  Object.fromEntries(Object.entries(all).filter(([name]) => names.includes(name)));

/** What the environment's Terraform gives its services; where a backing service has a variable of the same name, the output wins. */
async function outputsOf(
  { store, sealer }: Pick<DeploymentDeps, "store" | "sealer">,
  { app, environment }: { app: string; environment: string },
  { infra }: EnvironmentSpec,
): Promise<Record<string, Secret>> {
  if (infra === undefined || Object.keys(infra.outputs).length === 0) return {};
  const place = { app, environment };
  return outputVariables(place, infra.outputs, await findOutputs(store.db, sealer, place));
}

/** What the release runs with; after a rollback that may be newer than what it was first deployed with. */
async function deployedInfra(
  { store }: DeploymentDeps,
  place: { app: string; environment: string },
  { infra }: EnvironmentSpec,
): Promise<DeployedInfra | undefined> {
  const found = infra && (await findInfra(store.db, place));
  if (!found?.applied_commit || !found.applied_run) return undefined;
  const repository = found.applied_spec?.repository ?? null;
  return { repository, commit: found.applied_commit, runId: found.applied_run };
}

/** Masks every secret value that tasks of a place may know. */
export async function maskOf(
  deps: Pick<DeploymentDeps, "store" | "secrets" | "sealer">,
  place: Place,
): Promise<(text: string) => string> {
  return newMask([...(await deps.secrets.all(place)), ...(await sensitiveOutputs(deps, place))]);
}

async function sensitiveOutputs(
  deps: Pick<DeploymentDeps, "store" | "sealer">,
  { app, environment }: Place,
): Promise<Secret[]> {
  const outputs = (await findOutputs(deps.store.db, deps.sealer, { app, environment })) ?? {};
  return Object.entries(outputs)
    .filter(([, { sensitive, value }]) => sensitive && outputText(value).length >= SHORTEST_MASKED)
    .map(([name, { value }]) => new Secret(name, outputText(value)));
}

/** The versions that the release last ran with here: a rollback restores the record, not only the image. */
async function versionsOf(
  { store }: Pick<DeploymentDeps, "store">,
  place: { app: string; environment: string; release: number },
): Promise<{ secrets: Record<string, number>; variables: Record<string, number> | undefined } | undefined> {
  const row = await store.db
    .selectFrom("deployments")
    .select(["secret_versions", "variable_versions"])
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("release", "=", place.release)
    .where("status", "=", "succeeded")
    .orderBy("ended_at", "desc")
    .executeTakeFirst();
  return row && { secrets: row.secret_versions, variables: row.variable_versions ?? undefined };
}

async function findPrevious(deps: DeploymentDeps, deployment: Deployment, backing: BackingVariables) {
  if (deployment.from_release === null) return undefined;
  const record = await getRelease(deps.store.db, deployment.app, deployment.from_release);
  const { release, environmentSpec } = resolveRelease(record, deployment.environment);
  const place = { app: deployment.app, environment: deployment.environment };
  // By its own record and not by where the environment is now: that changes while this deployment goes on, and must not when it is resumed.
  const runtime = runtimeOf(place, environmentSpec, await outputValues(deps, place, environmentSpec));
  return {
    release: await publishedRelease(deps.store.db, release, runtime),
    runtime,
    variables: await liveVariables(deps, { ...deployment, release: deployment.from_release }, backing),
  };
}

/** Every output by its name, for the settings that come from there. */
async function outputValues(
  { store, sealer }: Pick<DeploymentDeps, "store" | "sealer">,
  place: Place,
  { runtime, infra }: EnvironmentSpec,
): Promise<Record<string, unknown>> {
  if (runtime === "docker" || infra === undefined) return {};
  const outputs = (await findOutputs(store.db, sealer, place)) ?? {};
  return Object.fromEntries(Object.entries(outputs).map(([name, { value }]) => [name, value]));
}

const RUNTIME_NAMES = { docker: "Docker", ecs: "ECS" };

function movedText(release: number, { runtime, standbyMs }: EnvironmentSpec): string {
  return `The environment moves to ${RUNTIME_NAMES[runtime]}. r${release} serves on where it is for ${formatDurationMs(standbyMs)} after this: point the names to the new place until then.`;
}

/** The variables of a release that served before, for when its tasks have to be started again. */
export async function liveVariables(
  deps: Pick<DeploymentDeps, "store" | "secrets" | "sealer">,
  deployment: { app: string; environment: string; release: number },
  backing: BackingVariables,
): Promise<Record<string, TaskVariables>> {
  const record = await getRelease(deps.store.db, deployment.app, deployment.release);
  const { release, environmentSpec } = resolveRelease(record, deployment.environment);
  const versions = await versionsOf(deps, deployment);
  const names = storedSecretNames(release.services, environmentSpec.secretSources);
  const [{ values }, variables, accountSecrets, outputs] = await Promise.all([
    deps.secrets.resolve(deployment, names, versions?.secrets),
    resolveVariables(deps.store.db, deployment, versions?.variables),
    usedSecrets(deps.store, deployment),
    // Tasks of a release that served before must come up again also when an output has gone since.
    outputsOf(deps, deployment, environmentSpec).catch((error: unknown) => {
      if (hasCode(error, "INFRA_OUTPUT_MISSING")) return {};
      throw error;
    }),
  ]);
  return handedOver(
    release.services.map((service) => [service.name, service]),
    {
      env: variables.values,
      given: { ...backing, ...outputs },
      values,
      references: valuesFrom(accountSecrets ?? {}),
    },
  );
}

function resultOf(deployment: Deployment, spec: EnvironmentSpec, outcome: RolloutOutcome): DeploymentResult {
  const before = {
    live: deployment.from_release,
    standby: undefined,
    standbyMs: spec.standbyMs,
    phases: outcome.phases,
  };
  switch (outcome.status) {
    case "done":
      return {
        ...before,
        status: "succeeded",
        live: deployment.release,
        standby: outcome.standby ?? null,
        evidence: [],
        rolledBack: false,
      };
    case "failed":
      return {
        ...before,
        status: "failed",
        phase: outcome.phase,
        problem: withRetry(deployment, outcome.cause) ?? {
          code: "ROLLOUT_FAILED",
          message: outcome.reason,
          hint: `Mend it and push again. \`shipway deployments ${deployment.id}\` shows all of this once more.`,
        },
        evidence: outcome.evidence,
        rolledBack: outcome.trafficMoved && outcome.rolledBack,
      };
    case "canceled":
      return {
        ...before,
        status: "canceled",
        problem: {
          code: "CANCELED",
          message: "The deployment was canceled.",
          hint: "Deploy again with `shipway deploy`.",
        },
        evidence: [],
        rolledBack: outcome.trafficMoved,
      };
    default:
      return assertNever(outcome);
  }
}

/** What is not the release's fault is tried again as it is; a push would build nothing new. */
function withRetry(deployment: Deployment, problem: Problem): Problem;
function withRetry(deployment: Deployment, problem: Problem | undefined): Problem | undefined;
function withRetry({ app, environment, release }: Deployment, problem: Problem | undefined): Problem | undefined {
  if (problem === undefined || !isUpstream(problem)) return problem;
  const again = `Then try again: \`shipway deploy --app ${app} --env ${environment} --release r${release}\`.`;
  return { ...problem, hint: problem.hint === undefined ? again : `${problem.hint} ${again}` };
}

/** What only a commit mends: deploying the same release once more would stop at the same place. */
const NEEDS_COMMIT = new Set(["INFRA_PROTECTED", "INFRA_INVALID"]);

/** What stopped it before the rollout is dealt with first; the release is there already. */
function withDeploy({ app, environment, release }: Deployment, problem: Problem): Problem {
  if (NEEDS_COMMIT.has(problem.code)) return problem;
  const again = `Then push the commit that mends it, or, where none has to, deploy again: \`shipway deploy --app ${app} --env ${environment} --release r${release}\`.`;
  return { ...problem, hint: problem.hint === undefined ? again : `${problem.hint} ${again}` };
}

function isUpstream(problem: Problem): boolean {
  const code = errorCode(problem);
  return code !== undefined && (ERRORS[code].kind === "upstream" || code === "DISK_FULL");
}

/** Docker went away, or a bug: the reconcile loop cleans up behind a deployment that ended so. */
function brokenResult(deps: DeploymentDeps, deployment: Deployment, error: unknown): DeploymentResult {
  if (errorCode(error) === undefined) deps.log.error({ err: error, deployment: deployment.id }, "a deployment broke");
  return {
    status: "failed",
    live: deployment.from_release,
    standby: undefined,
    standbyMs: 0,
    phases: [],
    problem: withRetry(deployment, toProblem(error)),
    evidence: [],
    rolledBack: false,
  };
}
