import { z } from "zod";
import { awsNeedsOf } from "../aws-settings.ts";
import { type Command, defineCommand } from "../command.ts";
import { APP, AppFlag, ENV, EnvFlag, JSON_OUT, JsonFlag } from "../input.ts";
import { renderChecks } from "../render-checks.ts";
import { DEFAULT_IMAGE, tryAccount } from "../smoke/try-account.ts";

const Port = z.coerce.number("write a port number").int().min(1).max(65_535).optional();
const ServerFlags = {
  data: z.string().optional(),
  port: Port,
  httpPort: Port,
  bind: z.string().optional(),
};
const DATA_DIR = { flags: "--data <dir>", summary: "where Shipway keeps everything" };
const PORTS = [
  { flags: "--port <n>", summary: "for the API and git" },
  { flags: "--http-port <n>", summary: "where the apps answer" },
];

export const serverCommands: Command[] = [
  defineCommand({
    name: "up",
    summary: "start Shipway on this machine",
    details:
      "Runs until you stop it. Apps keep serving when it stops or is killed; the next start goes on with the work that was cut off.",
    options: [
      DATA_DIR,
      ...PORTS,
      { flags: "--bind <address>", summary: "listen for the API on this address" },
      { flags: "--database-url <url>", summary: "a Postgres of yours instead of the embedded one (or DATABASE_URL)" },
      { flags: "--no-docker", summary: "without a Docker Engine: apps run on ECS only (or SHIPWAY_DOCKER=off)" },
    ],
    examples: [
      { run: "shipway up", does: "start with the defaults" },
      { run: "shipway up --http-port 80 --data /var/lib/shipway", does: "let the apps answer at port 80" },
    ],
    input: z.strictObject({ ...ServerFlags, databaseUrl: z.string().optional(), docker: z.boolean().optional() }),
    run: (input, context) => context.actions.up(input),
  }),
  defineCommand({
    name: "demo",
    summary: "see it work: ship the sample product, change it, roll it back",
    options: [
      { flags: "--runtime <name>", summary: "docker, or ecs: on stand-ins for AWS that run here (default: docker)" },
      { flags: "--once", summary: "remove everything at the end and exit 0, for CI" },
    ],
    examples: [
      { run: "shipway demo", does: "the whole tour, on this machine's Docker Engine" },
      {
        run: "shipway demo --runtime ecs",
        does: "the same app on ECS with Fargate, with everything of AWS played here",
      },
    ],
    input: z.strictObject({
      once: z.boolean().default(false),
      runtime: z.enum(["docker", "ecs"], "write docker or ecs").default("docker"),
    }),
    run: (input, context) => context.actions.demo(input),
  }),
  defineCommand({
    name: "doctor",
    summary: "look for what is missing or wrong on this machine, or in an AWS account",
    details:
      "With aws: what an environment with `runtime: ecs` rests on (credentials, network, load balancer, roles, permissions, quota), by shipway.yml here and the Terraform outputs it names. Nothing is changed, unless with --smoke. Run it where, and as whom, Shipway runs: the credentials looked at are those of this shell.",
    args: [{ name: "what", summary: "aws: the AWS account of an environment", optional: true }],
    options: [
      DATA_DIR,
      ...PORTS,
      { ...ENV, summary: "with aws: the environment (else the only one on ECS)" },
      { ...APP, summary: "with aws: the app on the server (else the one that shipway.yml here names)" },
      {
        flags: "--smoke",
        summary: "with aws: try it, too, with a tiny service that is removed again (15 minutes)",
      },
      {
        flags: "--image <ref>",
        summary: `with --smoke: an image with Node.js that tasks can fetch (default: ${DEFAULT_IMAGE})`,
      },
      { flags: "--yes", summary: "with --smoke: begin without asking" },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway doctor", does: "before the first `shipway up`, or when something is odd" },
      { run: "shipway doctor aws --env production", does: "before the first push to an environment on ECS" },
      { run: "shipway doctor aws --smoke", does: "prove on the account itself what the first deployment rests on" },
      { run: "shipway doctor --json", does: "for a monitoring check; exits 1 when something must be fixed" },
    ],
    input: z
      .strictObject({
        what: z.literal("aws", "write aws, or nothing").optional(),
        ...ServerFlags,
        ...EnvFlag,
        ...AppFlag,
        ...JsonFlag,
        smoke: z.boolean().default(false),
        image: z.string().optional(),
        yes: z.boolean().default(false),
      })
      .refine(({ what, env }) => what === "aws" || env === undefined, { path: ["env"], message: "only with aws" })
      .refine(({ what, app }) => what === "aws" || app === undefined, { path: ["app"], message: "only with aws" })
      .refine(({ what, smoke }) => what === "aws" || !smoke, { path: ["smoke"], message: "only with aws" })
      .refine(({ smoke, image }) => smoke || image === undefined, { path: ["image"], message: "only with --smoke" })
      .refine(({ smoke, yes }) => smoke || !yes, { path: ["yes"], message: "only with --smoke" }),
    async run({ json, what, env, app, smoke, image, yes, ...options }, context) {
      if (smoke) return tryAccount(await awsNeedsOf({ env, app }, context), { image, yes, json }, context);
      const checks =
        what === "aws"
          ? await context.actions.doctorAws(await awsNeedsOf({ env, app }, context))
          : await context.actions.doctor(options);
      const broken = checks.filter(({ status }) => status === "fail").length;
      const warned = checks.filter(({ status }) => status === "warn").length;
      if (json) context.json(checks);
      else for (const line of renderChecks(checks, context.colors.out)) context.data(line);
      const words = what === "aws" ? ON_AWS : HERE;
      if (broken > 0) context.say(words.broken(count(broken, "problem")));
      else if (warned > 0) context.say(words.warned(count(warned, "remark")));
      else context.say(words.well);
      return broken > 0 ? 1 : 0;
    },
  }),
];

const HERE = {
  broken: (problems: string) => `${problems} to fix before Shipway can work.`,
  warned: (remarks: string) => `Shipway can work here; ${remarks} above.`,
  well: "All is well. Start Shipway with `shipway up`.",
};
/** No more than that: only a deployment proves a deployment. */
const ON_AWS = {
  broken: (problems: string) => `${problems} to fix before a deployment can work there.`,
  warned: (remarks: string) => `Nothing speaks against a deployment; ${remarks} above.`,
  well: "Nothing speaks against a deployment. Only one proves it: push.",
};

const count = (n: number, noun: string) => `${n} ${noun}${n === 1 ? "" : "s"}`;
