import { posix } from "node:path";
import { listDeclaredBacking } from "../environment/declared-backing.ts";
import { declaredEnvironments, type EnvironmentRow, listEnvironments } from "../environment/environments.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { Staged, Stages } from "../flow.ts";
import { findMissingOutputs } from "../infra/check-outputs.ts";
import { isTerraformFile } from "../infra/declared-outputs.ts";
import { type DeliveredChange, endDelivery, getChange } from "../release/deliveries.ts";
import { requestDeployments } from "../release/deployments.ts";
import { recordRelease } from "../release/releases.ts";
import { findReview } from "../release/review.ts";
import { dockerMissing } from "../shared/docker-missing.ts";
import { ERRORS, type ErrorCode, errorCode, fail, type Problem, toProblem } from "../shared/errors.ts";
import type { AppSpec } from "../spec/app-spec.ts";
import { dockerNeeds } from "../spec/docker-needs.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { environmentsFor, withEnvironments } from "../spec/resolve-environment.ts";
import { findCiSettings } from "./ci-settings.ts";
import { type CiDeps, planCi, runCi } from "./ci-stage.ts";
import type { DurableStep, Logger } from "./durable.ts";
import { buildRelease, type ImageDeps } from "./image-stage.ts";

export type DeliveryDeps = ImageDeps &
  CiDeps & {
    /** Whether there is a Docker Engine. */
    hasEngine: boolean;
    startDeployment(id: string): Promise<void>;
    log: Logger;
  };

type DeliveryStages = Pick<
  Stages,
  "openDelivery" | "readSpec" | "runCi" | "buildImages" | "recordRelease" | "requestDeployments" | "endDelivery"
>;

const SPEC_FILE = "shipway.yml";

/** The stages of `deliver`, each a durable step over the domains. */
export function newDeliveryStages(deps: DeliveryDeps, step: DurableStep): DeliveryStages {
  const { store } = deps;
  return {
    // No step: what it reads of a change never changes.
    openDelivery: (changeId) => getChange(store.db, changeId),
    readSpec: (change) => step("read-spec", () => staged(deps.log, change, () => readSpec(deps, change))),
    runCi: (change, spec) => step("ci", () => staged(deps.log, change, () => runCi(deps, change, spec))),
    buildImages: (change, spec) =>
      step("images", () => staged(deps.log, change, () => buildRelease(deps, change, spec))),
    recordRelease: (change, spec, images) =>
      step("record-release", () => recordRelease(store.db, change, spec, images)),
    requestDeployments: async (change, release, environments) => {
      // Workflows are started outside of steps: a step may run again, and the engine allows only workflows to start others.
      const started = await step("request-deployments", () =>
        requestDeploymentsOf(deps, change, release, environments),
      );
      for (const id of started) await deps.startDeployment(id);
    },
    endDelivery: (change, stop) => step("end-delivery", () => endDelivery(store.db, change, stop)),
  };
}

/** What a user can mend, or what something upstream refused, ends the stage with its problem; a bug does too, and is logged. */
async function staged<T>(log: Logger, change: DeliveredChange, work: () => Promise<Staged<T>>): Promise<Staged<T>> {
  try {
    return await work();
  } catch (error) {
    const code = errorCode(error);
    if (code !== undefined) return { ok: false, problem: withRetry(toProblem(error), code, change) };
    log.error({ err: error }, "a stage broke");
    const message = `Something broke in Shipway: ${error instanceof Error ? error.message : String(error)}`;
    return {
      ok: false,
      problem: { code: "BUG", message, hint: "Shipway's own log has the details. Push again, or report it." },
    };
  }
}

/** Where the commit is not to blame, pushing it once more would do nothing: git has it already. */
function withRetry(problem: Problem, code: ErrorCode, { app, refName }: DeliveredChange): Problem {
  if (ERRORS[code].kind !== "upstream" && code !== "DISK_FULL") return problem;
  const again = `Then run it again: \`shipway deploy --app ${app} --ref ${refName}\`.`;
  return { ...problem, hint: problem.hint === undefined ? again : `${problem.hint} ${again}` };
}

