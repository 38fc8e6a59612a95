import { z } from "zod";
import { flagsOf } from "../../environment/value-scope.ts";
import type { Variable } from "../../http/schemas.ts";
import { type Command, defineCommand } from "../command.ts";
import { formatAgo } from "../format.ts";
import { holderOf, isOf, JSON_OUT, JsonFlag, SCOPE, ScopeFlags, STEPS, sayFromWhen, scopeFor } from "../input.ts";

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
    summary: "set variables that every service of an environment, or pipeline steps, get",
    details:
      "With --pipelines every step has them as $NAME; with --env as well, only steps with that `deployment:`, in pipelines of branches and tags that the environment takes. Those of services win over `env` of shipway.yml, and lose to backing services, Terraform outputs and secrets of the same name. Everybody who may see the app can read them: what is secret belongs to `shipway secret set`.",
    args: [{ name: "pairs", summary: "NAME=VALUE, as often as you like", many: true }],
    options: SCOPE,
    examples: [
      { run: "shipway var set LOG_LEVEL=debug REGION=eu --env staging", does: "two at once" },
      { run: "shipway var set NODE_ENV=test --pipelines", does: "for every step of the app's pipelines" },
    ],
    input: z.strictObject({ pairs: z.array(Pair).min(1), ...ScopeFlags }),
    async run({ pairs, ...input }, context) {
      const scope = await scopeFor(input, context);
      const client = await context.client();
      for (const { name, value } of pairs) {
        const { version } = scope.pipelines
          ? await client.setPipelineVariable(scope.app, scope.environment, name, value)
          : await client.setVariable(scope.app, scope.environment, name, value);
        context.say(`${context.colors.err.green("✓")} ${name} is set for ${holderOf(scope)} (version ${version}).`);
      }
      sayFromWhen(scope, context);
      return 0;
    },
  }),
  defineCommand({
    name: "var list",
    summary: "variables with their values and versions",
    options: [...SCOPE, JSON_OUT],
    examples: [
      { run: "shipway var list --env production", does: "what is set there" },
      { run: "shipway var list --pipelines", does: "what pipeline steps have" },
    ],
    input: z.strictObject({ ...ScopeFlags, ...JsonFlag }),
    async run(input, context) {
      const scope = await scopeFor(input, context);
      const client = await context.client();
      const variables: (Variable & { environment?: string | null })[] = scope.pipelines
        ? (await client.listPipelineVariables(scope.app)).filter(isOf(scope))
        : await client.listVariables(scope.app, scope.environment);
      if (input.json) context.json(variables);
      else if (variables.length === 0)
        context.say(`No variable is set. \`shipway var set NAME=VALUE ${flagsOf(scope)}\``);
      else
        context.table(variables, [
          { title: "VARIABLE", value: ({ name }) => name },
          ...(scope.pipelines ? [STEPS] : []),
          { title: "VALUE", value: ({ value }) => value, flexible: true },
          { title: "VERSION", value: ({ version }) => String(version), align: "right" },
          { title: "SET", value: ({ updatedAt }) => formatAgo(updatedAt, context.now()) },
        ]);
      return 0;
    },
  }),
  defineCommand({
    name: "var remove",
    summary: "forget a variable; running tasks and pipelines keep it",
    args: [{ name: "name", summary: "the variable" }],
    options: SCOPE,
    examples: [
      { run: "shipway var remove LOG_LEVEL --env staging", does: "the next deployment has it no more" },
      { run: "shipway var remove NODE_ENV --pipelines", does: "the next pipeline has it no more" },
    ],
    input: z.strictObject({ name: z.string(), ...ScopeFlags }),
    async run({ name, ...input }, context) {
      const scope = await scopeFor(input, context);
      const client = await context.client();
      if (scope.pipelines) await client.removePipelineVariable(scope.app, scope.environment, name);
      else await client.removeVariable(scope.app, scope.environment, name);
      context.say(`${context.colors.err.green("✓")} ${name} is removed from ${holderOf(scope)}.`);
      if (scope.pipelines) context.say("  Pipelines that run end with what they began with.");
      else
        context.say(
          `  Tasks lose it with the next deployment: \`shipway deploy --app ${scope.app} --env ${scope.environment}\``,
        );
      return 0;
    },
  }),
];
