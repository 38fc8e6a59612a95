import { z } from "zod";
import { type Command, defineCommand } from "../command.ts";
import { formatAgo } from "../format.ts";
import { APP, AppFlag, ENV, EnvFlag, JSON_OUT, JsonFlag, placeFor } from "../input.ts";

const Place = { ...AppFlag, ...EnvFlag };

const Pair = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*=/, "write NAME=VALUE")
  .transform((pair) => {
    const at = pair.indexOf("=");
    return { name: pair.slice(0, at), value: pair.slice(at + 1) };
  });

export const variableCommands: Command[] = [
  defineCommand({
    name: "var set",
    summary: "set variables that every service of an environment gets",
    details:
      "They win over `env` of shipway.yml, and lose to backing services, Terraform outputs and secrets of the same name. Everybody who may see the app can read them: what is secret belongs to `shipway secret set`.",
    args: [{ name: "pairs", summary: "NAME=VALUE, as often as you like", many: true }],
    options: [APP, ENV],
    examples: [{ run: "shipway var set LOG_LEVEL=debug REGION=eu --env staging", does: "two at once" }],
    input: z.strictObject({ pairs: z.array(Pair).min(1), ...Place }),
    async run({ pairs, ...input }, context) {
      const { app, environment } = await placeFor(input, context);
      const client = await context.client();
      for (const { name, value } of pairs) {
        const { version } = await client.setVariable(app, environment, name, value);
        context.say(`${context.colors.err.green("✓")} ${name} is set for ${app} ${environment} (version ${version}).`);
      }
      context.say(`  Tasks get it with the next deployment: \`shipway deploy --app ${app} --env ${environment}\``);
      return 0;
    },
  }),
  defineCommand({
    name: "var list",
    summary: "variables with their values and versions",
    options: [APP, ENV, JSON_OUT],
    examples: [{ run: "shipway var list --env production", does: "what is set there" }],
    input: z.strictObject({ ...Place, ...JsonFlag }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      const variables = await (await context.client()).listVariables(app, environment);
      if (input.json) context.json(variables);
      else if (variables.length === 0)
        context.say(`No variable is set. \`shipway var set NAME=VALUE --env ${environment}\``);
      else
        context.table(variables, [
          { title: "VARIABLE", value: ({ name }) => name },
          { title: "VALUE", value: ({ value }) => value, flexible: true },
          { title: "VERSION", value: ({ version }) => String(version), align: "right" },
          { title: "SET", value: ({ updatedAt }) => formatAgo(updatedAt, context.now()) },
        ]);
      return 0;
    },
  }),
  defineCommand({
    name: "var remove",
    summary: "forget a variable; running tasks keep it",
    args: [{ name: "name", summary: "the variable" }],
    options: [APP, ENV],
    examples: [{ run: "shipway var remove LOG_LEVEL --env staging", does: "the next deployment has it no more" }],
    input: z.strictObject({ name: z.string(), ...Place }),
    async run({ name, ...input }, context) {
      const { app, environment } = await placeFor(input, context);
      await (await context.client()).removeVariable(app, environment, name);
      context.say(`${context.colors.err.green("✓")} ${name} is removed from ${app} ${environment}.`);
      context.say(`  Tasks lose it with the next deployment: \`shipway deploy --app ${app} --env ${environment}\``);
      return 0;
    },
  }),
];
