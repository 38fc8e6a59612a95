import type { Selectable } from "kysely";
import type { TokenRecord } from "../access/tokens.ts";
import type { StepOutcome } from "../ci/executor.ts";
import { declarationOf } from "../environment/environments.ts";
import type { SecretSummary as StoredSecret } from "../environment/secrets.ts";
import type { Variable as StoredVariable } from "../environment/variables.ts";
import type { NumberedLine } from "../events/log-store.ts";
import type { Deployment as DeploymentRow } from "../release/deployments.ts";
import { stepLogId } from "../release/log-ids.ts";
import { addressesOf, type ReleaseRecord, resolveRelease } from "../release/resolve-release.ts";
import { logOf, type TaskRun as StoredRun } from "../release/task-runs.ts";
import type { Teardown as StoredTeardown } from "../release/teardowns.ts";
import type { ObservedService } from "../rollout/target.ts";
import type { Problem } from "../shared/errors.ts";
import type { AppRecord } from "../source/apps.ts";
import { isFromOutside } from "../spec/resolve-environment.ts";
import type { EnvironmentsTable, PipelinesTable } from "../store/schema.ts";
import type { BackingStatus } from "../workflow/backings.ts";
import type {
  ApiLogLine,
  App,
  Backing,
  Deployment,
  Environment,
  Pipeline,
  ReleaseSummary,
  SecretSummary,
  TaskRun,
  TeardownView,
  Token,
  Variable,
} from "./schemas.ts";

/** Rows of the store as the API shows them. All pure. */
export function viewApp(app: AppRecord, apiUrl: string): App {
  return {
    name: app.name,
    gitUrl: `${apiUrl}/git/${app.name}.git`,
    createdAt: app.createdAt.toISOString(),
    environments: app.environments,
  };
}

export function viewDeployment(row: DeploymentRow): Deployment {
  return {
    id: row.id,
    app: row.app,
    environment: row.environment,
    release: row.release,
    kind: row.kind,
    status: row.status,
    actor: row.actor,
    deliveryId: row.delivery_id,
    createdAt: row.created_at.toISOString(),
    startedAt: row.started_at?.toISOString() ?? null,
    endedAt: row.ended_at?.toISOString() ?? null,
    liveAfterMs: row.live_after_ms,
    phases: row.phases,
    phase: row.phase,
    problem: row.problem,
    evidence: row.evidence,
    rolledBack: row.rolled_back,
    addresses: row.addresses,
    infra: row.infra,
    approval: row.approval,
  };
}

export function viewRelease(record: ReleaseRecord, environments: Selectable<EnvironmentsTable>[]): ReleaseSummary {
  return {
    app: record.app,
    number: record.number,
    commit: record.commit,
    refName: record.refName,
    subject: record.subject,
    author: record.author,
    createdAt: record.createdAt.toISOString(),
    images: record.images.map(({ service, name, digest }) => ({ service, name, digest })),
    liveIn: environments.filter((row) => row.live_release === record.number).map((row) => row.name),
    standbyIn: environments.filter((row) => row.standby_release === record.number).map((row) => row.name),
  };
}

export type EnvironmentFacts = {
  live: ReleaseRecord | undefined;
  /** Whose shipway.yml says which refs deploy there: of what is live or was until it was stopped, else of the newest. */
  declaring: ReleaseRecord | undefined;
  waiting: DeploymentRow | undefined;
  runtime: Environment["runtime"];
  /** Undefined where it cannot be found out, for the reason that `problem` is. */
  observed: ObservedService[] | undefined;
  problem?: Problem | undefined;
  httpPort: number;
};

export function viewEnvironment(
  row: Selectable<EnvironmentsTable>,
  { live, declaring, waiting, runtime, observed, problem, httpPort }: EnvironmentFacts,
): Environment {
  const declared = declarationOf(row);
  // What the API says of it may have changed since the release was made; shipway.yml's own words have not.
  const spec = declaring?.spec;
  const isOwn = spec !== undefined && row.name in spec.environments && !isFromOutside(spec, row.name);
  const rule = isOwn ? spec.environments[row.name] : declared;
  const resolved = live && resolveRelease(live, row.name).release;
  return {
    app: row.app,
    name: row.name,
    runtime,
    rule: describeRule(rule),
    liveRelease: row.live_release,
    standbyRelease: row.standby_release,
    frozen:
      row.frozen_reason === null
        ? null
        : { reason: row.frozen_reason, since: (row.frozen_at ?? new Date(0)).toISOString() },
    addresses: resolved ? addressesOf(resolved, httpPort) : [],
    services: (resolved?.services ?? []).map((service) => ({
      name: service.name,
      running:
        observed
          ?.filter((seen) => seen.service === service.name && seen.release === row.live_release)
          .flatMap((seen) => seen.tasks)
          .filter((task) => task.state === "running").length ?? null,
      wanted: service.count,
      image: live?.images.find((image) => image.service === service.name)?.name ?? service.image,
      addresses: addressesOf({ app: row.app, number: 0, services: [service] }, httpPort),
    })),
    runningDeployment: row.running_deployment,
    waitingDeployment: waiting === undefined ? null : { id: waiting.id, release: waiting.release },
    stopped:
      row.live_release !== null || row.stopped_by === null
        ? null
        : { release: row.stopped_release, by: row.stopped_by, since: row.stopped_at?.toISOString() ?? null },
    problem: problem ?? null,
    declared: declared ? { branch: declared.branch, tag: declared.tag } : null,
  };
}

