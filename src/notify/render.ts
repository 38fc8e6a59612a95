import type { StoredEvent } from "../events/event.ts";
import { narrate, newNarration } from "../events/narrate.ts";
import { assertNever } from "../shared/assert-never.ts";

/** `slack` is also what Mattermost and Rocket.Chat take. */
export type Format = "json" | "slack";

/** A section of Slack's blocks takes 3,000 characters (Slack API reference, section block). */
const MOST_SLACK_CHARACTERS = 2_900;

export type Message = { notificationId: string; hookId: string; event: StoredEvent; lines: string[]; apiUrl: string };

/** What is said of `event`, in the words that everybody else reads. `before` are the events of the same delivery, in order: some lines need them. */
export function tellOf(before: readonly StoredEvent[], event: StoredEvent): string[] {
  let state = newNarration();
  for (const earlier of before) if (earlier.id < event.id) state = narrate(state, earlier).state;
  const { lines } = narrate(state, event);
  return lines.length > 0 ? lines : [[event.kind, "by", event.actor].join(" ")];
}

/** The body that is sent. A function of the event alone, so that every attempt sends the same. */
export function renderBody(format: Format, message: Message): string {
  const { event, lines, notificationId, hookId, apiUrl } = message;
  switch (format) {
    case "json":
      return JSON.stringify({
        id: notificationId,
        hook: hookId,
        text: lines.join("\n"),
        event,
        links: { api: apiUrl + apiPathOf(event), command: commandOf(event) },
      });
    case "slack":
      return JSON.stringify(slackBody(message));
    default:
      return assertNever(format);
  }
}

/** `{ text, blocks }` as incoming webhooks of Slack take it; `text` is what its like show. */
function slackBody({ event, lines, apiUrl }: Message) {
  const place = [event.app, event.environment].filter((part) => part !== null).join(" ");
  const head = place === "" ? "" : `*${escapeSlack(place)}*\n`;
  const text = cut(head + lines.map(escapeSlack).join("\n"));
  const foot = `\`${escapeSlack(commandOf(event))}\` · <${apiUrl}${escapeSlack(apiPathOf(event))}|API> · ${escapeSlack(event.actor)}`;
  return {
    text,
    blocks: [
      { type: "section", text: { type: "mrkdwn", text } },
      { type: "context", elements: [{ type: "mrkdwn", text: foot }] },
    ],
  };
}

/** The three characters that mean something to Slack (Slack API reference, formatting text): a log line must not ring everybody with `<!channel>`. */
const escapeSlack = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const cut = (text: string) =>
  text.length <= MOST_SLACK_CHARACTERS ? text : `${text.slice(0, MOST_SLACK_CHARACTERS).replace(/&\w*$/, "")}…`;

function apiPathOf({ id, app, environment, kind, data }: StoredEvent): string {
  if (typeof data.deploymentId === "string") return `/api/deployments/${encodeURIComponent(data.deploymentId)}`;
  if (typeof data.runId === "string")
    return `/api/${kind.startsWith("run.") ? "runs" : "infra/runs"}/${encodeURIComponent(data.runId)}`;
  if (app !== null && environment !== null && kind.startsWith("environment."))
    return `/api/apps/${encodeURIComponent(app)}/environments/${encodeURIComponent(environment)}`;
  return `/api/events?after=${Math.max(0, id - 1)}&limit=1`;
}

/** What shows more of it, typed anywhere. */
function commandOf({ app, environment, kind, data }: StoredEvent): string {
  const at = app === null ? "" : ` --app ${app}${environment === null ? "" : ` --env ${environment}`}`;
  if (kind.endsWith(".driftFound")) return `shipway infra drift${at}`;
  if (kind === "deployment.waiting") return `shipway approve${at}`;
  if (typeof data.deploymentId === "string") return `shipway deployments ${data.deploymentId}`;
  if (typeof data.runId === "string")
    return kind.startsWith("run.") ? `shipway runs ${data.runId}` : `shipway infra runs ${data.runId}`;
  return app === null ? "shipway events" : `shipway events --app ${app}`;
}
