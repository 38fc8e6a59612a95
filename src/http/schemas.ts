import { z } from "zod";
import { refGlobProblem } from "../shared/ref-glob.ts";
import { Name } from "../source/name.ts";
import { BackingSpec } from "../spec/app-spec.ts";

/** The wire format of the API, shared by the server (which generates OpenAPI from it) and the CLI's client. */
const Timestamp = z.iso.datetime().describe("ISO 8601, UTC");

export const ProblemBody = z
  .object({
    code: z.string().describe("A public code, explained in docs/errors.md"),
    message: z.string(),
    hint: z.string().optional().describe("What to do next"),
    requestId: z.string().optional(),
  })
  .meta({ title: "Problem" });
export const ErrorBody = z.object({ error: ProblemBody });

export const AppBody = z
  .object({
    name: z.string(),
    gitUrl: z.string(),
    createdAt: Timestamp,
    environments: z.array(z.string()),
  })
  .meta({ title: "App" });

const ServiceStatusBody = z.object({
  name: z.string(),
  running: z.int().nullable().describe("null where it cannot be found out now: see the environment's problem"),
  wanted: z.int(),
  image: z.string(),
  addresses: z.array(z.string()),
});

export const EnvironmentBody = z
  .object({
    app: z.string(),
    name: z.string(),
    runtime: z.enum(["docker", "ecs"]).describe("Where it is now"),
    rule: z.string().describe("Which refs deploy here, in words"),
    liveRelease: z.int().nullable(),
    standbyRelease: z.int().nullable(),
    frozen: z.object({ reason: z.string(), since: Timestamp }).nullable().describe("Automatic deployments are paused"),
    addresses: z.array(z.string()),
    services: z.array(ServiceStatusBody),
    runningDeployment: z.string().nullable(),
    waitingDeployment: z
      .object({ id: z.string(), release: z.int() })
      .nullable()
      .describe("The deployment that waits here for an approval"),
    stopped: z
      .object({
        release: z.int().nullable().describe("What served until then, and what a start brings back"),
        by: z.string(),
        since: Timestamp.nullable().describe(
          "Null while it is being stopped, or where stopping did not come to its end",
        ),
      })
      .nullable(),
    problem: ProblemBody.nullable().describe("What keeps from seeing what runs there"),
    declared: z
      .object({ branch: z.string().nullable(), tag: z.string().nullable() })
      .nullable()
      .describe("Its rules through the API; where shipway.yml declares it too, that file's rules hold"),
  })
  .meta({ title: "Environment" });

const Dollars = z.number().nullable().describe("US dollars; null where there is no price");

export const EnvironmentCostBody = z
  .object({
    app: z.string(),
    environment: z.string(),
    runtime: z.enum(["docker", "ecs"]),
    release: z.int().nullable().describe("Whose declared sizes these are"),
    prices: z
      .object({
        region: z.string(),
        asOf: z.string().describe("Month of the list"),
        confirmed: z.boolean().describe("Whether sources of that month agree"),
        architecture: z.enum(["x86_64", "arm64"]),
      })
      .nullable(),
    services: z.array(
      z.object({ name: z.string(), cpu: z.int(), memoryMiB: z.int(), count: z.int(), hourUsd: Dollars }),
    ),
    hourUsd: Dollars,
    monthUsd: Dollars,
    standby: z
      .object({
        release: z.int().nullable().describe("Which stands by now"),
        forMs: z.int().describe("How long one stands by after a deployment"),
        hourUsd: Dollars,
        deploymentUsd: Dollars.describe("US dollars that standing by adds to one deployment"),
      })
      .nullable()
      .describe("Of the previous release; null where standing by costs nothing of its own"),
    notes: z.array(z.string()).describe("What is to be known about the figures, and what is not in them"),
  })
  .meta({ title: "EnvironmentCost" });

export const CostQuery = z.object({
  release: z.coerce.number().int().positive().optional().describe("Of this release; default: the live one"),
  region: z
    .string()
    .regex(/^[a-z]{2}(-[a-z]+)+-\d$/, "write a Region such as eu-central-1")
    .optional()
    .describe("As if it ran on Fargate there"),
});

export const DeploymentStatusBody = z.enum([
  "waiting",
  "queued",
  "running",
  "succeeded",
  "failed",
  "canceled",
  "superseded",
  "rejected",
  "expired",
]);

const EvidenceBody = z
  .object({
    task: z.string(),
    service: z.string(),
    summary: z.string(),
    state: z.enum(["running", "exited", "restarting", "missing"]),
    exitCode: z.int().optional(),
    outOfMemory: z.boolean().optional(),
    probes: z.array(z.string()),
    listening: z.array(z.object({ port: z.int(), address: z.string(), loopbackOnly: z.boolean() })),
    lastLines: z.array(z.string()),
  })
  .meta({ title: "Evidence" });

