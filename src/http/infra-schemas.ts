import { z } from "zod";
import { parseDurationMs } from "../shared/duration.ts";
import { ProblemBody } from "./schemas.ts";

const Timestamp = z.iso.datetime().describe("ISO 8601, UTC");
const ActionBody = z.enum(["create", "update", "replace", "delete", "forget", "import", "move", "read"]);
const AttributeBody = z.object({ path: z.string(), before: z.string(), after: z.string() });

const PlanBody = z
  .object({
    changes: z.array(
      z.object({
        address: z.string(),
        action: ActionBody,
        reason: z.string().optional(),
        attributes: z.array(AttributeBody).describe("What is sensitive reads (sensitive)"),
      }),
    ),
    outputs: z.array(z.string()).describe("Outputs that change"),
    approval: z.array(z.string()).describe("Why somebody has to approve it; empty when nobody has to"),
    refused: z.array(z.string()).optional().describe("Why nobody can let it pass (protect, maxDestroy)"),
  })
  .meta({ title: "InfraPlan" });

export const InfraRunBody = z
  .object({
    id: z.string(),
    app: z.string(),
    environment: z.string(),
    kind: z.enum(["plan", "apply", "destroy", "drift"]),
    status: z.enum(["queued", "running", "waiting", "succeeded", "failed", "unknown", "superseded", "canceled"]),
    repository: z.string().nullable().describe("Where the code lies; null for the app's own repository"),
    commit: z.string(),
    refName: z.string(),
    actor: z.string(),
    approvedBy: z.string().nullable(),
    takeover: z
      .object({ addresses: z.array(z.string()) })
      .nullable()
      .describe("Of a run that changes nothing real and takes over into the state what exists (of these, or of all)"),
    overrule: z.string().nullable().describe("Of a destroy: why what is protected goes, too"),
    canceledBy: z.string().nullable().describe("Who asked to stop it while it ran"),
    deliveryId: z.string(),
    createdAt: Timestamp,
    startedAt: Timestamp.nullable(),
    endedAt: Timestamp.nullable(),
    plan: PlanBody.nullable(),
    problem: ProblemBody.nullable(),
    timings: z.record(z.string(), z.number()).describe("Milliseconds by phase"),
    logs: z.array(z.string()).describe("Ids of its logs, for /api/logs"),
  })
  .meta({ title: "InfraRun" });

const LockBody = z
  .object({
    actor: z.string().optional().describe("Who asked for the run that holds it"),
    id: z.string(),
    operation: z.string(),
    who: z.string(),
    created: z.string(),
    runId: z.string().nullable(),
  })
  .meta({ title: "InfraLock" });

const DriftBody = z
  .object({
    checkedAt: Timestamp,
    commit: z.string(),
    runId: z.string(),
    resources: z.array(
      z.object({
        address: z.string(),
        kind: z.enum(["reverting", "informational", "undeployed", "ignored"]),
        action: ActionBody,
        attributes: z.array(AttributeBody),
        reason: z.string().optional(),
      }),
    ),
  })
  .meta({ title: "InfraDrift" });

const TasksBody = z
  .object({
    checkedAt: Timestamp,
    deployment: z.string().nullable().describe("The deployment at work, while which nothing is compared"),
    problem: ProblemBody.nullable().describe("Why nothing could be compared"),
    drift: z
      .array(
        z.object({
          name: z.string(),
          what: z.enum(["task", "backing", "unknown"]),
          kind: z.enum(["missing", "stopped", "changed", "no-traffic", "unknown", "outdated"]),
          attributes: z.array(AttributeBody).describe("As declared (before) and as it is (after), secrets hidden"),
          mendsItself: z
            .boolean()
            .describe("Shipway puts it right by itself: within 15 s on Docker, within two minutes on ECS"),
          remedy: z.string().optional(),
        }),
      )
      .describe("What runs otherwise than declared, looked at now"),
    mended: z.array(z.object({ at: Timestamp, text: z.string() })).describe("Put right in the last 24 hours"),
  })
  .meta({ title: "TaskDrift" });

export const InfraBody = z
  .object({
    app: z.string(),
    environment: z.string(),
    applied: z.object({ runId: z.string(), commit: z.string(), repository: z.string().nullable() }).nullable(),
    runningRun: z.string().nullable(),
    blockedBy: z.string().nullable().describe("The run whose outcome nobody knows"),
    stateIn: z
      .object({ type: z.string(), config: z.record(z.string(), z.string()) })
      .nullable()
      .describe("Where the state lies: shipway, or the backend of the code; null before the first apply"),
    lock: LockBody.nullable().describe("Of a state that Shipway keeps"),
    drift: DriftBody.nullable(),
    tasks: TasksBody.nullable().describe("Null before the first deployment"),
    outputs: z.array(z.object({ name: z.string(), value: z.string(), sensitive: z.boolean() })),
  })
  .meta({ title: "Infra" });

