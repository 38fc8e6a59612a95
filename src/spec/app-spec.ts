import { z } from "zod";
import { parseDurationMs } from "../shared/duration.ts";

/** Lower-case letters, digits and dashes: it becomes part of container names and host names (63 characters per label, RFC 1035). */
export const Name = z
  .string()
  .regex(
    /^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$/,
    "use 1 to 30 lower-case letters, digits and dashes, starting with a letter",
  );

const Duration = z
  .string()
  .refine((text) => parseDurationMs(text) !== undefined, "write a duration with its unit, such as 500ms, 5s, 2m or 1h")
  .transform((text) => parseDurationMs(text) ?? 0);

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
  .refine((path) => !path.startsWith("/") && !path.split("/").includes(".."), "use a path inside the repository");

/** CPU units → the memory sizes in MiB that Fargate allows with them (Amazon ECS developer guide, task size). */
export const FARGATE_SIZES: Record<number, { minMiB: number; maxMiB: number; stepMiB: number }> = {
  256: { minMiB: 512, maxMiB: 2_048, stepMiB: 512 },
  512: { minMiB: 1_024, maxMiB: 4_096, stepMiB: 1_024 },
  1024: { minMiB: 2_048, maxMiB: 8_192, stepMiB: 1_024 },
  2048: { minMiB: 4_096, maxMiB: 16_384, stepMiB: 1_024 },
  4096: { minMiB: 8_192, maxMiB: 30_720, stepMiB: 1_024 },
};
const Cpu = z.union([z.literal(256), z.literal(512), z.literal(1024), z.literal(2048), z.literal(4096)]);
/** MiB. */
const Memory = z.int().min(512).max(30_720);

export const HealthCheck = z.strictObject({
  path: z.string().startsWith("/").optional(),
  tcp: z.literal(true).optional(),
  command: Command.optional(),
  interval: Duration.default(1_000),
  timeout: Duration.default(2_000),
  healthy: z.int().min(1).max(20).default(2),
  unhealthy: z.int().min(1).max(20).default(3),
  /** How long a new task may take to become healthy; for a task with no port and no command, how long it must stay up. */
  grace: Duration.optional(),
});

const Build = z.strictObject({
  context: RelativePath.default("."),
  dockerfile: RelativePath.optional(),
  target: z.string().optional(),
  args: Env.default({}),
});

const Service = z.strictObject({
  build: Build.optional(),
  image: z.string().optional(),
  command: Command.optional(),
  port: z.int().min(1).max(65_535).optional(),
  health: HealthCheck.optional(),
  cpu: Cpu.default(256),
  memory: Memory.optional(),
  count: z.int().min(0).max(50).default(1),
  env: Env.default({}),
  secrets: z.array(VariableName).default([]),
  domains: z.array(Hostname).default([]),
  /** A one-off run of the new image before any traffic moves, such as a migration. */
  release: Command.optional(),
  stopTimeout: Duration.default(10_000),
  /** A fixed port of the host. Only one task can own it, so it needs `downtime: accept`. */
  hostPort: z.int().min(1).max(65_535).optional(),
  /** Volumes with one writer, `NAME:/path`. They need `downtime: accept`. */
  volumes: z.array(z.string().regex(/^[a-z][a-z0-9-]*:\/.+$/, "write NAME:/absolute/path")).default([]),
  downtime: z.literal("accept").optional(),
});

const Backing = z.strictObject({
  engine: z.enum(["mysql", "mariadb", "redis", "postgres"]),
  version: z.union([z.string(), z.number()]).transform(String).optional(),
});

const Environment = z.strictObject({
  branch: z.string().optional(),
  tag: z.string().optional(),
  services: z
    .record(
      Name,
      z.strictObject({
        count: z.int().min(0).max(50).optional(),
        cpu: Cpu.optional(),
        memory: Memory.optional(),
        env: Env.optional(),
        domains: z.array(Hostname).optional(),
      }),
    )
    .default({}),
  env: Env.default({}),
});

const Verify = z.strictObject({ service: Name, command: Command, timeout: Duration.default(120_000) });

/** `shipway.yml` as the user writes it. Cross-field rules (sizes, unknown services, one of build/image) are in `check-spec.ts`. */
export const AppSpec = z.strictObject({
  app: Name,
  services: z
    .record(Name, Service)
    .refine((services) => Object.keys(services).length > 0, "declare at least one service"),
  backing: z.record(Name, Backing).default({}),
  environments: z.record(Name, Environment).default({ production: { branch: "main", services: {}, env: {} } }),
  /** Run in the environment after traffic moved; a failure rolls back by itself. `SHIPWAY_URL` is the address of the service. */
  verify: z.array(Verify).default([]),
  /** How long the new release is watched after traffic moved. */
  bake: Duration.default(3_000),
  /** How long the previous release is kept warm. */
  standby: Duration.default(1_800_000),
});

export type AppSpec = z.infer<typeof AppSpec>;
export type HealthCheck = z.infer<typeof HealthCheck>;
export type ServiceSpec = z.infer<typeof Service>;
export type BackingSpec = z.infer<typeof Backing>;
export type VerifySpec = z.infer<typeof Verify>;

/** What one environment runs: the spec with that environment's overrides applied. */
export type EnvironmentSpec = {
  environment: string;
  services: Record<string, ServiceSpec & { memory: number }>;
  backing: Record<string, BackingSpec>;
  verify: VerifySpec[];
  bakeMs: number;
  standbyMs: number;
};
