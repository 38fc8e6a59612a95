import { z } from "zod";
import type { Environment } from "../../http/schemas.ts";
import { fail } from "../../shared/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { APP, AppFlag, appFor, DataFlag, JSON_OUT, JsonFlag } from "../input.ts";
import type { Column } from "../table.ts";

export const ENVIRONMENT_COLUMNS: Column<Environment>[] = [
  { title: "ENVIRONMENT", value: ({ name }) => name },
  { title: "LIVE", value: ({ liveRelease }) => releaseOr(liveRelease, "nothing yet") },
  { title: "STANDBY", value: ({ standbyRelease }) => releaseOr(standbyRelease, "-") },
  {
    title: "TASKS",
    value: ({ services }) => services.map((one) => `${one.name} ${one.running}/${one.wanted}`).join(", ") || "-",
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
    name: "env remove",
    summary: "stop and remove all that runs in an environment",
    details:
      "Its tasks, network, addresses, variables and secrets go; its deployments and events stay on the record. Data of databases and volumes are kept unless you say otherwise. Where shipway.yml declares the environment, the next push brings it back.",
    args: [{ name: "name", summary: "the environment" }],
    options: [
      { flags: "--data <what>", summary: "keep (the default) or remove the data of databases and volumes" },
      { flags: "--yes", summary: "do it; without this nothing is removed" },
      APP,
    ],
    examples: [{ run: "shipway env remove demo --yes", does: "a later `env create demo` finds its data again" }],
    input: z.strictObject({ name: z.string(), data: DataFlag, yes: z.boolean().default(false), ...AppFlag }),
    async run({ name, data, yes, ...input }, context) {
      const app = await appFor(input, context);
      const client = await context.client();
      const { liveRelease } = await client.getEnvironment(app, name);
      if (!yes) {
        const what = liveRelease === null ? "Nothing is live there." : `r${liveRelease} serves there and would stop.`;
        throw fail("USAGE", {
          message: `This would remove ${name} of ${app}${data === "remove" ? " and its data for good" : ""}. ${what}`,
          hint: `If you mean it: \`shipway env remove ${name} --app ${app}${data === "remove" ? " --data remove" : ""} --yes\``,
        });
      }
      await client.removeEnvironment(app, name, { data });
      context.say(
        `${context.colors.err.green("✓")} ${name} of ${app} is removed${data === "keep" ? "; its data are kept" : ""}.`,
      );
      return 0;
    },
  }),
];

function stateOf({ frozen, runningDeployment, services }: Environment): string {
  if (runningDeployment !== null) return `deploying (${runningDeployment})`;
  if (frozen !== null) return "frozen: automatic deployments are paused";
  return services.some(({ running, wanted }) => running < wanted) ? "degraded" : "ok";
}

const releaseOr = (release: number | null, otherwise: string) => (release === null ? otherwise : `r${release}`);