export const StateVersionBody = z
  .object({
    version: z.int(),
    serial: z.int(),
    lineage: z.string(),
    resources: z.int(),
    runId: z.string().nullable(),
    actor: z.string(),
    reason: z.string(),
    createdAt: Timestamp,
  })
  .meta({ title: "InfraStateVersion" });

export const StateBody = StateVersionBody.extend({
  objects: z.array(z.object({ address: z.string(), attributes: z.record(z.string(), z.string()) })),
}).meta({ title: "InfraState" });

export const StateDiffBody = z
  .object({
    from: z.int(),
    to: z.int(),
    resources: z.array(
      z.object({
        address: z.string(),
        change: z.enum(["added", "removed", "changed"]),
        attributes: z.array(AttributeBody),
      }),
    ),
  })
  .meta({ title: "InfraStateDiff" });

export const RecoveryBody = z
  .object({
    run: InfraRunBody,
    lock: LockBody.nullable(),
    errored: z.object({ serial: z.int(), resources: z.int() }).nullable().describe("The state that could not be saved"),
    finished: z
      .array(z.object({ address: z.string(), action: z.string(), id: z.string().nullable() }))
      .describe("Done by the run, and not in the state"),
    uncertain: z
      .array(
        z.object({
          address: z.string(),
          action: z.string(),
          beside: z.boolean().describe("What the state has there was not said to be destroyed"),
        }),
      )
      .describe("Begun, and never heard of again"),
    beside: z
      .array(z.object({ address: z.string(), id: z.string() }))
      .describe("Made beside what the state has there, which was not said to be destroyed: to be removed by hand"),
    advice: z.enum(["push", "import", "accept"]),
  })
  .meta({ title: "InfraRecovery" });

export const InfraRepositoryBody = z
  .object({
    name: z.string(),
    app: z.string(),
    gitUrl: z.string(),
    createdAt: Timestamp,
    environments: z.array(z.string()).describe("Those that were applied from it"),
  })
  .meta({ title: "InfraRepository" });
export const CreateInfraRepositoryRequest = z.strictObject({ name: z.string() });
export type InfraRepositoryView = z.infer<typeof InfraRepositoryBody>;

export const InfraStartedBody = z.object({ runId: z.string(), deliveryId: z.string() });
export const StartInfraRequest = z.strictObject({
  kind: z.enum(["plan", "apply", "drift"]),
  ref: z
    .string()
    .min(1)
    .optional()
    .describe(
      "Branch, tag or commit; default: the default branch. Of the infra repository where the environment names one",
    ),
  again: z.literal(true).optional().describe("Apply what was applied last once more, which puts back what drifted"),
});
export const DestroyInfraRequest = z.strictObject({
  ref: z.string().min(1).optional().describe("Code to destroy with; default: that of the last apply"),
  overrule: z
    .string()
    .min(1)
    .max(500)
    .optional()
    .describe("Why what `protect` and `maxDestroy` keep is to go, too; on the record"),
});
export const RecoverRequest = z.strictObject({
  way: z.enum(["push", "import", "accept"]),
  found: z
    .array(z.strictObject({ address: z.string().min(1).max(500), id: z.string().min(1).max(2_000) }))
    .default([])
    .describe("With import: objects that were begun and never confirmed, and that somebody saw to exist"),
});
export const UnlockRequest = z.strictObject({ lockId: z.string().min(1) });
const What = z
  .string()
  .min(1)
  .max(500)
  .describe("A resource, or one attribute of it: aws_ecs_service.web.desired_count");
export const AcceptDriftRequest = z.strictObject({
  targets: z
    .array(
      z
        .string()
        .regex(/^[A-Za-z][^\s\u0000-\u001f]*$/, "write an address such as aws_vpc.main or module.db")
        .max(500),
    )
    .max(50)
    .default([])
    .describe("Take over only these; default: all of the environment"),
});
export const IgnoreDriftRequest = z.strictObject({
  what: What,
  reason: z.string().min(1).max(500),
  for: z
    .string()
    .refine((text) => parseDurationMs(text) !== undefined, "write a duration with its unit, such as 12h or 30d")
    .optional()
    .describe("How long; default: until somebody takes it back"),
});
export const UnignoreDriftRequest = z.strictObject({ what: What });
export const IgnoredDriftBody = z
  .object({
    address: z.string(),
    path: z.string().describe("Of an attribute; empty for the whole resource"),
    reason: z.string(),
    actor: z.string(),
    until: Timestamp.nullable(),
    createdAt: Timestamp,
  })
  .meta({ title: "IgnoredDrift" });

export type InfraRunView = z.infer<typeof InfraRunBody>;
export type InfraView = z.infer<typeof InfraBody>;
export type TasksView = z.infer<typeof TasksBody>;
export type IgnoredDriftView = z.infer<typeof IgnoredDriftBody>;
export type DriftView = z.infer<typeof DriftBody>;
export type StateVersionView = z.infer<typeof StateVersionBody>;
export type RecoveryView = z.infer<typeof RecoveryBody>;
export type StateDiffView = z.infer<typeof StateDiffBody>;