const frameOf = (change: DeliveredChange, subject = `change:${change.id}`) => ({
  app: change.app,
  subject,
  deliveryId: change.id,
  actor: change.actor,
});

function emitter(deps: DeliveryDeps, change: DeliveredChange, subject?: string) {
  return (event: Parameters<typeof appendEvent>[2]) => appendEvent(deps.store.db, frameOf(change, subject), event);
}

async function readSpec(
  deps: DeliveryDeps,
  change: DeliveredChange,
): Promise<Staged<{ spec: AppSpec; environments: string[] }>> {
  const emit = emitter(deps, change);
  const { refKind, refName, commit, subject } = change;
  const announce = (environments: string[]) =>
    emit({ kind: "delivery.started", data: { changeId: change.id, refKind, refName, commit, subject, environments } });
  try {
    const spec = withEnvironments(
      await parseSpecAt(deps, change),
      await declaredEnvironments(deps.store.db, change.app),
    );
    const wanted =
      change.onlyEnvironment === undefined
        ? environmentsFor(spec, change)
        : [requireDeclared(spec, change.onlyEnvironment)];
    await refuseWithoutEngine(deps, change, spec, wanted);
    await refuseSharedNames(deps, change.app, spec, wanted);
    await refuseMissingOutputs(deps, change, spec, wanted);
    // Read where it is used; here it only has to be there, before anything is begun.
    await findCiSettings(deps.store.db, deps.sealer, spec);
    await announce(wanted);
    const rows = await findEnvironments(deps, change.app, wanted);
    const frozen = change.onlyEnvironment === undefined ? frozenOf(rows) : [];
    for (const { environment, reason } of frozen) {
      await emit({
        kind: "delivery.note",
        data: {
          text: `${environment} is frozen (${reason}): this push is not deployed there. Go on with \`shipway resume --app ${change.app} --env ${environment}\`.`,
        },
      });
    }
    for (const { name, live_release: live, stopped_by: by } of rows) {
      if (live !== null || by === null || frozen.some(({ environment }) => environment === name)) continue;
      // Whoever pushes wants it to run.
      await emit({ kind: "delivery.note", data: { text: `${name} was stopped by ${by}; this starts it again.` } });
    }
    return {
      ok: true,
      value: { spec, environments: wanted.filter((name) => !frozen.some(({ environment }) => environment === name)) },
    };
  } catch (error) {
    await announce([]);
    throw error;
  }
}

/** All of it at once, before anything is begun. @throws DOCKER_MISSING */
async function refuseWithoutEngine(
  deps: DeliveryDeps,
  change: DeliveredChange,
  spec: AppSpec,
  environments: string[],
): Promise<void> {
  if (deps.hasEngine) return;
  // A pipeline that cannot be read is told by the stage that runs it.
  const planned = await planCi(deps, change, spec).catch(() => undefined);
  const needs = dockerNeeds(spec, environments, planned?.status === "plan");
  if (needs.length === 0) return;
  throw dockerMissing(
    `${change.app} cannot be shipped from here: ${needs.join("; ")}`,
    `Write in ${SPEC_FILE} where they run on AWS (docs/aws.md, "Without a Docker Engine"), or push to a Shipway on a machine with Docker.`,
  );
}

/** Of one folder. More are left to Terraform: each is read by a git of its own. */
const MOST_TERRAFORM_FILES = 64;

