import { z } from "zod";
import { FARGATE_SIZES } from "../aws/fargate-sizes.ts";
import { parseDurationMs } from "../shared/duration.ts";
import { Name } from "../source/name.ts";
import { isRefName } from "../source/ref-name.ts";
import { ADDRESS_FORM, parseRepositoryAddress } from "../source/repository-address.ts";
import { readSecretReference } from "./secret-reference.ts";

const DURATION_FORM = "write a duration with its unit, such as 500ms, 5s, 2m or 1h";
/** A timer of Node.js cannot wait longer than 24.8 days; one that is asked to fires at once (Node.js, `setTimeout`). */
const MAX_DURATION_MS = 20 * 86_400_000;

function duration(minMs = 0) {
  return z
    .string(DURATION_FORM)
    .regex(/^\d+(\.\d+)?(ms|s|m|h|d)$/, DURATION_FORM)
    .transform((text) => parseDurationMs(text) ?? 0)
    .refine((ms) => ms >= minMs, `use at least ${minMs}ms`)
    .refine((ms) => ms <= MAX_DURATION_MS, "use at most 20d");
}

const VariableName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "use letters, digits and underscores, not starting with a digit");
const Env = z.record(VariableName, z.union([z.string(), z.number(), z.boolean()]).transform(String));

/** A string is run by `sh -c`; a list is executed as it stands. */
const Command = z.union([
  z
    .string()
    .min(1)
    .transform((line) => ["sh", "-c", line]),
  z.array(z.string()).min(1),
]);

const Hostname = z
  .string()
  .regex(
    /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/,
    "write a host name such as shop.example.com, in lower case",
  );

const RelativePath = z
  .string()
  .min(1)
  .refine((path) => !path.startsWith("/") && !path.split("/").includes(".."), "use a path inside the repository")
  .refine((path) => !/[\u0000-\u001f]/.test(path), "use a path without control characters");

/** CPU units that a service can have → the memory sizes in MiB that go with them, smallest first. */
export const FARGATE_MEMORY_MIB: Record<number, readonly number[]> = Object.fromEntries(
  [256, 512, 1_024, 2_048, 4_096].map((cpu) => [cpu, FARGATE_SIZES[cpu] ?? []]),
);

const Cpu = z.union([z.literal(256), z.literal(512), z.literal(1024), z.literal(2048), z.literal(4096)]);
/** MiB. */
const Memory = z.int().min(512).max(30_720);

export const HealthCheck = z.strictObject({
  path: z
    .string()
    // It ends up in the router's configuration, where blanks, quotes and # have a meaning.
    .regex(/^\/[A-Za-z0-9\-._~!$&()*+,;=:@%/?]*$/, "write a path such as /health, without blanks or quotes")
    .optional()
    .describe("Path that is asked with GET; any answer below 400 is healthy."),
  tcp: z.literal(true).optional().describe("Healthy as soon as the port takes connections."),
  command: Command.optional().describe("Command run inside the task; exit code 0 is healthy."),
  interval: duration(100).prefault("1s").describe("Time between two checks."),
  timeout: duration(1).prefault("2s").describe("How long one check may take."),
  healthy: z.int().min(1).max(20).default(2).describe("Checks that must pass in a row before a task gets traffic."),
  unhealthy: z.int().min(1).max(20).default(3).describe("Checks that must fail in a row before a task loses traffic."),
  grace: duration()
    .optional()
    .describe(
      "How long a new task may take to become healthy; for a task with no port and no command, how long it must stay up.",
    ),
});

const ImageReference = z
  .string()
  .regex(/^[a-z0-9][A-Za-z0-9._/:@-]*$/, "write an image reference such as redis:7 or ghcr.io/team/app:1.2");

