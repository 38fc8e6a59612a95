import { z } from "zod";
import { fail } from "../../shared/errors.ts";
import { apiClient } from "../client.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { chooseServer, normalizeServerUrl, readCredentials, rememberServer } from "../credentials.ts";

export const loginCommands: Command[] = [
  defineCommand({
    name: "login",
    summary: "use a Shipway server from here",
    details:
      "Asks for a token (from `shipway token create`) or reads it from stdin, tries it, and stores it for you alone.\nOn the server's own machine `shipway up` has done this already.",
    args: [{ name: "url", summary: "the server, such as https://shipway.example.com" }],
    examples: [
      { run: "shipway login https://shipway.example.com", does: "sign in; it asks for the token" },
      { run: "shipway login http://localhost:7420 < token.txt", does: "the same from a script" },
    ],
    input: z.strictObject({ url: z.string() }),
    async run({ url }, context) {
      const baseUrl = normalizeServerUrl(url);
      const token = await askSecret(`Token for ${baseUrl}`, context);
      const fetch = context.fetch === undefined ? {} : { fetch: context.fetch };
      const { version } = await apiClient({ baseUrl, token, ...fetch }).status();
      await rememberServer(context.credentialsFile, baseUrl, token);
      context.say(`${context.colors.err.green("✓")} Signed in to ${baseUrl} (Shipway ${version}).`);
      context.say("  Next: `shipway app list`, or in a checkout `shipway app create NAME`.");
      return 0;
    },
  }),
  defineCommand({
    name: "git-credential",
    summary: "answers git's credential protocol for Shipway's own remotes",
    hidden: true,
    args: [{ name: "operation", summary: "get, store or erase" }],
    options: [{ flags: "--file <path>", summary: "the credentials file" }],
    examples: [{ run: "shipway git-credential get", does: "called by git" }],
    input: z.strictObject({ operation: z.string(), file: z.string().optional() }),
    async run({ operation, file }, context) {
      // We store and forget nothing for git: `store` and `erase` are answered with silence, as the protocol asks.
      if (operation !== "get") return 0;
      const asked = parseAttributes(await context.readStdin());
      const token = await tokenFor(`${asked.get("protocol")}://${asked.get("host")}`, file, context);
      if (token !== undefined) context.out(`username=shipway\npassword=${token}\n`);
      return 0;
    },
  }),
];

/** A value from the terminal (hidden) or from stdin; never from the command line, where every user of the machine could read it. @throws USAGE */
export async function askSecret(question: string, context: CommandContext): Promise<string> {
  const typed = context.isTTY.in ? await context.promptSecret(question) : await context.readStdin();
  const value = typed?.replace(/\r?\n$/, "");
  if (value !== undefined && value !== "") return value;
  throw fail("USAGE", {
    message: "No value was given.",
    hint: "Type it when asked, or give it on stdin, such as `shipway … < file`.",
  });
}

/** `key=value` lines up to the first empty one (git-credential(1), INPUT/OUTPUT FORMAT). */
function parseAttributes(text: string): Map<string, string> {
  const lines = text.split("\n\n")[0]?.split("\n") ?? [];
  return new Map(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
}

async function tokenFor(
  origin: string,
  file: string | undefined,
  context: CommandContext,
): Promise<string | undefined> {
  if (!URL.canParse(origin)) return undefined;
  const { servers } = await readCredentials(file ?? context.credentialsFile);
  const stored = Object.entries(servers).find(([url]) => new URL(url).origin === new URL(origin).origin);
  if (stored) return stored[1].token;
  const { SHIPWAY_SERVER: server, SHIPWAY_TOKEN: token } = context.environment;
  // A token of the environment belongs to the server of the environment, and goes to no other host.
  if (server === undefined || token === undefined) return undefined;
  const chosen = await chooseServer({ server, token }, context.credentialsFile);
  return new URL(chosen.baseUrl).origin === new URL(origin).origin ? chosen.token : undefined;
}