export const DeploymentBody = z
  .object({
    id: z.string(),
    app: z.string(),
    environment: z.string(),
    release: z.int(),
    kind: z.enum(["deploy", "rollback"]),
    status: DeploymentStatusBody,
    actor: z.string(),
    deliveryId: z.string(),
    createdAt: Timestamp,
    startedAt: Timestamp.nullable(),
    endedAt: Timestamp.nullable(),
    liveAfterMs: z.number().nullable(),
    phases: z.array(z.object({ name: z.string(), durationMs: z.number() })),
    phase: z.string().nullable().describe("Where it stopped"),
    problem: ProblemBody.nullable(),
    evidence: z.array(EvidenceBody),
    rolledBack: z.boolean(),
    addresses: z.array(z.string()),
    infra: z
      .object({ repository: z.string().nullable(), commit: z.string(), runId: z.string() })
      .nullable()
      .describe("The infrastructure that it ran with; repository is null for code in the app's own"),
    approval: z
      .object({
        digest: z.string().describe("Of the release: its images' digests and its configuration"),
        approvers: z.enum(["anyone", "others"]).optional().describe("Default: others, unless nobody else has the role"),
        expiresAt: Timestamp.optional(),
        decision: z
          .object({ approved: z.boolean(), by: z.string(), at: Timestamp, comment: z.string().optional() })
          .optional()
          .describe("Of one that was tried again under the same approval: that of the first"),
      })
      .nullable()
      .describe("null where nobody has to approve it"),
  })
  .meta({ title: "Deployment" });

export const ReviewBody = z
  .object({
    from: z.int().nullable().describe("The release that serves now"),
    commits: z
      .array(z.object({ commit: z.string(), subject: z.string(), author: z.string() }))
      .describe("What the release brings, newest first; of the first release in an environment its own commit"),
    more: z.int().describe("Commits that are not listed"),
    takesBack: z.int().describe("Commits of what serves now that the release does not have"),
    ranIn: z
      .array(
        z.object({
          environment: z.string(),
          release: z.int(),
          status: z.enum(["succeeded", "failed"]),
          verified: z.int().describe("Verify commands that it passed there"),
          isLive: z.boolean(),
          addresses: z.array(z.string()),
          at: Timestamp,
        }),
      )
      .describe("Where the same images were deployed before, the last time in each environment"),
  })
  .meta({ title: "Review" });

export const ReleaseBody = z
  .object({
    app: z.string(),
    number: z.int(),
    commit: z.string(),
    refName: z.string(),
    subject: z.string(),
    author: z.string(),
    createdAt: Timestamp,
    images: z.array(z.object({ service: z.string(), name: z.string(), digest: z.string() })),
    liveIn: z.array(z.string()).describe("Environments that run it now"),
    standbyIn: z.array(z.string()),
  })
  .meta({ title: "Release" });

const StepBody = z.object({
  id: z.string(),
  name: z.string(),
  status: z.enum(["pending", "paused", "running", "passed", "failed", "canceled", "skipped"]),
  exitCode: z.int().optional(),
  reason: z.string().optional(),
  durationMs: z.number().optional(),
  logId: z.string(),
});

export const PipelineBody = z
  .object({
    id: z.string(),
    app: z.string(),
    number: z.int(),
    commit: z.string(),
    refName: z.string(),
    status: z.enum(["running", "paused", "passed", "failed", "canceled", "none"]),
    reason: z.string().nullable(),
    createdAt: Timestamp,
    endedAt: Timestamp.nullable(),
    durationMs: z.number().nullable(),
    deliveryId: z.string().describe("The change that it runs for: `GET /api/events?deliveryId=`"),
    gates: z
      .array(z.object({ id: z.string(), name: z.string(), deployment: z.string().optional() }))
      .describe("Manual steps and stages that can be started now"),
    steps: z.array(StepBody),
  })
  .meta({ title: "Pipeline" });

export const RemovedBody = z
  .object({
    remarks: z
      .array(z.string())
      .describe("What is still there and is not Shipway's to remove, in sentences; usually none"),
  })
  .meta({ title: "Removed" });

