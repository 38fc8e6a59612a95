import type { ColumnType, Generated } from "kysely";
import type { Gate, StepOutcome } from "../ci/executor.ts";
import type { PipelineVersions } from "../environment/pipeline-values.ts";
import type { UsedSecret } from "../environment/secret-sources.ts";
import type {
  DriftReport,
  InfraRunKind,
  InfraRunStatus,
  PlanSummary,
  StateIn,
  StateLock,
  Takeover,
} from "../infra/infra-run.ts";
import type { TaskRunStatus } from "../release/task-runs.ts";
import type { RuntimeSettings } from "../rollout/runtime.ts";
import type { Evidence, TaskDrift } from "../rollout/target.ts";
import type { Problem } from "../shared/errors.ts";
import type { AppSpec, BackingSpec, InfraSpec } from "../spec/app-spec.ts";
import type { CiSettings } from "../spec/ci-settings.ts";

type Json<T> = ColumnType<T, string, string>;
type CreatedAt = ColumnType<Date, Date | undefined, never>;

export type AppsTable = {
  name: string;
  next_release: Generated<number>;
  next_pipeline: Generated<number>;
  created_at: CreatedAt;
};

export type EnvironmentsTable = {
  app: string;
  name: string;
  live_release: number | null;
  standby_release: number | null;
  standby_until: Date | null;
  frozen_reason: string | null;
  frozen_at: Date | null;
  running_deployment: string | null;
  /** The teardown that takes away what runs there: deployments wait for it. */
  teardown: ColumnType<string | null, string | null | undefined>;
  /** What served until it was stopped; null once something serves again. */
  stopped_release: ColumnType<number | null, number | null | undefined>;
  stopped_by: ColumnType<string | null, string | null | undefined>;
  /** Since when nothing of it is there; null from the next deployment's start on, whatever comes of that. */
  stopped_at: ColumnType<Date | null, Date | null | undefined>;
  /** Through the API: it needs no entry in shipway.yml, and the rules beside this hold where that has none. */
  declared: Generated<boolean>;
  declared_branch: string | null;
  declared_tag: string | null;
};

/** What the platform has seen of each ref: a ref that differs from git's own was pushed and not yet acted on. */
export type RefsTable = { app: string; ref: string; commit: string };

export type ChangesTable = {
  id: string;
  app: string;
  ref_kind: "branch" | "tag";
  ref_name: string;
  commit: string;
  previous_commit: string | null;
  subject: string;
  author: string;
  actor: string;
  skip_ci: boolean;
  /** Set for a deployment asked for by hand: only this environment, whatever the rules say. */
  only_environment: string | null;
  ended_at: Date | null;
  created_at: CreatedAt;
};

export type PipelinesTable = {
  id: string;
  app: string;
  number: number;
  change_id: string;
  commit: string;
  ref_name: string;
  status: "running" | "paused" | "passed" | "failed" | "canceled" | "none";
  reason: string | null;
  steps: Json<{ id: string; name: string }[]>;
  /** Where its steps run; null for this server's Docker Engine. */
  runner: Json<CiSettings["steps"]> | null;
  /** What its steps get of the team's variables and secrets; null for a pipeline from before there were any. */
  value_versions: Json<PipelineVersions> | null;
  created_at: CreatedAt;
  ended_at: Date | null;
  /** When nothing of its steps was left anywhere. */
  tidied_at: Date | null;
  /** What can be started by hand; null while it does not pause. */
  gates: ColumnType<Gate[] | null, string | undefined, string | null>;
  paused_at: ColumnType<Date | null, Date | undefined, Date | null>;
  /** Ids of the manual steps that somebody started. */
  started_gates: ColumnType<string[], string | undefined, string>;
  /** The workflow that goes on with it after the first pause; null before, and while it pauses. */
  continuation: ColumnType<string | null, string | undefined, string | null>;
};

export type StepsTable = { pipeline_id: string; step_id: string; outcome: Json<StepOutcome> };

/** `reference` (`HOST/REPOSITORY@DIGEST`) where the image is in a registry, and `digest` the one it has there; else that is the engine's content id. */
export type RecordedImage = { service: string; name: string; digest: string; reused: boolean; reference?: string };

