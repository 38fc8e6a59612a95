import { z } from "zod";
import type { ApiEvent } from "../../http/schemas.ts";
import type { ApiClient, EventQuery } from "../client.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { AppFlag, JSON_OUT, JsonFlag, LIMIT, LimitFlag } from "../input.ts";
import { cut } from "../table.ts";

export const eventCommands: Command[] = [
  defineCommand({
    name: "events",
    summary: "who did what, when; everything is on the record",
    details: "With --json each event is an object on a line of its own.",
    options: [
      { flags: "--app <name>", summary: "only of this app" },
      { flags: "-f, --follow", summary: "go on as they happen, until Ctrl-C" },
      { flags: "--after <id>", summary: "only what came after this event" },
      LIMIT,
      JSON_OUT,
    ],
    examples: [
      { run: "shipway events --app launches", does: "the last ones of an app" },
      { run: "shipway events -f --json | jq -r .kind", does: "feed another program; nothing is missed" },
    ],
    input: z.strictObject({
      ...AppFlag,
      ...LimitFlag,
      ...JsonFlag,
      follow: z.boolean().default(false),
      after: z.coerce.number("write an event's id").int().min(0).optional(),
    }),
    async run(input, context) {
      const client = await context.client();
      const show = (event: ApiEvent) => context.data(input.json ? JSON.stringify(event) : eventLine(event, context));
      const past = await readAllEvents(client, { app: input.app, after: input.after });
      for (const event of past.slice(-input.limit)) show(event);
      if (!input.follow) {
        if (past.length === 0) context.say("Nothing happened yet.");
        return 0;
      }
      const after = past.at(-1)?.id ?? input.after ?? 0;
      const options = { signal: context.interrupted };
      for await (const event of client.followEvents({ app: input.app, after }, options)) show(event);
      return 0;
    },
  }),
];

/** Every event of the query, page after page, oldest first. */
export async function readAllEvents(client: ApiClient, query: EventQuery): Promise<ApiEvent[]> {
  const events: ApiEvent[] = [];
  for (let after = query.after; ; after = events.at(-1)?.id) {
    const page = await client.listEvents({ ...query, after, limit: 500 });
    if (page.length === 0) return events;
    events.push(...page);
  }
}

function eventLine(event: ApiEvent, context: CommandContext): string {
  const where = [event.app, event.environment].filter((part) => part !== null).join(" ");
  const colors = context.colors.out;
  const head = `${event.id}  ${event.at}  ${event.kind}`;
  const line = `${head}  ${[where, event.subject, `by ${event.actor}`, ...facts(event.data)].filter(Boolean).join("  ")}`;
  const shown = context.isTTY.out ? cut(line, context.columns) : line;
  return `${colors.dim(shown.slice(0, head.length - event.kind.length))}${shown.slice(head.length - event.kind.length)}`;
}

/** Short values of the event's data; the rest is in `--json`. */
function facts(data: Record<string, unknown>): string[] {
  return Object.entries(data).flatMap(([key, value]) => {
    // They are in the event's own kind and subject.
    if (key === "kind" || key === "deploymentId" || key === "pipelineId") return [];
    const short = typeof value === "number" || (typeof value === "string" && value !== "" && value.length <= 80);
    return short ? [`${key}=${String(value).replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ")}`] : [];
  });
}
