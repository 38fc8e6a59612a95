import type { DriftedResource, InfraRunKind, InfraRunStatus, PlannedChange, StateLock } from "../infra/infra-run.ts";
import type { TaskRunStatus } from "../release/task-runs.ts";
import type { Evidence, TaskDrift } from "../rollout/target.ts";
import type { Problem } from "../shared/errors.ts";
import type { DeploymentStatus } from "../store/schema.ts";

/** What the platform itself says; the stages' own events (`ci.*`, `image.*`, `rollout.*`) are stored beside these with their `type` in `kind`. */
export type PlatformEvent =
  | { kind: "app.created"; data: { app: string } }
  | { kind: "app.removed"; data: { app: string } }
  | {
      kind: "delivery.started";
      data: {
        changeId: string;
        refKind: "branch" | "tag";
        refName: string;
        commit: string;
        subject: string;
        environments: string[];
      };
    }
  | { kind: "delivery.note"; data: { text: string } }
  | {
      kind: "delivery.ended";
      data: {
        status: "live" | "stopped" | "superseded" | "nothing-to-deploy";
        /** Where it stopped. */
        at?: "spec" | "ci" | "images" | "approval" | "rollout";
        problem?: Problem;
        deployments: { environment: string; deploymentId: string; status: DeploymentStatus; addresses: string[] }[];
        durationMs: number;
      };
    }
  /** Nothing of it goes on by itself: what has not ended waits for an approval. */
  | { kind: "delivery.waiting"; data: { deployments: { environment: string; deploymentId: string }[] } }
  | {
      kind: "release.recorded";
      data: {
        release: number;
        commit: string;
        images: { service: string; name: string; digest: string; reused: boolean }[];
      };
    }
  | {
      kind: "deployment.queued";
      data: { deploymentId: string; kind: DeploymentKind; release: number; waitsFor?: string };
    }
  | { kind: "deployment.waiting"; data: DeploymentWaiting }
  | {
      kind: "deployment.approved" | "deployment.rejected";
      data: { deploymentId: string; release: number; by: string; digest: string; comment?: string };
    }
  | { kind: "deployment.started"; data: { deploymentId: string; kind: DeploymentKind; release: number; from?: number } }
  | { kind: "deployment.ended"; data: DeploymentEnded }
  | { kind: "environment.frozen"; data: { reason: string; release: number } }
  | { kind: "environment.resumed"; data: Record<string, never> }
  | { kind: "environment.mended"; data: { text: string } }
  | { kind: "environment.declared"; data: { branch: string | null; tag: string | null } }
  | { kind: "environment.stopped"; data: { teardownId: string; release: number | null; until: "stopped" | "removed" } }
  | {
      kind: "teardown.started";
      data: { teardownId: string; until: "stopped" | "removed"; infra: "keep" | "destroy"; data: "keep" | "remove" };
    }
  | {
      kind: "teardown.ended";
      data: {
        teardownId: string;
        until: "stopped" | "removed";
        status: "succeeded" | "failed" | "canceled";
        durationMs: number;
        remarks: string[];
        problem?: Problem;
      };
    }
  | { kind: "environment.removed"; data: { dataKept: boolean; remarks?: string[] } }
  | { kind: "variable.set" | "variable.removed"; data: { name: string; version: number; for?: "pipelines" } }
  | { kind: "backing.declared"; data: { name: string; engine: string; version?: string } }
  | { kind: "backing.removed"; data: { name: string } }
  | { kind: "backing.drifted"; data: { name: string; text: string } }
  | { kind: "environment.driftFound"; data: { drift: TaskDrift[] } }
  | { kind: "environment.driftGone"; data: Record<string, never> }
  | { kind: "secret.set" | "secret.removed"; data: { name: string; version: number; for?: "pipelines" } }
  | { kind: "infra.queued"; data: { runId: string; waitsFor: string } }
  /** `takeover`: nothing real is changed, the state takes over what exists. */
  | {
      kind: "infra.started";
      data: {
        runId: string;
        kind: InfraRunKind;
        commit: string;
        refName: string;
        repository?: string;
        takeover?: true;
        /** Of a destroy: why what is protected goes, too. */
        overrule?: string;
      };
    }
  | { kind: "infra.planned"; data: { runId: string; changes: PlannedChange[]; outputs: string[]; takeover?: true } }
  | { kind: "infra.waiting"; data: { runId: string; reasons: string[] } }
  | { kind: "infra.approved"; data: { runId: string; by: string } }
  | { kind: "infra.cancelRequested"; data: { runId: string; by: string; force: boolean } }
  /** Terraform was interrupted and finishes what it is at. */
  | {
      kind: "infra.stopping";
      data: { runId: string; resources: { address: string; action: string; seconds: number }[] };
    }
  | {
      kind: "infra.resource";
      data: {
        runId: string;
        address: string;
        action: string;
        status: "progress" | "done" | "failed";
        seconds?: number;
      };
    }
  | {
      kind: "infra.ended";
      data: {
        runId: string;
        kind: InfraRunKind;
        status: InfraRunStatus;
        durationMs: number;
        /** How many resources the plan was to change. */
        changes: number;
        takeover?: true;
        problem?: Problem;
      };
    }
  | { kind: "infra.driftFound"; data: { runId: string; resources: DriftedResource[] } }
  | { kind: "infra.driftGone"; data: { runId: string } }
  /** Told until 0.1: what is called ignored now. */
  /** `path` is empty for the whole resource; `until` is ISO 8601. */
  | { kind: "infra.driftIgnored"; data: { address: string; path: string; reason: string; until: string | null } }
  | { kind: "infra.driftUnignored"; data: { address: string; path: string } }
  /** After the state was made to say what exists: what the code says otherwise, and the next apply would change. */
  | { kind: "infra.codeDiffers"; data: { runId: string; resources: DriftedResource[] } }
  | { kind: "infra.lockForced"; data: { lock: StateLock } }
  | { kind: "infra.stateRestored"; data: { from: number; version: number } }
  | { kind: "infra.repositoryCreated" | "infra.repositoryRemoved"; data: { repository: string } }
  | { kind: "infra.recovered"; data: { runId: string; how: string } }
  | { kind: "run.started"; data: { runId: string; service: string; release: number; command: string } }
  | { kind: "run.cancelRequested"; data: { runId: string; by: string } }
  | {
      kind: "run.ended";
      data: {
        runId: string;
        service: string;
        release: number;
        command: string;
        status: Exclude<TaskRunStatus, "running">;
        exitCode?: number;
        outOfMemory: boolean;
        durationMs: number;
        problem?: Problem;
      };
    }
  | {
      kind: "exec.started";
      data: { execId: string; service: string; task: string; command: string; terminal: boolean };
    }
  /** `cut-off`: the connection was lost, or Shipway stopped, and what was left of the command was ended. */
  | {
      kind: "exec.ended";
      data: {
        execId: string;
        service: string;
        task: string;
        command: string;
        status: "exited" | "cut-off" | "failed";
        exitCode?: number;
        durationMs: number;
      };
    }
  | { kind: "notify.added"; data: { hookId: string; url: string; format: string; selectors: string[] } }
  | { kind: "notify.removed"; data: { hookId: string; url: string } }
  | { kind: "notify.failing"; data: { hookId: string; url: string; reason: string } }
  | { kind: "notify.recovered"; data: { hookId: string; url: string } }
  | { kind: "token.created" | "token.revoked"; data: { name: string; role: string } };

