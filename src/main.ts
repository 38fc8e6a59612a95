#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { CliContext, UpOptions } from "./cli/context.ts";
import { runCli } from "./cli/run-cli.ts";
import { endWithReader, terminalContext } from "./cli/terminal.ts";
import { providerProgramBeside } from "./infra/provider-mirror.ts";

/** The only place that reads the environment. */
const Environment = z.object({
  AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: z.string().optional(),
  DATABASE_URL: z.url().optional(),
  /** Amazon ECS sets it in every container of a task. */
  AWS_EXECUTION_ENV: z.string().optional(),
  DOCKER_HOST: z
    .string()
    .startsWith("unix://", "only a Unix socket is supported, such as unix:///var/run/docker.sock")
    .default("unix:///var/run/docker.sock"),
  PATH: z.string().default("/usr/local/bin:/usr/bin:/bin"),
  NO_COLOR: z.string().optional(),
  SHIPWAY_DATA: z.string().optional(),
  SHIPWAY_DOCKER: z.literal("off").optional(),
  SHIPWAY_FIRST_TOKEN: z
    .string()
    .regex(/^shw_[A-Za-z0-9_-]{32,}$/, "write shw_ and at least 32 letters and digits")
    .optional(),
  SHIPWAY_LOG: z.enum(["debug", "info", "warn", "error", "silent"]).default("warn"),
  SHIPWAY_REGISTRY: z.url().optional(),
  SHIPWAY_TERRAFORM: z.string().min(1).optional(),
  SHIPWAY_TERRAFORM_MIRROR: z.string().optional(),
  SHIPWAY_DRIFT_CHECKS: z.coerce.number().int().min(1).max(50).default(2),
  SHIPWAY_SECRET_KEY: z.string().optional(),
  SHIPWAY_SERVER: z.string().optional(),
  SHIPWAY_TOKEN: z.string().optional(),
  SHIPWAY_URL: z.url({ protocol: /^https?$/ }).optional(),
  TERM: z.string().optional(),
  XDG_CONFIG_HOME: z.string().optional(),
  XDG_DATA_HOME: z.string().optional(),
});

/** What AWS_EXECUTION_ENV says there (Amazon ECS developer guide, task environment variables). */
const ON_FARGATE = "AWS_ECS_FARGATE";
const PORT = 7420;
const HTTP_PORT = 8080;

