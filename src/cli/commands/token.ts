import { z } from "zod";
import { RoleBody } from "../../http/schemas.ts";
import { type Command, defineCommand } from "../command.ts";
import { formatAgo } from "../format.ts";
import { AppFlag, JSON_OUT, JsonFlag } from "../input.ts";

const Role = z.enum(RoleBody.options, `write one of ${RoleBody.options.join(", ")}`);

export const tokenCommands: Command[] = [
  defineCommand({
    name: "token create",
    summary: "let a person or a program in",
    details: "The token is shown once, on stdout. It is good for the API and as git's password.",
    args: [{ name: "name", summary: "whose it is, such as maria or nightly-build" }],
    options: [
      { flags: "--role <role>", summary: `${RoleBody.options.join(", ")} (developer)` },
      { flags: "--app <name>", summary: "good for this app only (default: for all)" },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway token create maria --role developer", does: "then give it to her for `shipway login`" },
      { run: "shipway token create screens --role viewer --app launches > token.txt", does: "for a program" },
    ],
    input: z.strictObject({ name: z.string(), role: Role.default("developer"), ...AppFlag, ...JsonFlag }),
    async run({ name, role, app, json }, context) {
      const client = await context.client();
      const token = await client.createToken({ name, role, ...(app === undefined ? {} : { app }) });
      if (json) context.json(token);
      else context.data(token.token);
      const scope = token.app === null ? "every app" : `the app ${token.app}`;
      context.say(`${context.colors.err.green("✓")} The token ${name} (${role} of ${scope}) is shown only this once.`);
      context.say(
        `  Use it elsewhere: \`shipway login ${client.baseUrl}\`. Take it back: \`shipway token revoke ${token.id}\``,
      );
      return 0;
    },
  }),
  defineCommand({
    name: "token list",
    summary: "who may do what",
    options: [JSON_OUT],
    examples: [{ run: "shipway token list", does: "names, roles, ids; never the tokens" }],
    input: z.strictObject({ ...JsonFlag }),
    async run({ json }, context) {
      const tokens = await (await context.client()).listTokens();
      if (json) context.json(tokens);
      else if (tokens.length === 0) context.say("No token yet. `shipway token create NAME --role developer`");
      else
        context.table(tokens, [
          { title: "TOKEN", value: ({ id }) => id },
          { title: "NAME", value: ({ name }) => name, flexible: true },
          { title: "ROLE", value: ({ role }) => role },
          { title: "APP", value: ({ app }) => app ?? "every app" },
          { title: "MADE", value: ({ createdAt }) => formatAgo(createdAt, context.now()) },
        ]);
      return 0;
    },
  }),
  defineCommand({
    name: "token revoke",
    summary: "take a token back, at once",
    args: [{ name: "id", summary: "as `shipway token list` shows it" }],
    examples: [{ run: "shipway token revoke t_4f9a", does: "its next request is refused" }],
    input: z.strictObject({ id: z.string() }),
    async run({ id }, context) {
      await (await context.client()).revokeToken(id);
      context.say(`${context.colors.err.green("✓")} The token ${id} is good for nothing any more.`);
      return 0;
    },
  }),
];