export type ReleasesTable = {
  app: string;
  number: number;
  change_id: string;
  commit: string;
  ref_name: string;
  subject: string;
  author: string;
  spec: Json<AppSpec>;
  images: Json<RecordedImage[]>;
  created_at: CreatedAt;
};

export type DeploymentsTable = {
  id: string;
  app: string;
  environment: string;
  release: number;
  kind: "deploy" | "rollback";
  status: DeploymentStatus;
  actor: string;
  delivery_id: string;
  from_release: number | null;
  cancel_requested: Generated<boolean>;
  live_after_ms: number | null;
  phases: Json<{ name: string; durationMs: number }[]>;
  phase: string | null;
  problem: Json<Problem | null>;
  evidence: Json<Evidence[]>;
  rolled_back: Generated<boolean>;
  addresses: Json<string[]>;
  secret_versions: Json<Record<string, number>>;
  /** Null until they are chosen. */
  variable_versions: ColumnType<Record<string, number> | null, string | undefined, string>;
  /** Secrets of the AWS account that its tasks get, by variable, in which version; null until they are chosen. */
  account_secrets: ColumnType<Record<string, UsedSecret> | null, string | undefined, string>;
  /** The infrastructure that the release ran with here; null where the environment has none, and before the rollout. */
  infra: ColumnType<DeployedInfra | null, string | undefined, string>;
  /** Set where somebody has to approve what goes live. */
  approval: ColumnType<DeploymentApproval | null, string | undefined, string>;
  created_at: CreatedAt;
  started_at: Date | null;
  ended_at: Date | null;
};

/** `waiting`: for an approval. */
export type DeploymentStatus =
  | "waiting"
  | "queued"
  | "running"
  | "succeeded"
  | "failed"
  | "canceled"
  | "superseded"
  | "rejected"
  | "expired";

export type DeploymentApproval = {
  /** Of the release that is approved: what goes live is exactly that. */
  digest: string;
  approvers?: "anyone" | "others";
  /** ISO 8601. */
  expiresAt?: string;
  decision?: { approved: boolean; by: string; at: string; comment?: string };
};

/** `repository` is null when the code lies in the app's own. */
export type DeployedInfra = { repository: string | null; commit: string; runId: string };

export type EventsTable = {
  id: Generated<string>;
  at: CreatedAt;
  app: string | null;
  environment: string | null;
  subject: string;
  delivery_id: string | null;
  kind: string;
  actor: string;
  data: Json<Record<string, unknown>>;
};

export type TokensTable = {
  id: string;
  name: string;
  role: "viewer" | "developer" | "tester" | "operator" | "admin";
  app: string | null;
  hash: Buffer;
  created_at: CreatedAt;
  revoked_at: Date | null;
};

export type SecretsTable = {
  app: string;
  /** Empty for what every pipeline step of the app gets. */
  environment: string;
  /** For pipeline steps, with an environment for those that have it as their deployment; false: for the environment's tasks. */
  pipelines: Generated<boolean>;
  name: string;
  version: number;
  sealed: Buffer;
  /** True for passwords Shipway made itself (backing services); they are not listed. */
  internal: boolean;
  created_at: CreatedAt;
  removed_at: Date | null;
};

/** `environment` and `pipelines` as in `secrets`. */
export type VariablesTable = {
  app: string;
  environment: string;
  pipelines: Generated<boolean>;
  name: string;
  version: number;
  value: string;
  created_at: CreatedAt;
  removed_at: Date | null;
};

/** Backing services declared through the API, beside those of shipway.yml. */
export type DeclaredBackingTable = {
  app: string;
  environment: string;
  name: string;
  engine: BackingSpec["engine"];
  version: string | null;
  /** How its container was last found to differ, and told; null while it is as declared. */
  drift: string | null;
  /** The infra run that declared it last, if one did. */
  run_id: string | null;
  created_at: CreatedAt;
};