const Build = z.strictObject(
  {
    context: RelativePath.default(".").describe("Folder of the repository that is sent to the build."),
    dockerfile: RelativePath.optional().describe("Dockerfile, relative to the context. Default: Dockerfile."),
    target: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/, "write the name of a stage, as after AS in the Dockerfile")
      .optional()
      .describe("Stage of a multi-stage Dockerfile. Default: the last."),
    args: Env.default({}).describe("Build arguments (ARG). They stay readable in the image: no secrets here."),
  },
  {
    error: ({ code }) =>
      code === "invalid_type" ? "write build: { context: FOLDER }, or build: {} for the whole repository" : undefined,
  },
);

const Service = z.strictObject({
  build: Build.optional().describe("Build the image from this repository."),
  image: ImageReference.optional().describe("Run a ready image instead of building one."),
  command: Command.optional().describe("Replaces the image's command. Text runs with sh -c, a list as it stands."),
  port: z
    .int()
    .min(1)
    .max(65_535)
    .optional()
    .describe(
      "Port the service listens on. With a port it gets traffic through the router; without one it is a worker.",
    ),
  health: HealthCheck.optional().describe("How a new task proves itself before it gets traffic."),
  cpu: Cpu.default(256).describe("CPU units; 1024 is one core."),
  memory: Memory.optional().describe("MiB; must be a size Fargate allows with the cpu. Default: the smallest one."),
  count: z.int().min(0).max(50).default(1).describe("How many tasks run."),
  env: Env.default({}).describe("Environment variables."),
  secrets: z
    .array(VariableName)
    .default([])
    .describe(
      "Names of secrets handed over as environment variables: stored by shipway secret set, or named under secrets of the environment.",
    ),
  domains: z.array(Hostname).default([]).describe("Host names that lead to this service, beside the default one."),
  release: Command.optional().describe(
    "Run once with the new image before any traffic moves, such as a migration. Its failure stops the deployment.",
  ),
  stopTimeout: duration().prefault("10s").describe("Time between SIGTERM and SIGKILL when a task is stopped."),
  hostPort: z
    .int()
    .min(1)
    .max(65_535)
    .optional()
    .describe("Fixed port of the host. Only one task can own it, so it needs downtime: accept."),
  volumes: z
    .array(z.string().regex(/^[a-z][a-z0-9-]*:\/[^:\s]+$/, "write NAME:/absolute/path"))
    .default([])
    .describe("Volumes with one writer, NAME:/path. They need downtime: accept."),
  downtime: z
    .literal("accept")
    .optional()
    .describe("Accept that each deploy stops the old task before it starts the new one."),
});

export const BackingSpec = z.strictObject({
  engine: z.enum(["mysql", "mariadb", "redis", "postgres"]).describe("What to run."),
  version: z
    .union([z.string(), z.number()])
    .transform(String)
    .refine((tag) => /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(tag), 'write a version tag such as "10.11"')
    .optional()
    .describe('Version tag of the engine\'s image, such as "10.11". Default: a current one.'),
});

const ServiceOverride = z.strictObject({
  count: z.int().min(0).max(50).optional().describe("Replaces count."),
  cpu: Cpu.optional().describe("Replaces cpu."),
  memory: Memory.optional().describe("Replaces memory."),
  env: Env.optional().describe("Added to env; a variable of the same name is replaced."),
  domains: z.array(Hostname).optional().describe("Replaces domains."),
});

const NOT_OURS =
  /^(TF_CLI_|TF_HTTP_|TF_DATA_DIR$|TF_WORKSPACE$|TF_LOG|TF_INPUT$|TF_IN_AUTOMATION$|TF_REATTACH|SHIPWAY_SERVER$|SHIPWAY_TOKEN$|SHIPWAY_PROVIDER|PATH$|HOME$)/;
/** What Terraform's own behaviour hangs on is Shipway's to set. */
const TerraformVariable = VariableName.refine((name) => !NOT_OURS.test(name), "Shipway sets this one itself");