/** Before anything is built: after the apply it would be known as well, and minutes later. @throws INFRA_OUTPUT_MISSING */
async function refuseMissingOutputs(
  { repositories }: DeliveryDeps,
  { app, commit }: DeliveredChange,
  spec: AppSpec,
  environments: string[],
): Promise<void> {
  const text = (await repositories.readFile(app, commit, SPEC_FILE)) ?? "";
  const error = await findMissingOutputs(spec, text, environments, async (dir) => {
    const path = posix.normalize(dir).replace(/\/$/, "");
    const tree = path === "." ? commit : `${commit}:${path}`;
    const listed = await repositories.git.run(
      [`--git-dir=${repositories.dirOf(app)}`, "ls-tree", "-z", "--name-only", tree],
      // 128: there is no such folder.
      { okExitCodes: [0, 128] },
    );
    const names = listed.stdout.toString("utf8").split("\0").filter(isTerraformFile);
    if (names.length > MOST_TERRAFORM_FILES) return undefined;
    const read = async (name: string) => {
      const found = await repositories.readFile(app, commit, posix.join(path, name));
      return found === undefined ? [] : [{ name, text: found }];
    };
    return (await Promise.all(names.map(read))).flat();
  });
  if (error) throw error;
}

async function parseSpecAt(deps: DeliveryDeps, change: DeliveredChange): Promise<AppSpec> {
  const text = await deps.repositories.readFile(change.app, change.commit, SPEC_FILE);
  if (text === undefined) {
    throw fail("SPEC_MISSING", {
      message: `There is no ${SPEC_FILE} at ${change.commit.slice(0, 7)}: Shipway does not know what to run.`,
      hint: `Add one, for instance:\n  app: ${change.app}\n  services:\n    web: { build: {}, port: 3000 }\nand check it with \`shipway check\`.`,
    });
  }
  const spec = parseAppSpec(text, SPEC_FILE);
  if (spec.app === change.app) return spec;
  throw fail("SPEC_INVALID", {
    message: `${SPEC_FILE} says app: ${spec.app}, but this repository belongs to ${change.app}.`,
    hint: `Write \`app: ${change.app}\`, or push to the repository of ${spec.app}.`,
  });
}

/** A backing service that was declared before a service took its name: both would answer under it. @throws SPEC_INVALID */
async function refuseSharedNames({ store }: DeliveryDeps, app: string, spec: AppSpec, environments: string[]) {
  for (const environment of environments) {
    const backing = await listDeclaredBacking(store.db, { app, environment });
    const shared = backing.find(({ name }) => Object.hasOwn(spec.services, name))?.name;
    if (shared === undefined) continue;
    throw fail("SPEC_INVALID", {
      message: `${SPEC_FILE} has a service ${shared}, and ${environment} has a backing service of that name, declared through the API: both would answer under it.`,
      hint: `Rename the service, or remove the other: \`shipway backing remove ${shared} --app ${app} --env ${environment}\`.`,
    });
  }
}

function requireDeclared(spec: AppSpec, environment: string): string {
  if (environment in spec.environments) return environment;
  throw fail("ENVIRONMENT_NOT_FOUND", {
    message: `${spec.app} has no environment ${environment}: ${SPEC_FILE} and the API declare ${Object.keys(spec.environments).join(", ")}.`,
    hint: `Make it with \`shipway env create ${environment} --app ${spec.app}\`, add it under \`environments:\`, or deploy to one of those.`,
  });
}

async function findEnvironments(deps: DeliveryDeps, app: string, names: string[]): Promise<EnvironmentRow[]> {
  return (await listEnvironments(deps.store.db, app)).filter(({ name }) => names.includes(name));
}

const frozenOf = (rows: EnvironmentRow[]) =>
  rows.flatMap((row) => (row.frozen_reason ? [{ environment: row.name, reason: row.frozen_reason }] : []));

/** All environments at once, so that the delivery ends when the last of them has. */
async function requestDeploymentsOf(
  { store: { db }, repositories }: DeliveryDeps,
  { app, id: deliveryId, actor }: DeliveredChange,
  release: number,
  environments: string[],
): Promise<string[]> {
  const requests = await Promise.all(
    environments.map(async (environment) => ({
      environment,
      release,
      kind: "deploy" as const,
      ...(await findReview({ db, repositories }, { app, environment }, release)),
    })),
  );
  const requested = await db
    .transaction()
    .execute((tx) => requestDeployments(tx, { app, deliveryId, actor }, requests));
  return requested.flatMap(({ start }) => start ?? []);
}