function describeRule(
  rule: { branch?: string | null | undefined; tag?: string | null | undefined } | undefined,
): string {
  const parts = [rule?.branch && `branch ${rule.branch}`, rule?.tag && `tag ${rule.tag}`].filter(Boolean);
  return parts.length === 0 ? "by hand" : parts.join(" or ");
}

export function viewPipeline(row: Selectable<PipelinesTable>, outcomes: StepOutcome[]): Pipeline {
  return {
    id: row.id,
    app: row.app,
    number: row.number,
    commit: row.commit,
    refName: row.ref_name,
    status: row.status,
    reason: row.reason,
    createdAt: row.created_at.toISOString(),
    endedAt: row.ended_at?.toISOString() ?? null,
    durationMs: row.ended_at === null ? null : row.ended_at.getTime() - row.created_at.getTime(),
    deliveryId: row.change_id,
    gates: row.status === "paused" ? (row.gates ?? []) : [],
    steps: row.steps.map(({ id, name }) => {
      const outcome = outcomes.find((candidate) => candidate.id === id);
      return {
        id,
        name,
        status: outcome?.status ?? withoutOutcome(row, id),
        ...(outcome?.exitCode !== undefined && { exitCode: outcome.exitCode }),
        ...(outcome?.reason !== undefined && { reason: outcome.reason }),
        ...(outcome && { durationMs: outcome.endedAt - outcome.startedAt }),
        logId: stepLogId(row.id, id),
      };
    }),
  };
}

/** A manual stage is a gate by its own id, its steps are `ID.1` and so on. */
function withoutOutcome(
  { status, gates }: Selectable<PipelinesTable>,
  id: string,
): "running" | "paused" | "pending" | "skipped" {
  if (status === "running") return "running";
  if (status !== "paused") return "skipped";
  return gates?.some((gate) => id === gate.id || id.startsWith(`${gate.id}.`)) ? "paused" : "pending";
}

export function viewLogLine({ line, at, stream, text }: NumberedLine): ApiLogLine {
  return { line, at: new Date(at).toISOString(), stream, text };
}

export function viewTaskRun(row: StoredRun): TaskRun {
  return {
    id: row.id,
    app: row.app,
    environment: row.environment,
    service: row.service,
    release: row.release,
    command: row.command,
    status: row.status,
    exitCode: row.exit_code,
    outOfMemory: row.out_of_memory,
    actor: row.actor,
    canceledBy: row.canceled_by,
    problem: row.problem,
    createdAt: row.created_at.toISOString(),
    endedAt: row.ended_at?.toISOString() ?? null,
    durationMs: row.ended_at === null ? null : row.ended_at.getTime() - row.created_at.getTime(),
    logId: logOf(row),
  };
}

export function viewTeardown(row: StoredTeardown): TeardownView {
  const { id, app, environment, until, infra, data, overrule, status, actor, problem, remarks } = row;
  return {
    ...{ id, app, environment, until, infra, data, overrule, status, actor, problem, remarks },
    infraRun: row.infra_run,
    createdAt: row.created_at.toISOString(),
    endedAt: row.ended_at?.toISOString() ?? null,
  };
}

export function viewToken(record: TokenRecord): Token {
  return { ...record, createdAt: record.createdAt.toISOString() };
}

export function viewVariable({ updatedAt, ...variable }: StoredVariable): Variable {
  return { ...variable, updatedAt: updatedAt.toISOString() };
}

export function viewBacking({ isChanged: _, ...status }: BackingStatus): Backing {
  return status;
}

export function viewSecret({ name, version, updatedAt }: StoredSecret): SecretSummary {
  return { name, version, updatedAt: updatedAt.toISOString() };
}