const VarFile = z
  .string()
  .min(1)
  .refine((path) => !path.startsWith("/"), "use a path relative to dir")
  .refine((path) => !/[\u0000-\u001f]/.test(path), "use a path without control characters")
  .refine((path) => !path.endsWith("/"), "name a file");

const CREDENTIAL = /key$|secret|token|password|credential|certificate|^conn_str$/i;
/** `key` is where S3 keeps the state, `kms_…` the name of a key: neither opens anything. */
const NO_CREDENTIAL = /^key$|^kms_/;
const BackendSetting = z
  .string()
  .regex(/^[a-z][a-z0-9_]*$/, "write a setting of the backend, such as bucket")
  .refine(
    (name) => NO_CREDENTIAL.test(name) || !CREDENTIAL.test(name),
    "Terraform would write it in clear into its folder and into every plan; hand it over as an environment variable (secrets: [AWS_SECRET_ACCESS_KEY])",
  );

const Infra = z.strictObject({
  repository: z
    .string()
    .refine((text) => parseRepositoryAddress(text) !== undefined, ADDRESS_FORM)
    .optional()
    .describe(
      "Repository with the Terraform files: a hosted one by its name (shipway infra repository create), or any other by its https or ssh address. Default: the app's own.",
    ),
  ref: z
    .string()
    .refine(isRefName, "write the name of a branch or tag, or a commit id")
    .optional()
    .describe("Branch, tag or commit of that repository. Default: its default branch."),
  credential: VariableName.optional().describe(
    "Name of the secret (shipway secret set) with the token that opens an https address: TOKEN, or USER:TOKEN.",
  ),
  dir: RelativePath.describe("Folder of the repository with the Terraform files."),
  backend: z
    .record(BackendSetting, z.string())
    .default({})
    .describe(
      'What the `backend` block of the code leaves open (-backend-config), such as the key of this environment\'s state in `backend "s3"`.',
    ),
  varFiles: z
    .array(VarFile)
    .default([])
    .describe("Files with values of Terraform variables (-var-file), relative to dir; of two the later wins."),
  variables: Env.default({}).describe(
    "Values of Terraform variables (-var). They win over varFiles. Lists and maps are written as in Terraform.",
  ),
  env: z
    .record(TerraformVariable, z.union([z.string(), z.number(), z.boolean()]).transform(String))
    .default({})
    .describe("Environment variables of Terraform and its providers, such as AWS_REGION."),
  secrets: z
    .array(TerraformVariable)
    .default([])
    .describe(
      "Names of secrets (shipway secret set) handed to Terraform as environment variables. TF_VAR_NAME fills the variable NAME.",
    ),
  outputs: z
    .record(VariableName, z.string().regex(/^[A-Za-z_][A-Za-z0-9_-]*$/, "write the name of a Terraform output"))
    .default({})
    .describe("Environment variables of every service here, by the Terraform output they take their value from."),
  approval: z
    .enum(["destructive", "always"])
    .default("destructive")
    .describe("Which plans wait for `shipway infra approve`: those that destroy, replace or forget something, or all."),
  approvers: z
    .enum(["anyone", "others"])
    .optional()
    .describe(
      "Who may approve: anyone with the role, or only others than who pushed the commit and who asked for the run. Default: others, unless nobody else has the role.",
    ),
  protect: z
    .array(
      z
        .string()
        .regex(
          /^[A-Za-z_*][^\s]{0,199}$/,
          "write an address, a type or a glob such as aws_db_instance.* or module.db.*",
        ),
    )
    .optional()
    .describe("Addresses and types (* for any text) that no plan may destroy, replace or forget, whoever approves it."),
  maxDestroy: z
    .int()
    .min(0)
    .max(10_000)
    .optional()
    .describe("A plan that destroys, replaces or forgets more objects than this fails. Default: any number."),
  drift: z
    .union([z.literal("off"), duration(60_000)])
    .prefault("1h")
    .describe("How often what really exists is compared with what was applied; off for never."),
});

