import { z } from "zod";
import type { HookView, NotifyDeliveryView } from "../../http/notify-schemas.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { formatAgo } from "../format.ts";
import { AppFlag, JSON_OUT, JsonFlag, LIMIT, LimitFlag } from "../input.ts";
import { askSecret } from "./login.ts";

const HOOK = { name: "id", summary: "the hook, as `shipway notify list` shows it" };

export const notifyCommands: Command[] = [
  defineCommand({
    name: "notify add",
    summary: "have events sent to a chat or to a program of yours",
    details:
      "Without --on it is told what somebody has to act on: new drift of infrastructure or tasks, a run that waits for an approval, a failed or unknown infra run, a failed deployment, a rollback, an environment that is frozen. Of a chat the URL is a password: leave it out and it is asked for, or read from stdin.",
    args: [{ name: "url", summary: "where to; asked for when it is left out", optional: true }],
    options: [
      { flags: "--app <name>", summary: "events of this app only (default: of every app)" },
      { flags: "--on <events>", summary: "such as infra.driftFound,deployment.ended:failed,infra.*" },
      {
        flags: "--format <format>",
        summary: "json: our events, signed (default); slack: for Slack and what is like it",
      },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway notify add --format slack < slack-url.txt", does: "the URL stays out of the shell's history" },
      {
        run: "shipway notify add https://ci.example.com/hook --app launches",
        does: "shows the secret to check with, once",
      },
    ],
    input: z.strictObject({
      url: z.string().optional(),
      ...AppFlag,
      on: z.string().optional(),
      format: z.enum(["json", "slack"]).default("json"),
      ...JsonFlag,
    }),
    async run({ url, app, on, format, json }, context) {
      const client = await context.client();
      const hook = await client.addHook({
        url: url ?? (await askSecret("URL of the webhook", context)),
        format,
        ...(app !== undefined && { app }),
        ...(on !== undefined && { on: on.split(",").map((one) => one.trim()) }),
      });
      if (json) context.json(hook);
      else if (format === "json") context.data(hook.secret);
      const { err } = context.colors;
      context.say(`${err.green("✓")} ${hook.id} is told ${hook.on.join(", ")} of ${hook.app ?? "every app"}.`);
      if (format === "json") context.say("  The secret above signs what is sent. It is shown only this once.");
      context.say(`  Try it: \`shipway notify test ${hook.id}\``);
      return 0;
    },
  }),
  defineCommand({
    name: "notify list",
    summary: "who is told what, and whether it arrives",
    options: [{ flags: "--app <name>", summary: "of this app only (default: all that your token may see)" }, JSON_OUT],
    examples: [{ run: "shipway notify list", does: "of every app" }],
    input: z.strictObject({ ...AppFlag, ...JsonFlag }),
    async run({ app, json }, context) {
      const hooks = await (await context.client()).listHooks(app);
      if (json) context.json(hooks);
      else if (hooks.length === 0) context.say("Nobody is told anything yet. `shipway notify add URL`");
      else showHooks(hooks, context);
      return 0;
    },
  }),
  defineCommand({
    name: "notify test",
    summary: "send one now and show what is answered",
    details: "Exits 1 when it is not taken.",
    args: [HOOK],
    options: [JSON_OUT],
    examples: [{ run: "shipway notify test n_4f9a", does: "once; it is not tried again" }],
    input: z.strictObject({ id: z.string(), ...JsonFlag }),
    async run({ id, json }, context) {
      const sent = await (await context.client()).testHook(id);
      const isTaken = sent.status === "delivered";
      if (json) context.json(sent);
      else {
        const { err } = context.colors;
        context.say(`${isTaken ? err.green("✓ taken") : err.red("✗ not taken")}: ${outcomeOf(sent)}`);
        if (sent.answer) context.data(sent.answer);
      }
      return isTaken ? 0 : 1;
    },
  }),
  defineCommand({
    name: "notify log",
    summary: "what was sent to a hook, and what it answered",
    args: [HOOK],
    options: [LIMIT, JSON_OUT],
    examples: [{ run: "shipway notify log n_4f9a", does: "the last deliveries, newest first" }],
    input: z.strictObject({ id: z.string(), ...LimitFlag, ...JsonFlag }),
    async run({ id, limit, json }, context) {
      const sent = await (await context.client()).listNotifyDeliveries(id, limit);
      if (json) context.json(sent);
      else if (sent.length === 0) context.say(`Nothing was sent yet. \`shipway notify test ${id}\``);
      else showDeliveries(sent, context);
      return 0;
    },
  }),
  defineCommand({
    name: "notify remove",
    summary: "tell a hook nothing any more",
    args: [HOOK],
    examples: [{ run: "shipway notify remove n_4f9a", does: "what waits for it is dropped" }],
    input: z.strictObject({ id: z.string() }),
    async run({ id }, context) {
      await (await context.client()).removeHook(id);
      context.say(`${context.colors.err.green("✓")} ${id} is told nothing any more.`);
      return 0;
    },
  }),
];

function showHooks(hooks: readonly HookView[], context: CommandContext): void {
  context.table(hooks, [
    { title: "HOOK", value: ({ id }) => id },
    { title: "APP", value: ({ app }) => app ?? "every app" },
    { title: "FORMAT", value: ({ format }) => format },
    { title: "TO", value: ({ url }) => url },
    {
      title: "STATE",
      value: ({ failingSince }) =>
        failingSince === null ? "ok" : `failing, ${formatAgo(failingSince, context.now())}`,
    },
    { title: "ON", value: ({ on }) => on.join(", "), flexible: true },
  ]);
  const failing = hooks.find(({ failingSince }) => failingSince !== null);
  if (failing) context.say(`  Why it fails: \`shipway notify log ${failing.id}\``);
}

function showDeliveries(sent: readonly NotifyDeliveryView[], context: CommandContext): void {
  context.table(sent, [
    { title: "WHEN", value: ({ createdAt }) => formatAgo(createdAt, context.now()) },
    { title: "EVENT", value: ({ kind, eventId }) => (eventId === null ? kind : `${kind} #${eventId}`) },
    { title: "STATUS", value: ({ status }) => status },
    { title: "ATTEMPTS", value: ({ attempts }) => String(attempts), align: "right" },
    { title: "ANSWER", value: outcomeOf, flexible: true },
  ]);
}

function outcomeOf({ httpStatus, answer, problem }: NotifyDeliveryView): string {
  if (httpStatus === null) return problem ?? "no answer";
  const first = (answer ?? "").split("\n")[0] ?? "";
  return `HTTP ${httpStatus}${first === "" ? "" : ` ${first}`}`;
}
