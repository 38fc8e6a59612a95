import { z } from "zod";
import { parseDurationMs } from "../shared/duration.ts";
import { Name } from "../source/name.ts";
import { isRefName } from "../source/ref-name.ts";
import { ADDRESS_FORM, parseRepositoryAddress } from "../source/repository-address.ts";

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

/** CPU units → the memory sizes in MiB that Fargate allows with them, smallest first (Amazon ECS developer guide, task size). */
export const FARGATE_MEMORY_MIB: Record<number, readonly number[]> = {
  256: [512, 1_024, 2_048],
  512: sizes(1_024, 4_096),
  1024: sizes(2_048, 8_192),
  2048: sizes(4_096, 16_384),
  4096: sizes(8_192, 30_720),
};

function sizes(minMiB: number, maxMiB: number): number[] {
  return Array.from({ length: (maxMiB - minMiB) / 1_024 + 1 }, (_, step) => minMiB + step * 1_024);
}

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
  image: z
    .string()
    .regex(/^[a-z0-9][A-Za-z0-9._/:@-]*$/, "write an image reference such as redis:7 or ghcr.io/team/app:1.2")
    .optional()
    .describe("Run a ready image instead of building one."),
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
    .describe("Names of secrets (shipway secret set) handed over as environment variables."),
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

const Environment = z.strictObject({
  infra: Infra.optional().describe("Terraform that this environment needs; see docs/infrastructure.md."),
  branch: z.string().optional().describe("A push to a branch that matches this glob deploys here."),
  tag: z.string().optional().describe("A tag that matches this glob deploys here."),
  services: z.record(Name, ServiceOverride).default({}).describe("What differs here, service by service."),
  env: Env.default({}).describe("Environment variables of every service here."),
});

const Verify = z.strictObject({
  service: Name.describe("Service whose image runs the command and whose address is SHIPWAY_URL."),
  command: Command.describe("What to run; exit code 0 passes."),
  timeout: duration(1).prefault("2m").describe("How long it may take."),
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
    .default({ production: { branch: "main", services: {}, env: {} } })
    .describe("Where the app runs, and which branches and tags deploy there."),
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
export type VerifySpec = z.infer<typeof Verify>;

/** What one environment runs: the spec with that environment's overrides applied. */
export type EnvironmentSpec = {
  environment: string;
  services: Record<string, ServiceSpec & { memory: number }>;
  backing: Record<string, BackingSpec>;
  verify: VerifySpec[];
  infra?: InfraSpec;
  bakeMs: number;
  standbyMs: number;
};