const Arn = (service: string, form: RegExp, example: string) =>
  z.string().regex(new RegExp(`^arn:aws[a-z-]*:${service}:${form.source}$`), `write an ARN such as ${example}`);
const AwsId = (prefix: string) =>
  z.string().regex(new RegExp(`^${prefix}-[0-9a-f]{4,}$`), `write an id such as ${prefix}-0a1b2c3d`);

const RoleArn = Arn("iam", /:\d{12}:role\/[\w+=,.@/-]+/, "arn:aws:iam::123456789012:role/shop-task");

/** What the ecs runtime has to be told of an AWS account. */
export const AwsSettings = z.strictObject({
  region: z
    .string()
    .regex(/^[a-z]{2}(-[a-z]+)+-\d$/, "write a Region such as eu-central-1")
    .describe("Region of all of it."),
  cluster: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,255}$/, "write the cluster's name, not its ARN")
    .describe("Name of the ECS cluster."),
  listener: Arn(
    "elasticloadbalancing",
    /[a-z0-9-]+:\d{12}:listener\/app\/[\w-]+\/[0-9a-z]+\/[0-9a-z]+/,
    "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/shop/0123456789abcdef/0123456789abcdef",
  ).describe("ARN of the load balancer's listener that rules are added to."),
  subnets: z.array(AwsId("subnet")).min(1).max(16).describe("Where tasks run."),
  securityGroups: z.array(AwsId("sg")).min(1).max(5).describe("What tasks carry."),
  executionRole: RoleArn.describe("ARN of the role that fetches images, reads secrets and writes logs for tasks."),
  taskRole: RoleArn.optional().describe("ARN of the role the app itself has."),
  publicIp: z.boolean().default(false).describe("Tasks get a public address: for subnets with no other way out."),
  exec: z.boolean().default(false).describe("Commands can be run inside tasks (`shipway exec`), through ECS Exec."),
});

/** What `ci:` needs beside them. An environment can do without: releases run there anyway. */
const AwsCiSettings = z.strictObject({
  workBucket: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "write the name of a bucket")
    .describe("S3 bucket through which CI hands over checkouts, artifacts and caches."),
  stepRole: RoleArn.optional().describe("ARN of the role that pipeline steps have. Without one they have no rights."),
  stepSecurityGroups: z
    .array(AwsId("sg"))
    .min(1)
    .max(5)
    .optional()
    .describe("What pipeline steps carry, so that they reach less than tasks do. Default: securityGroups."),
  buildProject: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{1,254}$/, "write the project's name, not its ARN")
    .describe("Name of the CodeBuild project that builds images."),
  toolImage: ImageReference.default("node:20-bookworm-slim").describe(
    "Image with Node.js 20 that brings a step its files and takes what it leaves.",
  ),
});

/** Each setting by the output of `terraform/aws-fargate` that has it: with that module nothing has to be written. */
export const AWS_OUTPUTS: Record<keyof z.infer<typeof AwsSettings> | keyof z.infer<typeof AwsCiSettings>, string> = {
  region: "region",
  cluster: "cluster",
  listener: "listener_arn",
  subnets: "subnets",
  securityGroups: "security_groups",
  executionRole: "execution_role_arn",
  taskRole: "task_role_arn",
  publicIp: "assign_public_ip",
  exec: "exec",
  workBucket: "work_bucket",
  stepRole: "step_role",
  stepSecurityGroups: "step_security_groups",
  buildProject: "build_project",
  toolImage: "tool_image",
};

/** What pipeline steps on Fargate need: as tasks of a release do, but behind no load balancer. */
export const AwsStepSettings = AwsSettings.omit({ listener: true, taskRole: true, exec: true }).extend(
  AwsCiSettings.omit({ buildProject: true }).shape,
);
/** What image builds on CodeBuild need. */
export const AwsBuildSettings = AwsSettings.pick({ region: true }).extend(
  AwsCiSettings.pick({ workBucket: true, buildProject: true }).shape,
);

