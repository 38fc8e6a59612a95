import { z } from "zod";
import type { Environment, EnvironmentCost } from "../../http/schemas.ts";
import { HOURS_A_MONTH } from "../../release/environment-cost.ts";
import { type Command, defineCommand } from "../command.ts";
import { APP, AppFlag, appFor, ENV, EnvFlag, JSON_OUT, JsonFlag, placeFor, ReleaseNumber } from "../input.ts";
import type { Column } from "../table.ts";
import { envEndCommands } from "./env-end.ts";

export const ENVIRONMENT_COLUMNS: Column<Environment>[] = [
  { title: "ENVIRONMENT", value: ({ name }) => name },
  { title: "RUNTIME", value: ({ runtime }) => runtime },
  { title: "LIVE", value: ({ liveRelease, stopped }) => releaseOr(liveRelease, stopped ? "-" : "nothing yet") },
  { title: "STANDBY", value: ({ standbyRelease }) => releaseOr(standbyRelease, "-") },
  {
    title: "TASKS",
    value: ({ services }) => services.map((one) => `${one.name} ${one.running ?? "?"}/${one.wanted}`).join(", ") || "-",
    flexible: true,
  },
  { title: "STATE", value: stateOf, flexible: true },
  { title: "DEPLOYED FROM", value: ({ rule }) => rule, flexible: true },
];

export const envCommands: Command[] = [
  defineCommand({
    name: "env list",
    summary: "the environments of an app",
    options: [APP, JSON_OUT],
    examples: [{ run: "shipway env list", does: "what is live, what stands by, what deploys there" }],
    input: z.strictObject({ ...AppFlag, ...JsonFlag }),
    async run(input, context) {
      const app = await appFor(input, context);
      const environments = await (await context.client()).listEnvironments(app);
      if (input.json) context.json(environments);
      else if (environments.length === 0)
        context.say(`${app} has no environment yet: push it, or make one. \`shipway env create NAME\``);
      else context.table(environments, ENVIRONMENT_COLUMNS);
      return 0;
    },
  }),
  defineCommand({
    name: "env create",
    summary: "make an environment, or change which refs deploy there",
    details:
      "It needs no entry in shipway.yml; where that file has one of the same name, the file's rules hold. With neither --branch nor --tag it is deployed by hand.",
    args: [{ name: "name", summary: "lower-case letters, digits and dashes" }],
    options: [
      { flags: "--branch <glob>", summary: "a push to a branch that matches deploys here" },
      { flags: "--tag <glob>", summary: "a tag that matches deploys here" },
      APP,
      JSON_OUT,
    ],
    examples: [
      { run: "shipway env create demo", does: "then `shipway deploy --env demo --release r42`" },
      { run: "shipway env create preview --branch 'feature/*'", does: "every push to such a branch deploys there" },
    ],
    input: z.strictObject({
      name: z.string(),
      branch: z.string().optional(),
      tag: z.string().optional(),
      ...AppFlag,
      ...JsonFlag,
    }),
    async run({ name, branch, tag, json, ...input }, context) {
      const app = await appFor(input, context);
      const rules = { ...(branch !== undefined && { branch }), ...(tag !== undefined && { tag }) };
      const environment = await (await context.client()).declareEnvironment(app, name, rules);
      if (json) context.json(environment);
      context.say(
        `${context.colors.err.green("✓")} ${app} has the environment ${name} (deployed from: ${environment.rule}).`,
      );
      context.say(`  Deploy there now: \`shipway deploy --app ${app} --env ${name}\``);
      return 0;
    },
  }),
  defineCommand({
    name: "env cost",
    summary: "what an environment costs, by its declared sizes",
    details:
      "Tasks on Fargate at list prices of a table with its date; AWS is not asked. An environment on Docker costs what this server's machine costs: with --region it is priced as if it ran on Fargate.",
    options: [
      ENV,
      { flags: "--release <rN>", summary: "of this release (default: the live one)" },
      { flags: "--region <region>", summary: "as if it ran on Fargate there" },
      APP,
      JSON_OUT,
    ],
    examples: [
      { run: "shipway env cost --env production", does: "dollars an hour and a month, and of standing by" },
      { run: "shipway env cost --env staging --region us-east-1", does: "before you move an environment to AWS" },
      { run: "shipway env cost --env production --json", does: "figures for a budget or a check in a pipeline" },
    ],
    input: z.strictObject({
      release: ReleaseNumber.optional(),
      region: z.string().optional(),
      ...EnvFlag,
      ...AppFlag,
      ...JsonFlag,
    }),
    async run({ json, release, region, ...input }, context) {
      const { app, environment } = await placeFor(input, context);
      const cost = await (await context.client()).environmentCost(app, environment, { release, region });
      if (json) {
        context.json(cost);
        return 0;
      }
      if (cost.services.length > 0) context.table(costRows(cost), COST_COLUMNS);
      const { standby } = cost;
      if (standby !== null && standby.deploymentUsd !== null && standby.hourUsd !== null)
        context.say(
          `Standing by adds ${dollars(standby.deploymentUsd, 4)} to each deployment${standby.release === null ? "" : `; r${standby.release} does so now, at ${dollars(standby.hourUsd, 4)} an hour`}.`,
        );
      for (const note of cost.notes) context.say(note);
      return 0;
    },
  }),
  ...envEndCommands,
];

type CostRow = { name: string; tasks: string; size: string; hourUsd: number | null };

const COST_COLUMNS: Column<CostRow>[] = [
  { title: "SERVICE", value: ({ name }) => name, flexible: true },
  { title: "TASKS", value: ({ tasks }) => tasks, align: "right" },
  { title: "SIZE OF EACH", value: ({ size }) => size },
  { title: "AN HOUR", value: ({ hourUsd }) => dollars(hourUsd, 4), align: "right" },
  {
    title: "A MONTH",
    value: ({ hourUsd }) => dollars(hourUsd === null ? null : hourUsd * HOURS_A_MONTH, 2),
    align: "right",
  },
];

function costRows({ services, hourUsd }: EnvironmentCost): CostRow[] {
  const rows = services.map(({ name, cpu, memoryMiB, count, hourUsd: one }) => ({
    name,
    tasks: String(count),
    size: `${cpu / 1_024} vCPU, ${memoryMiB} MiB`,
    hourUsd: one,
  }));
  const tasks = services.reduce((all, one) => all + one.count, 0);
  return [...rows, { name: "all", tasks: String(tasks), size: "", hourUsd }];
}

const dollars = (amount: number | null, digits: number) => (amount === null ? "-" : `$${amount.toFixed(digits)}`);

function stateOf(environment: Environment): string {
  const { frozen, runningDeployment, waitingDeployment, problem, services, stopped } = environment;
  if (problem !== null) return "unknown";
  if (runningDeployment !== null) return `deploying (${runningDeployment})`;
  if (waitingDeployment !== null)
    return `r${waitingDeployment.release} waits for approval${frozen === null ? "" : "; frozen"}`;
  if (stopped !== null) {
    const what = stopped.release === null ? "" : `r${stopped.release} `;
    return stopped.since === null ? `${what}not stopped to the end` : `${what}stopped by ${stopped.by}`;
  }
  if (frozen !== null) return "frozen: automatic deployments are paused";
  return services.some(({ running, wanted }) => running !== null && running < wanted) ? "degraded" : "ok";
}

const releaseOr = (release: number | null, otherwise: string) => (release === null ? otherwise : `r${release}`);
