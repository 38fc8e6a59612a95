import { z } from "zod";
import { flagsOf } from "../../environment/value-scope.ts";
import type { SecretSummary } from "../../http/schemas.ts";
import { type Command, defineCommand } from "../command.ts";
import { formatAgo } from "../format.ts";
import { holderOf, isOf, JSON_OUT, JsonFlag, SCOPE, ScopeFlags, STEPS, sayFromWhen, scopeFor } from "../input.ts";
import { askSecret } from "./login.ts";

/** Stored here, or, with `from`, where it lies in the AWS account. */
type Listed = Omit<SecretSummary, "version" | "updatedAt"> & {
  version: number | string;
  updatedAt?: string;
  environment?: string | null;
  from?: string;
};
const PLACE = { title: "WHERE", value: ({ from }: Listed) => from ?? "Shipway", flexible: true } as const;

export const secretCommands: Command[] = [
  defineCommand({
    name: "secret set",
    summary: "store a value that tasks, or pipeline steps, get as a variable",
    details:
      "The value comes from stdin, or is asked for at the terminal; it is never an argument. Nobody can read it back.\nTasks get those that their service names. With --pipelines every step has it as $NAME, masked in its log: whoever may push can use it in a script. With --env as well, only steps with that `deployment:` have it, in pipelines of branches and tags that the environment takes.",
    args: [{ name: "name", summary: "as `secrets:` of a service in shipway.yml, or a script, names it" }],
    options: SCOPE,
    examples: [
      { run: "shipway secret set STRIPE_KEY --env production", does: "asks for the value" },
      { run: "shipway secret set STRIPE_KEY < key.txt", does: "from a file" },
      { run: "shipway secret set NPM_TOKEN --pipelines", does: "for every step of the app's pipelines" },
      { run: "shipway secret set AWS_KEY --pipelines --env production", does: "for steps with deployment: production" },
    ],
    input: z.strictObject({ name: z.string(), ...ScopeFlags }),
    async run(input, context) {
      const { name } = input;
      const scope = await scopeFor(input, context);
      const value = await askSecret(`Value of ${name} for ${holderOf(scope)}`, context);
      const client = await context.client();
      const { version } = scope.pipelines
        ? await client.setPipelineSecret(scope.app, scope.environment, name, value)
        : await client.setSecret(scope.app, scope.environment, name, value);
      context.say(`${context.colors.err.green("✓")} ${name} is set for ${holderOf(scope)} (version ${version}).`);
      sayFromWhen(scope, context);
      return 0;
    },
  }),
  defineCommand({
    name: "secret list",
    summary: "names and versions; never values",
    details:
      "Those of the AWS account (`secrets` of an environment in shipway.yml) are shown as the release that serves has them, with where they lie.",
    options: [...SCOPE, JSON_OUT],
    examples: [
      { run: "shipway secret list --env production", does: "what is set there" },
      { run: "shipway secret list --pipelines", does: "what pipeline steps have" },
    ],
    input: z.strictObject({ ...ScopeFlags, ...JsonFlag }),
    async run(input, context) {
      const scope = await scopeFor(input, context);
      const client = await context.client();
      const secrets: Listed[] = scope.pipelines
        ? (await client.listPipelineSecrets(scope.app)).filter(isOf(scope))
        : [
            ...(await client.listSecrets(scope.app, scope.environment)),
            ...(await client.listAccountSecrets(scope.app, scope.environment)),
          ];
      if (input.json) context.json(secrets);
      else if (secrets.length === 0) context.say(`No secret is set. \`shipway secret set NAME ${flagsOf(scope)}\``);
      else
        context.table(secrets, [
          { title: "SECRET", value: ({ name }) => name },
          ...(scope.pipelines ? [STEPS] : []),
          // The beginning of a long id tells one from another.
          { title: "VERSION", value: ({ version }) => String(version).slice(0, 8), align: "right" },
          {
            title: "SET",
            value: ({ updatedAt }) => (updatedAt === undefined ? "" : formatAgo(updatedAt, context.now())),
          },
          ...(secrets.some(({ from }) => from !== undefined) ? [PLACE] : []),
        ]);
      return 0;
    },
  }),
  defineCommand({
    name: "secret remove",
    summary: "forget a value; running tasks and pipelines keep theirs",
    args: [{ name: "name", summary: "the secret" }],
    options: SCOPE,
    examples: [
      { run: "shipway secret remove STRIPE_KEY --env staging", does: "the next deployment has it no more" },
      { run: "shipway secret remove NPM_TOKEN --pipelines", does: "the next pipeline has it no more" },
    ],
    input: z.strictObject({ name: z.string(), ...ScopeFlags }),
    async run(input, context) {
      const { name } = input;
      const scope = await scopeFor(input, context);
      const client = await context.client();
      if (scope.pipelines) await client.removePipelineSecret(scope.app, scope.environment, name);
      else await client.removeSecret(scope.app, scope.environment, name);
      context.say(`${context.colors.err.green("✓")} ${name} is removed from ${holderOf(scope)}.`);
      if (scope.pipelines) context.say("  Pipelines that run end with what they began with.");
      else context.say("  Take it out of `secrets:` in shipway.yml too, or the next deployment will miss it.");
      return 0;
    },
  }),
];
