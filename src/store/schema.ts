import type { ColumnType, Generated } from "kysely";
import type { StepOutcome } from "../ci/executor.ts";
import type { Evidence } from "../rollout/target.ts";
import type { Problem } from "../shared/errors.ts";
import type { AppSpec } from "../spec/app-spec.ts";

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
  status: "running" | "passed" | "failed" | "canceled" | "none";
  reason: string | null;
  steps: Json<{ id: string; name: string }[]>;
  created_at: CreatedAt;
  ended_at: Date | null;
};

export type StepsTable = { pipeline_id: string; step_id: string; outcome: Json<StepOutcome> };

export type RecordedImage = { service: string; name: string; digest: string; reused: boolean };

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
  status: "queued" | "running" | "succeeded" | "failed" | "canceled" | "superseded";
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
  created_at: CreatedAt;
  started_at: Date | null;
  ended_at: Date | null;
};

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
  environment: string;
  name: string;
  version: number;
  sealed: Buffer;
  /** True for passwords Shipway made itself (backing services); they are not listed. */
  internal: boolean;
  created_at: CreatedAt;
  removed_at: Date | null;
};

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
};