/** Whether the port is taken by a Shipway, which is then no reason to warn. */
async function isShipway(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/api/ready`, { signal: AbortSignal.timeout(1_000) }).catch(
    () => undefined,
  );
  return answer?.ok === true;
}

/**
 * On Fargate there is never an engine. Elsewhere somebody has to say so: a laptop whose engine is not running has no socket either, and must be told that
 * rather than run a Shipway that refuses everything.
 */
function isWithoutDocker({ docker }: UpOptions, environment: z.infer<typeof Environment>): boolean {
  if (docker === false || environment.SHIPWAY_DOCKER === "off") return true;
  return environment.AWS_EXECUTION_ENV === ON_FARGATE;
}

/** On Fargate the role of the task is reached by this address; without it neither Terraform's providers nor its backend would find it. */
function credentialsOf(environment: z.infer<typeof Environment>): Record<string, string> {
  const { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: uri } = environment;
  return uri === undefined ? {} : { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: uri };
}

async function main(): Promise<number> {
  // It would tell every user's log, in eight lines, which Node.js a later SDK wants. Its setting is only read from here.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= "true";
  endWithReader(process);
  const parsed = Environment.safeParse(process.env);
  if (!parsed.success) {
    process.stderr.write(`The environment is not valid:\n${z.prettifyError(parsed.error)}\n`);
    return 2;
  }
  const environment = parsed.data;
  const home = homedir();
  const dockerSocket = environment.DOCKER_HOST.slice("unix://".length);
  const root = fileURLToPath(new URL("..", import.meta.url));
  const version = z
    .object({ version: z.string() })
    .parse(JSON.parse(readFileSync(join(root, "package.json"), "utf8"))).version;
  const credentialsFile = join(environment.XDG_CONFIG_HOME ?? join(home, ".config"), "shipway", "credentials.json");
  // Root's own home is closed to the account Postgres runs under.
  const dataHome = process.getuid?.() === 0 ? "/var/lib" : (environment.XDG_DATA_HOME ?? join(home, ".local", "share"));
  const dataDir = environment.SHIPWAY_DATA ?? join(dataHome, "shipway");
  const terminal = terminalContext(process);

  const self = fileURLToPath(import.meta.url);
  const selfCommand = [process.execPath, self];
  const settle = (options: UpOptions) => ({
    dataDir: options.data ?? dataDir,
    // Names in Docker stay short for the one installation that most machines have.
    instance: (options.data ?? dataDir) === join(dataHome, "shipway") ? "default" : undefined,
    port: options.port ?? PORT,
    httpPort: options.httpPort ?? HTTP_PORT,
    bind: options.bind ?? "127.0.0.1",
    databaseUrl: options.databaseUrl ?? environment.DATABASE_URL,
    secretKey: environment.SHIPWAY_SECRET_KEY,
    firstToken: environment.SHIPWAY_FIRST_TOKEN,
    publicUrl: environment.SHIPWAY_URL?.replace(/\/$/, ""),
    dockerSocket: isWithoutDocker(options, environment) ? undefined : dockerSocket,
    searchPath: environment.PATH,
    registryEndpoint: environment.SHIPWAY_REGISTRY,
    stepAgent: join(dirname(self), "step-agent.mjs"),
    terraform: {
      program: environment.SHIPWAY_TERRAFORM,
      mirrorDir: environment.SHIPWAY_TERRAFORM_MIRROR,
      environment: credentialsOf(environment),
      // The first process of a container takes all others with it.
      endsWithUs: process.pid === 1 || environment.AWS_EXECUTION_ENV === ON_FARGATE,
      driftChecks: environment.SHIPWAY_DRIFT_CHECKS,
      providerProgram: providerProgramBeside(self),
    },
    version,
  });
  // The server's parts are loaded by the commands that need them.
  const context: CliContext = {
    ...terminal,
    version,
    environment,
    credentialsFile,
    home,
    selfCommand,
    actions: {
      async up(options) {
        const [{ runUp }, { rememberServer }, { pino }] = await Promise.all([
          import("./cli/up.ts"),
          import("./cli/credentials.ts"),
          import("pino"),
        ]);
        const log = pino({ level: environment.SHIPWAY_LOG }, pino.destination({ fd: 2, sync: true }));
        const code = await runUp(
          { ...settle(options), log },
          { ...terminal, remember: (url, token) => rememberServer(credentialsFile, url, token) },
        );
        // A rollout that was cut off must not go on by itself without a database: the next start goes on with it.
        return process.exit(code);
      },
      async demo(options) {
        const { runDemo } = await import("./cli/demo.ts");
        return runDemo(options, { ...terminal, projectDir: root, selfCommand, dockerSocket, environment: process.env });
      },
      async doctor(options) {
        const [{ runDoctor }, { machineFacts }, { default: Docker }] = await Promise.all([
          import("./cli/doctor.ts"),
          import("./cli/machine-facts.ts"),
          import("dockerode"),
        ]);
        const { dataDir: dir, port, httpPort } = settle(options);
        return runDoctor(
          machineFacts(new Docker({ socketPath: dockerSocket }), async () => ((await isShipway(port)) ? [port] : [])),
          {
            dataDir: dir,
            ports: [
              { port, purpose: "API and git", flag: "--port" },
              { port: httpPort, purpose: "apps", flag: "--http-port" },
            ],
            baseImages: ["haproxy:2.6"],
            terraform: environment.SHIPWAY_TERRAFORM,
          },
        );
      },
      async doctorAws(needs) {
        const [{ openAccountSecrets }, { runAwsDoctor }, { openAwsFacts }, { openCiFacts }] = await Promise.all([
          import("./aws/account-secrets.ts"),
          import("./cli/doctor-aws.ts"),
          import("./cli/aws-facts.ts"),
          import("./cli/ci-facts.ts"),
        ]);
        const { ci, secrets, ...rest } = needs;
        const { region, executionRole } = needs.settings;
        const facts = await openAwsFacts({ region, attempts: 3 });
        const options = {
          ...rest,
          registryEndpoint: environment.SHIPWAY_REGISTRY,
          ...(secrets && {
            secrets: { needs: secrets, account: openAccountSecrets({ region, executionRole, attempts: 3 }) },
          }),
        };
        if (ci === undefined) return runAwsDoctor(facts, options);
        const at = { region: ci.region, attempts: 3 };
        const ciFacts = await openCiFacts(at, ci.region === needs.settings.region ? facts : await openAwsFacts(at));
        return runAwsDoctor(facts, { ...options, ci: { needs: ci, facts: ciFacts } });
      },
      async smokeAws({ settings }, options) {
        const [{ runSmoke }, { thisOwner }, { openSmokeAccount }] = await Promise.all([
          import("./cli/smoke/run-smoke.ts"),
          import("./cli/smoke/owner.ts"),
          import("./rollout/drivers/ecs/smoke-account.ts"),
        ]);
        const account = await openSmokeAccount(settings);
        return runSmoke(account, { ...options, scheme: settings.scheme, owner: thisOwner() });
      },
    },
  };
  return runCli(process.argv.slice(2), context);
}

process.exitCode = await main();