const LOG_DAYS = [
  1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1_096, 1_827, 2_192, 2_557, 2_922, 3_288, 3_653,
];

const Aws = z.strictObject({
  ...AwsSettings.partial().shape,
  ...AwsCiSettings.partial().shape,
  toolImage: ImageReference.optional().describe(
    "Image with Node.js 20 that brings a step its files and takes what it leaves. Default: node:20-bookworm-slim.",
  ),
  publicIp: z.boolean().optional().describe("Tasks get a public address: for subnets with no other way out."),
  exec: z.boolean().optional().describe("Commands can be run inside tasks (`shipway exec`), through ECS Exec."),
  outputs: z
    .partialRecord(
      z.enum(Object.keys(AWS_OUTPUTS) as [keyof typeof AWS_OUTPUTS]),
      z.string().regex(/^[A-Za-z_][A-Za-z0-9_-]*$/, "write the name of a Terraform output"),
    )
    .default({})
    .describe(
      "Settings by the output of the environment's infra they take their value from. Default: the names of the module terraform/aws-fargate.",
    ),
  domain: Hostname.optional().describe("Services without domains answer at SERVICE-ENVIRONMENT-APP.DOMAIN."),
  scheme: z.enum(["http", "https"]).default("https").describe("What the listener speaks."),
  architecture: z.enum(["x86_64", "arm64"]).default("x86_64").describe("What the images are built for."),
  storage: z.int().min(20).max(200).default(20).describe("GiB of disk of each task. Fargate gives 20 for nothing."),
  spot: z
    .boolean()
    .optional()
    .describe(
      "Tasks run on Fargate Spot, which AWS may take back at two minutes' notice; the first of several stays on demand.",
    ),
  autoscaling: z
    .boolean()
    .optional()
    .describe(
      "Application Auto Scaling, set up by you, decides how many tasks run; count is what a first release begins with.",
    ),
  logDays: z
    .int()
    .refine((days) => LOG_DAYS.includes(days), `use one of ${LOG_DAYS.join(", ")}`)
    .default(30)
    .describe("How long CloudWatch keeps the log lines of tasks."),
});

/** `NAME`, or `NAME.ENTRY` of a map. */
const OutputPath = z
  .string()
  .regex(
    /^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)?$/,
    "write the name of a Terraform output, or NAME.ENTRY for an entry of a map",
  );

const SecretSource = z.union([
  z.string().superRefine((text, context) => {
    const read = readSecretReference(text);
    if ("problem" in read) context.addIssue({ code: "custom", message: read.problem });
  }),
  z.strictObject({
    output: OutputPath.describe("Terraform output of this environment with the ARN: NAME, or NAME.ENTRY of a map."),
    key: z
      .string()
      .regex(/^[^:]+$/, "write a key of the secret's JSON, without a colon")
      .optional()
      .describe("Of a secret that is JSON: the key whose value the task gets. Default: all of it."),
  }),
]);

const Environment = z.strictObject({
  runtime: z
    .enum(["docker", "ecs"])
    .default("docker")
    .describe("Where it runs: this server's Docker Engine, or Amazon ECS with Fargate (docs/aws.md)."),
  aws: Aws.optional().describe("The AWS account of runtime: ecs, where infra does not give all of it."),
  backing: z
    .literal("none")
    .optional()
    .describe("The app's backing services do not run here: their addresses come from infra or variables."),
  infra: Infra.optional().describe("Terraform that this environment needs; see docs/infrastructure.md."),
  secrets: z
    .record(VariableName, SecretSource)
    .optional()
    .describe(
      "Of the secrets that services name, those that lie in the AWS account: where. ECS reads them, Shipway never does.",
    ),
  branch: z.string().optional().describe("A push to a branch that matches this glob deploys here."),
  tag: z.string().optional().describe("A tag that matches this glob deploys here."),
  approval: z
    .enum(["none", "required"])
    .optional()
    .describe("required: a release waits here for `shipway approve` before anything of it is started. Default: none."),
  approvers: z
    .enum(["anyone", "others"])
    .optional()
    .describe(
      "Who may approve: anyone with the role, or only others than who pushed the commit and who asked for the deployment. Default: others, unless nobody else has the role.",
    ),
  approvalWithin: duration(60_000)
    .optional()
    .describe("How long a release waits for its approval before it is dropped. Default: until something newer waits."),
  services: z.record(Name, ServiceOverride).default({}).describe("What differs here, service by service."),
  env: Env.default({}).describe("Environment variables of every service here."),
});