export type DeploymentKind = "deploy" | "rollback";

export type DeploymentWaiting = {
  deploymentId: string;
  release: number;
  digest: string;
  approvers?: "anyone" | "others";
  /** Some who may approve it; none where nobody has the role, or everybody may. */
  mayApprove: string[];
  /** ISO 8601. */
  expiresAt?: string;
} & Partial<Review>;

/** What somebody who is to approve a release has to know. */
export type Review = {
  /** What serves now. */
  from: number | null;
  /** What the release brings, newest first; `more` are not listed. */
  commits: { commit: string; subject: string; author: string }[];
  more: number;
  /** Commits of what serves now that the release does not have. */
  takesBack: number;
  /** Where the same bytes were deployed before, the last time in each environment. */
  ranIn: {
    environment: string;
    release: number;
    status: "succeeded" | "failed";
    /** Verify commands that it passed there. */
    verified: number;
    isLive: boolean;
    addresses: string[];
    at: string;
  }[];
};

export type DeploymentEnded = {
  deploymentId: string;
  kind: DeploymentKind;
  release: number;
  status: Exclude<DeploymentStatus, "waiting" | "queued" | "running">;
  addresses: string[];
  /** From the start of the deployment until new requests were answered by the release. */
  liveAfterMs?: number;
  durationMs: number;
  phase?: string;
  problem?: Problem;
  evidence: Evidence[];
  /** True when traffic had moved and was moved back. */
  rolledBack: boolean;
};

/** One row of the stream: what happened, in the transaction in which it happened. `kind` is `domain.what-happened`. */
export type StoredEvent = {
  /** Grows; a reader that reconnects gives its last one and misses nothing. */
  id: number;
  /** ISO 8601. */
  at: string;
  app: string | null;
  environment: string | null;
  /** `TYPE:ID`, such as `deployment:d_8k2m`, `pipeline:p_31`, `app:launches`. */
  subject: string;
  /** The push or command that caused it; all events of one delivery share it. */
  deliveryId: string | null;
  kind: string;
  actor: string;
  data: Record<string, unknown>;
};