export const TeardownRequestBody = z.strictObject({
  until: z.enum(["stopped", "removed"]).describe("Only what runs, or all of the environment"),
  infra: z.enum(["keep", "destroy"]).default("keep").describe("What becomes of what its Terraform has made"),
  data: z.enum(["keep", "remove"]).default("keep").describe("What becomes of the data of backing services and volumes"),
  overrule: z
    .string()
    .min(1)
    .max(500)
    .optional()
    .describe("Why what `protect` and `maxDestroy` keep is destroyed, too; on the record"),
});
export const TeardownBody = z
  .object({
    id: z.string(),
    app: z.string(),
    environment: z.string(),
    until: z.enum(["stopped", "removed"]),
    infra: z.enum(["keep", "destroy"]),
    data: z.enum(["keep", "remove"]),
    overrule: z.string().nullable(),
    status: z
      .enum(["running", "waiting", "finishing", "succeeded", "failed", "canceled"])
      .describe("waiting: for the infra run that destroys, and that for its approval"),
    actor: z.string(),
    infraRun: z.string().nullable(),
    problem: ProblemBody.nullable(),
    remarks: z.array(z.string()).describe("What is still there and is not Shipway's to remove"),
    createdAt: Timestamp,
    endedAt: Timestamp.nullable(),
  })
  .meta({ title: "Teardown" });
export type TeardownView = z.infer<typeof TeardownBody>;

export const EventBody = z
  .object({
    id: z.int(),
    at: Timestamp,
    app: z.string().nullable(),
    environment: z.string().nullable(),
    subject: z.string(),
    deliveryId: z.string().nullable(),
    kind: z.string(),
    actor: z.string(),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ title: "Event" });

export const LogLineBody = z
  .object({
    line: z.int().describe("From 0"),
    at: Timestamp,
    stream: z.enum(["out", "err", "meta"]),
    text: z.string(),
  })
  .meta({ title: "LogLine" });

export const TaskLogLineBody = z
  .object({
    task: z.string(),
    at: Timestamp,
    stream: z.enum(["out", "err", "meta"]),
    text: z.string(),
  })
  .meta({ title: "TaskLogLine" });

export const TaskRunBody = z
  .object({
    id: z.string(),
    app: z.string(),
    environment: z.string(),
    service: z.string(),
    release: z.int(),
    command: z.string().describe("As one types it, with secrets masked"),
    status: z
      .enum(["running", "succeeded", "failed", "canceled", "timed-out", "unknown"])
      .describe("unknown: it was begun, and nobody can tell how it ended"),
    exitCode: z.int().nullable().describe("The command's own; null when there is none"),
    outOfMemory: z.boolean(),
    actor: z.string(),
    canceledBy: z.string().nullable(),
    problem: ProblemBody.nullable(),
    createdAt: Timestamp,
    endedAt: Timestamp.nullable(),
    durationMs: z.number().nullable(),
    logId: z.string().describe("Its output, for `/api/logs`"),
  })
  .meta({ title: "TaskRun" });

/** A program and its arguments. */
export const CommandWords = z
  .array(z.string().max(32_768))
  .min(1)
  .max(500)
  .refine((words) => words.every((word) => !word.includes("\0")), "holds a NUL character");

const LONGEST_RUN_MS = 24 * 3_600_000;
export const TaskRunRequest = z.strictObject({
  service: z.string(),
  command: CommandWords.describe("Program and arguments; no shell reads them"),
  release: z.int().min(1).optional().describe("Default: the live one"),
  deadlineMs: z.int().min(1_000).max(LONGEST_RUN_MS).default(LONGEST_RUN_MS).describe("It is stopped then"),
});

export const RoleBody = z.enum(["viewer", "developer", "tester", "operator", "admin"]);
export const TokenBody = z
  .object({
    id: z.string(),
    name: z.string(),
    role: RoleBody,
    app: z.string().nullable().describe("null: every app"),
    createdAt: Timestamp,
  })
  .meta({ title: "Token" });

export const SecretBody = z
  .object({ name: z.string(), version: z.int(), updatedAt: Timestamp })
  .meta({ title: "Secret" });

export const AccountSecretBody = z
  .object({
    name: z.string(),
    from: z.string().describe("Where it lies in the AWS account"),
    version: z.string().describe("The one that was current when the release that serves was deployed"),
    isPinned: z.boolean().describe("False for a parameter, of which tasks get the newest version when they start"),
  })
  .meta({ title: "AccountSecret" });

export const VariableBody = z
  .object({ name: z.string(), value: z.string(), version: z.int(), updatedAt: Timestamp })
  .meta({ title: "Variable" });

const deployment = {
  environment: z.string().nullable().describe("Only for steps with this `deployment`; null: for every step"),
};
export const PipelineSecretBody = SecretBody.extend(deployment).meta({ title: "PipelineSecret" });
export const PipelineVariableBody = VariableBody.extend(deployment).meta({ title: "PipelineVariable" });

const { engine: Engine, version: Version } = BackingSpec.shape;
export const BackingBody = z
  .object({
    name: z.string(),
    engine: Engine,
    version: z.string().describe("Version tag of what is there; where nothing is, of what would be started"),
    host: z.string().describe("Where tasks reach it"),
    port: z.int(),
    variables: z.array(z.string()).describe("Names of the variables that tasks get"),
    state: z
      .enum(["running", "stopped", "missing", "starting"])
      .describe("Of the real container; stopped: it serves nobody, be it stopped, paused or taken off its network"),
    container: z.string().optional().describe("Its name on the engine"),
  })
  .meta({ title: "Backing" });