/** One row per environment that has ever had a Terraform run. */
export type InfraEnvironmentsTable = {
  app: string;
  environment: string;
  /** The apply that holds the environment. */
  running_run: string | null;
  /** The run whose outcome nobody knows; nothing is applied until somebody recovered it. */
  blocked_by: string | null;
  applied_run: string | null;
  applied_commit: string | null;
  applied_inputs: string | null;
  applied_spec: Json<InfraSpec | null>;
  outputs: Buffer | null;
  lock: Json<StateLock | null>;
  drift: Json<DriftReport | null>;
  drift_at: Date | null;
  /** Something was seen to have changed: the next check does not wait for its turn. */
  drift_due: Generated<boolean>;
};

export type InfraRunsTable = {
  id: string;
  app: string;
  environment: string;
  kind: InfraRunKind;
  status: InfraRunStatus;
  commit: string;
  ref_name: string;
  actor: string;
  delivery_id: string;
  spec: Json<InfraSpec>;
  /** Of code and inputs: a deployment skips the run when they are the applied ones. */
  inputs: string;
  imports: Json<{ address: string; id: string }[]>;
  /** Set for a run that takes over into the state what exists. */
  takeover: Json<Takeover | null>;
  /** Why somebody wants destroyed what the environment protects. */
  overrule: ColumnType<string | null, string | null | undefined>;
  plan: Json<PlanSummary | null>;
  /** The plan file, sealed; removed once it was applied. */
  plan_file: Buffer | null;
  plan_sha256: string | null;
  planned_at: Date | null;
  /** Version of the state the plan was made from; 0 when there was none. */
  state_version: number | null;
  /** Where its state lies, known once the run was initialised. */
  state_in: Json<StateIn | null>;
  credential: Buffer | null;
  approved_by: string | null;
  /** The journal: from here on something may have changed. */
  apply_started_at: Date | null;
  /** Somebody wants it stopped. It is still running until it ended. */
  cancel_requested_at: Date | null;
  cancel_requested_by: string | null;
  /** Written before the first interrupt is sent: it may have been. */
  interrupted_at: Date | null;
  /** Somebody wants it stopped at once, whatever that costs. */
  force_requested_at: Date | null;
  force_requested_by: string | null;
  problem: Json<Problem | null>;
  timings: Json<Record<string, number>>;
  created_at: CreatedAt;
  started_at: Date | null;
  ended_at: Date | null;
};

export type InfraStatesTable = {
  app: string;
  environment: string;
  version: number;
  serial: number;
  lineage: string;
  resources: number;
  sealed: Buffer;
  run_id: string | null;
  actor: string;
  /** How it came: written by a run, restored, pushed from errored.tfstate. */
  reason: string;
  created_at: CreatedAt;
};

/** Drift that nobody wants to hear of. */
export type InfraIgnoredTable = {
  app: string;
  environment: string;
  address: string;
  /** Of an attribute; empty for the whole resource. */
  path: string;
  reason: string;
  actor: string;
  until: Date | null;
  created_at: CreatedAt;
};

/** What of an environment's tasks was last found changed by hand: what is new is told once. */
/** Where an environment is, or was and may have left something. */
export type RuntimesTable = {
  app: string;
  environment: string;
  /** Same key, same place in the world. */
  key: string;
  settings: Json<RuntimeSettings>;
  is_current: boolean;
};

/** An image of the engine, and the reference in a registry that it was pushed as. */
export type PublishedImagesTable = {
  app: string;
  service: string;
  digest: string;
  registry: string;
  reference: string;
  created_at: CreatedAt;
};

export type TaskDriftTable = { app: string; environment: string; drift: Json<TaskDrift[]> };

/** Where somebody wants to be told what happens. */
export type NotifyHooksTable = {
  id: string;
  /** Null: of every app. */
  app: string | null;
  format: "json" | "slack";
  selectors: Json<string[]>;
  /** Sealed: of a chat's webhook it is a password. */
  url: Buffer;
  /** What may be shown of it. */
  shown_url: string;
  secret: Buffer;
  /** The last event that needs nothing more: told, given up, or of no interest. */
  cursor: string;
  /** Since when every event was given up. */
  failing_since: Date | null;
  actor: string;
  created_at: CreatedAt;
};

export type NotifyDeliveriesTable = {
  /** Made from hook and event, the same in every attempt. */
  id: string;
  hook_id: string;
  /** Null for a test. */
  event_id: string | null;
  kind: string;
  status: "retrying" | "delivered" | "failed";
  attempts: number;
  http_status: number | null;
  /** The beginning of what the receiver answered. */
  answer: string | null;
  /** Why there was no answer. */
  problem: string | null;
  next_at: Date | null;
  ended_at: Date | null;
  created_at: CreatedAt;
};

