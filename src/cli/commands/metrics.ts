import { z } from "zod";
import type { Metrics } from "../../http/metrics-schemas.ts";
import { formatDurationMs } from "../../shared/duration.ts";
import { ERRORS, errorCode } from "../../shared/errors.ts";
import { sleep } from "../../shared/until.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import type { ExitCode } from "../context.ts";
import { APP, AppFlag, ENV, EnvFlag, JSON_OUT, JsonFlag, placeFor, Since } from "../input.ts";
import { hasMeans, metricsRemarks, metricsTable, serviceCharts } from "../show-metrics.ts";

const DEFAULT_SINCE_MS = 3_600_000;
/** What a pipe gets, which has no width. */
const PIPE_COLUMNS = 100;

const Input = z.strictObject({
  ...AppFlag,
  ...EnvFlag,
  ...JsonFlag,
  service: z.string().optional(),
  since: Since.optional(),
  follow: z.boolean().default(false),
});
type Input = z.output<typeof Input>;

export const metricsCommands: Command[] = [
  defineCommand({
    name: "metrics",
    summary: "what tasks use and how they answer: cpu, memory, requests, errors, latency",
    details:
      "Figures are those of now, with a line of how they were; the shares of 4xx and 5xx are of all that time. The live release, the one on standby and one that is being deployed are shown apart. `-` is what nobody knows, which is not zero.\nCPU and memory are shares of what the tasks were given. On Docker a share above 100 % is processor time that nobody else wanted; figures are looked at every 15 s and kept in memory for an hour, and HAProxy knows no percentiles, so that `~` marks the mean of answers. On ECS they are CloudWatch's, by the minute and some minutes late.",
    args: [
      { name: "service", summary: "this service in detail: every measure, every release, every task", optional: true },
    ],
    options: [
      APP,
      ENV,
      { flags: "--since <duration>", summary: "how far back: 10m, 1h, 2d (1h)" },
      { flags: "-f, --follow", summary: "go on as there is something new, until Ctrl-C" },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway metrics", does: "how production is" },
      { run: "shipway metrics web -f", does: "watch a service while it is deployed" },
      { run: "shipway metrics --since 10m --json", does: "exact numbers, for a check of yours" },
    ],
    input: Input,
    async run(input, context) {
      const place = await placeFor(input, context);
      const client = await context.client();
      const ask = () => {
        const since = new Date(context.now() - (input.since ?? DEFAULT_SINCE_MS)).toISOString();
        return client.metrics(place.app, place.environment, { service: input.service, since });
      };
      if (input.follow) return follow(ask, input, context);
      const metrics = await ask();
      if (input.json) context.json(metrics);
      else show(metrics, input, context);
      return 0;
    },
  }),
];

function show(metrics: Metrics, input: Input, context: CommandContext): void {
  for (const line of linesOf(metrics, input, context)) context.data(line);
  for (const remark of metricsRemarks(metrics)) context.say(`${context.colors.err.yellow("!")} ${remark}`);
  const notes = [...metrics.notes, ...(hasMeans(metrics) ? ["`~` marks a mean, where there is no percentile."] : [])];
  for (const note of notes) context.say(context.colors.err.dim(note));
}

function linesOf(metrics: Metrics, { service }: Pick<Input, "service">, context: CommandContext): string[] {
  const { app, environment, services, runtime, since, at } = metrics;
  const { bold } = context.colors.out;
  const columns = context.isTTY.out ? context.columns : PIPE_COLUMNS;
  const span = formatDurationMs(Date.parse(at) - Date.parse(since)).replace(/ 0 (s|min)$/, "");
  const title = bold(`${app} ${environment} on ${runtime === "ecs" ? "ECS" : "Docker"}, the last ${span}`);
  if (services.length === 0) return [title, "Nothing is live there yet."];
  if (service === undefined) return [title, "", ...metricsTable(metrics, columns)];
  return [title, ...services.flatMap((one) => ["", ...serviceCharts(one, metrics, columns)])];
}

/** On a terminal in the same place, elsewhere one after the other; in JSON an object a line. What is away for a while is said and tried again. */
async function follow(ask: () => Promise<Metrics>, input: Input, context: CommandContext): Promise<ExitCode> {
  const { interrupted } = context;
  let metrics = await ask();
  let shownLines = 0;
  const print = (lines: string[]) => {
    const above = context.isTTY.out && shownLines > 0 ? `\u001b[${shownLines}A\u001b[J` : "";
    context.data(above + lines.join("\n"));
    shownLines = lines.length;
  };
  for (let trouble: string | undefined; !interrupted.aborted; ) {
    if (input.json && trouble === undefined) context.data(JSON.stringify(metrics));
    else if (input.json) context.say(`! ${trouble}`);
    else print([...followedLines(metrics, input, context), ...(trouble === undefined ? [] : [`! ${trouble}`])]);
    await sleep(metrics.freshEveryMs, interrupted).catch(() => undefined);
    if (interrupted.aborted) break;
    try {
      metrics = await ask();
      trouble = undefined;
    } catch (error) {
      trouble = messageOfUpstream(error);
    }
  }
  return 0;
}

function followedLines(metrics: Metrics, input: Input, context: CommandContext): string[] {
  const remarks = metricsRemarks(metrics).map((remark) => `! ${remark}`);
  return [...linesOf(metrics, input, context), "", ...remarks, `At ${metrics.at.slice(11, 19)} UTC; Ctrl-C ends it.`];
}

/** @throws what does not get better by waiting */
function messageOfUpstream(error: unknown): string {
  const code = errorCode(error);
  if (code !== undefined && ERRORS[code].kind === "upstream") return (error as Error).message;
  throw error;
}