export const StartedBody = z
  .object({
    deliveryId: z.string().describe("All that follows from the request: `GET /api/events?deliveryId=`"),
    deploymentId: z.string().nullable().describe("null: something is built first"),
  })
  .meta({ title: "Started" });

export const StatusBody = z.object({
  version: z.string(),
  instance: z.string().describe("The label of everything this Shipway makes in Docker"),
  apiUrl: z.string(),
  httpPort: z.int(),
  dataDir: z.string(),
  uptimeMs: z.number(),
  docker: z.object({
    used: z.boolean().describe("false: this Shipway was started without a Docker Engine"),
    reachable: z.boolean(),
    version: z.string().nullable(),
  }),
  apps: z.array(AppBody),
});

export const CreateAppRequest = z.strictObject({ name: Name });
/** Either a ref of the hosted repository, built when needed, or an existing release to promote. */
export const DeployRequest = z
  .strictObject({
    environment: Name,
    ref: z.string().min(1).optional().describe("Branch, tag or commit of the app's repository; built when needed"),
    release: z.int().min(1).optional().describe("A release to promote as it is"),
  })
  .refine(({ ref, release }) => (ref === undefined) !== (release === undefined), "give either `ref` or `release`");
export const ContinueRequest = z.strictObject({
  step: z.string().min(1).optional().describe("Name or id of the manual step; needed where several can be started"),
});
export const ContinuedBody = z.object({ pipelineId: z.string(), deliveryId: z.string() }).meta({ title: "Continued" });
const Said = z.string().trim().min(1).max(2_000);
export const ApproveRequest = z.strictObject({ comment: Said.optional().describe("Kept with the approval") });
export const RejectRequest = z.strictObject({ reason: Said.describe("Told to whoever asked for it") });
export const RollbackRequest = z.strictObject({
  to: z.int().min(1).optional().describe("Default: the previous good release"),
});
const RefGlob = z
  .string()
  .refine((glob) => refGlobProblem(glob) === undefined, {
    error: ({ input }) => `the glob ${refGlobProblem(String(input))}`,
  })
  .nullable()
  .optional();
export const DeclareEnvironmentRequest = z.strictObject({
  branch: RefGlob.describe("A push to a branch that matches this glob deploys here; null for none"),
  tag: RefGlob.describe("A tag that matches this glob deploys here; null for none"),
});
export const DeclareBackingRequest = z.strictObject({
  engine: Engine,
  version: Version,
});
/** Whether data outlive what is removed. */
export const DataQuery = z.strictObject({
  data: z.enum(["keep", "remove"]).default("keep").describe("What becomes of the data of backing services and volumes"),
});
export const SetVariableRequest = z.strictObject({
  value: z
    .string()
    .max(65_536)
    .refine((value) => !value.includes("\u0000"), "an environment variable cannot hold a NUL character"),
});
export const VariableWord = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "use letters, digits and underscores")
  .max(200);
export const VariableName = VariableWord.refine(
  (name) => !name.startsWith("SHIPWAY_"),
  "names that start with SHIPWAY_ are set by Shipway",
);
export const SetSecretRequest = z.strictObject({ value: z.string().min(1).max(65_536) });
export const CreateTokenRequest = z.strictObject({
  name: z.string().min(1).max(60),
  role: RoleBody,
  app: Name.optional().describe("Good for this app only"),
});

export type App = z.infer<typeof AppBody>;
export type Environment = z.infer<typeof EnvironmentBody>;
export type EnvironmentCost = z.infer<typeof EnvironmentCostBody>;
export type Deployment = z.infer<typeof DeploymentBody>;
export type Review = z.infer<typeof ReviewBody>;
export type ReleaseSummary = z.infer<typeof ReleaseBody>;
export type Pipeline = z.infer<typeof PipelineBody>;
export type ApiEvent = z.infer<typeof EventBody>;
export type ApiLogLine = z.infer<typeof LogLineBody>;
export type TaskLogLine = z.infer<typeof TaskLogLineBody>;
export type Token = z.infer<typeof TokenBody>;
export type Role = z.infer<typeof RoleBody>;
export type Variable = z.infer<typeof VariableBody>;
export type Backing = z.infer<typeof BackingBody>;
export type SecretSummary = z.infer<typeof SecretBody>;
export type AccountSecret = z.infer<typeof AccountSecretBody>;
export type PipelineSecret = z.infer<typeof PipelineSecretBody>;
export type PipelineVariable = z.infer<typeof PipelineVariableBody>;
export type TaskRun = z.infer<typeof TaskRunBody>;
export type Started = z.infer<typeof StartedBody>;
export type Status = z.infer<typeof StatusBody>;