/** Hosted repositories with infrastructure code; the name is that of the git repository. */
export type InfraRepositoriesTable = { name: string; app: string; created_at: CreatedAt };

/** As `refs`, of an infra repository. */
export type InfraRefsTable = { repository: string; ref: string; commit: string };

/** Who pushed a commit: its author, who may not approve what is applied from it. */
export type InfraPushesTable = { repository: string; commit: string; actor: string; created_at: CreatedAt };

/** What rollouts wrote into objects that Terraform manages, too. Texts are JSON. */
export type RolloutWritesTable = {
  app: string;
  environment: string;
  type: string;
  object: string;
  path: string;
  among: string;
  value: string;
  previous: string | null;
  written_at: Date;
};

/** Commands that people asked for, each in a task of its own. */
export type TaskRunsTable = {
  id: string;
  app: string;
  environment: string;
  service: string;
  release: number;
  /** As it may be shown: with secrets masked. */
  command: string;
  /** The command itself, until it has ended. */
  sealed: Buffer | null;
  status: TaskRunStatus;
  actor: string;
  deadline_ms: string;
  /** Set before the command starts: from here on it may have run. */
  begun_at: Date | null;
  canceled_by: ColumnType<string | null, string | null | undefined>;
  exit_code: number | null;
  out_of_memory: Generated<boolean>;
  problem: Json<Problem | null>;
  created_at: CreatedAt;
  ended_at: Date | null;
  /** When what the runtime kept of it was removed. */
  forgotten_at: Date | null;
};

/** Commands inside running tasks: what has no end here was cut off with its connection. */
export type ExecSessionsTable = {
  id: string;
  app: string;
  environment: string;
  service: string;
  /** Of the task, or of the backing service. */
  task: string;
  command: string;
  actor: string;
  started_at: CreatedAt;
  ended_at: ColumnType<Date | null, Date | null | undefined>;
};

/** The end of an environment, or of what runs in it: a piece of work that outlives whoever asked for it. */
export type TeardownsTable = {
  id: string;
  app: string;
  environment: string;
  until: "stopped" | "removed";
  infra: "keep" | "destroy";
  data: "keep" | "remove";
  overrule: string | null;
  actor: string;
  status: TeardownStatus;
  /** The run that destroys the environment's infrastructure, once it was asked for. */
  infra_run: string | null;
  problem: Json<Problem | null>;
  /** What is left and is not ours to remove, in sentences. */
  remarks: ColumnType<string[], string | undefined, string>;
  created_at: CreatedAt;
  ended_at: Date | null;
};

/** `waiting` for its infra run; `finishing`: that has ended. */
export type TeardownStatus = "running" | "waiting" | "finishing" | "succeeded" | "failed" | "canceled";

/** Facts about this installation. */
export type SettingsTable = { name: string; value: string };

export type Schema = {
  settings: SettingsTable;
  apps: AppsTable;
  environments: EnvironmentsTable;
  refs: RefsTable;
  changes: ChangesTable;
  pipelines: PipelinesTable;
  steps: StepsTable;
  releases: ReleasesTable;
  deployments: DeploymentsTable;
  events: EventsTable;
  tokens: TokensTable;
  secrets: SecretsTable;
  variables: VariablesTable;
  declared_backing: DeclaredBackingTable;
  infra_environments: InfraEnvironmentsTable;
  infra_runs: InfraRunsTable;
  infra_states: InfraStatesTable;
  infra_ignored: InfraIgnoredTable;
  rollout_writes: RolloutWritesTable;
  task_drift: TaskDriftTable;
  runtimes: RuntimesTable;
  published_images: PublishedImagesTable;
  notify_hooks: NotifyHooksTable;
  notify_deliveries: NotifyDeliveriesTable;
  infra_repositories: InfraRepositoriesTable;
  infra_refs: InfraRefsTable;
  infra_pushes: InfraPushesTable;
  task_runs: TaskRunsTable;
  exec_sessions: ExecSessionsTable;
  teardowns: TeardownsTable;
};
