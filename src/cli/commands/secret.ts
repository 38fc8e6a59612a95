import { z } from "zod";
import { type Command, defineCommand } from "../command.ts";
import { formatAgo } from "../format.ts";
import { APP, AppFlag, ENV, EnvFlag, JSON_OUT, JsonFlag, placeFor } from "../input.ts";
import { askSecret } from "./login.ts";

const Place = { ...AppFlag, ...EnvFlag };

export const secretCommands: Command[] = [
  defineCommand({
    name: "secret set",
    summary: "store a value that tasks get as a variable",
    details:
      "The value comes from stdin, or is asked for at the terminal; it is never an argument. Nobody can read it back.",
    args: [{ name: "name", summary: "as `secrets:` of a service in shipway.yml names it" }],
    options: [APP, ENV],
    examples: [
      { run: "shipway secret set STRIPE_KEY --env production", does: "asks for the value" },
      { run: "shipway secret set STRIPE_KEY < key.txt", does: "from a file" },
    ],
    input: z.strictObject({ name: z.string(), ...Place }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      const value = await askSecret(`Value of ${input.name} for ${app} ${environment}`, context);
      const secret = await (await context.client()).setSecret(app, environment, input.name, value);
      context.say(
        `${context.colors.err.green("✓")} ${secret.name} is set for ${app} ${environment} (version ${secret.version}).`,
      );
      context.say(`  Tasks get it with the next deployment: \`shipway deploy --env ${environment}\``);
      return 0;
    },
  }),
  defineCommand({
    name: "secret list",
    summary: "names and versions; never values",
    options: [APP, ENV, JSON_OUT],
    examples: [{ run: "shipway secret list --env production", does: "what is set there" }],
    input: z.strictObject({ ...Place, ...JsonFlag }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      const secrets = await (await context.client()).listSecrets(app, environment);
      if (input.json) context.json(secrets);
      else if (secrets.length === 0) context.say(`No secret is set. \`shipway secret set NAME --env ${environment}\``);
      else
        context.table(secrets, [
          { title: "SECRET", value: ({ name }) => name },
          { title: "VERSION", value: ({ version }) => String(version), align: "right" },
          { title: "SET", value: ({ updatedAt }) => formatAgo(updatedAt, context.now()) },
        ]);
      return 0;
    },
  }),
  defineCommand({
    name: "secret remove",
    summary: "forget a value; running tasks keep theirs",
    args: [{ name: "name", summary: "the secret" }],
    options: [APP, ENV],
    examples: [{ run: "shipway secret remove STRIPE_KEY --env staging", does: "the next deployment has it no more" }],
    input: z.strictObject({ name: z.string(), ...Place }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      await (await context.client()).removeSecret(app, environment, input.name);
      context.say(`${context.colors.err.green("✓")} ${input.name} is removed from ${app} ${environment}.`);
      context.say("  Take it out of `secrets:` in shipway.yml too, or the next deployment will miss it.");
      return 0;
    },
  }),
];