const Verify = z.strictObject({
  service: Name.describe("Service whose image runs the command and whose address is SHIPWAY_URL."),
  command: Command.describe("What to run; exit code 0 passes."),
  timeout: duration(1).prefault("2m").describe("How long it may take."),
});

const Ci = z.strictObject({
  steps: z
    .enum(["docker", "ecs"])
    .default("docker")
    .describe("Where pipeline steps run: this server's Docker Engine, or Amazon ECS with Fargate (docs/aws.md)."),
  images: z
    .enum(["docker", "codebuild"])
    .default("docker")
    .describe("Where images are built: this server's Docker Engine, or AWS CodeBuild."),
  environment: Name.optional().describe("Environment whose AWS account and settings are used."),
});

/** `shipway.yml` as the user writes it. Cross-field rules (sizes, unknown services, one of build/image) are in `check-spec.ts`. */
export const AppSpec = z.strictObject({
  app: Name.describe("Name of the app."),
  services: z
    .record(Name, Service)
    .refine((services) => Object.keys(services).length > 0, "declare at least one service")
    .describe("The long-running parts of the app, by name."),
  backing: z
    .record(Name, BackingSpec)
    .default({})
    .describe("Databases and caches that run beside the services of every environment."),
  environments: z
    .record(Name, Environment)
    .default({ production: { branch: "main", runtime: "docker", services: {}, env: {} } })
    .describe("Where the app runs, and which branches and tags deploy there."),
  ci: Ci.optional().describe("Where pipeline steps run and images are built, when not on this server's Docker Engine."),
  verify: z
    .array(Verify)
    .default([])
    .describe("Commands run against the environment after traffic moved; a failure rolls back by itself."),
  bake: duration().prefault("3s").describe("How long the new release is watched after traffic moved."),
  standby: duration().prefault("30m").describe("How long the previous release is kept warm."),
});

export type AppSpec = z.infer<typeof AppSpec>;
export type HealthCheck = z.infer<typeof HealthCheck>;
export type ServiceSpec = z.infer<typeof Service>;
export type BackingSpec = z.infer<typeof BackingSpec>;
export type InfraSpec = z.infer<typeof Infra>;
export type AwsSpec = z.infer<typeof Aws>;
export type CiSpec = z.infer<typeof Ci>;
export type VerifySpec = z.infer<typeof Verify>;
export type SecretSource = z.infer<typeof SecretSource>;

/** What one environment runs: the spec with that environment's overrides applied. */
export type EnvironmentSpec = {
  environment: string;
  services: Record<string, ServiceSpec & { memory: number }>;
  backing: Record<string, BackingSpec>;
  verify: VerifySpec[];
  infra?: InfraSpec;
  runtime: "docker" | "ecs";
  aws?: AwsSpec;
  /** Undefined where releases need nobody's approval. */
  approval?: ApprovalRule;
  /** Of the secrets that services name, those that lie in the AWS account. */
  secretSources?: Record<string, SecretSource>;
  bakeMs: number;
  standbyMs: number;
};

/** Who lets a release into an environment. Without `approvers`: others than its author, unless nobody else has the role. */
export type ApprovalRule = { approvers?: "anyone" | "others"; withinMs?: number };
