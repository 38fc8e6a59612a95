import { z } from "zod";
import { newNarrator } from "../../events/narrate.ts";
import type { Pipeline, TaskLogLine } from "../../http/schemas.ts";
import { fail, type ShipwayError } from "../../shared/errors.ts";
import { didYouMean } from "../../shared/yaml-problems.ts";
import type { ApiClient } from "../client.ts";
import { colorLine } from "../color-line.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import type { ExitCode } from "../context.ts";
import { followLiveTasks } from "../follow-live-tasks.ts";
import {
  APP,
  AppFlag,
  appFor,
  ENV,
  EnvFlag,
  environmentFor,
  JSON_OUT,
  JsonFlag,
  ReleaseNumber,
  Since,
} from "../input.ts";
import { renderProblem } from "../problem.ts";
import { readAllEvents } from "./events.ts";
import { findPipeline, stepArgument } from "./pipelines.ts";

const DEFAULT_SINCE_MS = 10 * 60_000;

const Input = z.strictObject({
  ...AppFlag,
  ...EnvFlag,
  ...JsonFlag,
  follow: z.boolean().default(false),
  service: z.string().optional(),
  release: ReleaseNumber.optional(),
  since: Since.optional(),
  pipeline: z.string().optional(),
  step: z.string().optional(),
  deployment: z.string().optional(),
  build: z.string().optional(),
  run: z.string().optional(),
});
type Input = z.output<typeof Input>;

export const logCommands: Command[] = [
  defineCommand({
    name: "logs",
    summary: "output of tasks, of pipeline steps, or of a deployment",
    options: [
      APP,
      ENV,
      { flags: "-f, --follow", summary: "go on as it comes, until Ctrl-C" },
      { flags: "--service <name>", summary: "only this service" },
      { flags: "--release <rN>", summary: "only tasks of this release" },
      { flags: "--since <duration>", summary: "how far back: 30s, 10m, 2h (10m)" },
      { flags: "--pipeline <id>", summary: "steps of this pipeline run instead: its number or id" },
      { flags: "--step <name>", summary: "with --pipeline: this step (default: those that failed, else all)" },
      { flags: "--deployment <id>", summary: "how this deployment went, with what its commands printed" },
      { flags: "--run <id>", summary: "what this command printed (`shipway runs`)" },
      { flags: "--build <id>", summary: "the image builds of this delivery (with --service: only that one)" },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway logs -f --service web", does: "watch the web tasks" },
      { run: "shipway logs --pipeline 12 --step unit", does: "why the step failed" },
      { run: "shipway logs --deployment d_8k2m", does: "how a deployment went, with its evidence" },
    ],
    input: Input,
    run(input, context) {
      if (input.pipeline !== undefined) return stepLogs(input, input.pipeline, context);
      if (input.deployment !== undefined) return deploymentLog(input.deployment, input.json, context);
      if (input.build !== undefined) return buildLogs(input, input.build, context);
      if (input.run !== undefined) return runLog(input, input.run, context);
      if (input.step === undefined) return taskLogs(input, context);
      throw fail("USAGE", {
        message: `Which pipeline run is the step ${input.step} of?`,
        hint: "Add `--pipeline N`; `shipway pipelines` lists the runs.",
      });
    },
  }),
];

async function taskLogs(input: Input, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  const app = await appFor(input, context);
  const environment = await environmentFor(app, input, context);
  const since = new Date(context.now() - (input.since ?? DEFAULT_SINCE_MS)).toISOString();
  const query = { service: input.service, release: input.release, since };
  const show = newTaskLinePrinter(input.json && input.follow, context);
  if (input.follow) {
    const onProblem = newProblemSayer(context);
    const lines = followLiveTasks(client, { app, environment }, query, context.interrupted, onProblem);
    for await (const line of lines) show(line);
    return 0;
  }
  const lines = await client.readTaskLogs(app, environment, query);
  if (input.json) context.json(lines);
  else for (const line of lines) show(line);
  if (lines.length === 0) context.say("No output in that time. Further back: `--since 2h`; as it comes: `-f`.");
  return 0;
}

/** Says what keeps lines from coming, once for as long as it is the same. */
function newProblemSayer(context: CommandContext): (problem: ShipwayError) => void {
  let said: string | undefined;
  return (problem) => {
    if (problem.message === said) return;
    said = problem.message;
    for (const line of renderProblem(problem, context.colors.err)) context.say(line);
    context.say("  It is tried again until Ctrl-C.");
  };
}

/** One line per line of output; each task keeps a colour of its own. A followed stream in JSON is one object per line. */
function newTaskLinePrinter(asJson: boolean, context: CommandContext): (line: TaskLogLine) => void {
  const { cyan, magenta, yellow, green, blue } = context.colors.out;
  const paints = [cyan, magenta, yellow, green, blue];
  const known = new Map<string, (text: string) => string>();
  return (line) => {
    if (asJson) return context.data(JSON.stringify(line));
    const paint = known.get(line.task) ?? paints[known.size % paints.length] ?? cyan;
    known.set(line.task, paint);
    context.data(`${paint(line.task)} ${line.text}`);
  };
}

async function stepLogs(input: Input, wanted: string, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  const pipeline = await findPipeline(client, wanted, () => appFor(input, context));
  const steps = chooseSteps(pipeline, input.step);
  for (const step of steps) {
    if (steps.length > 1) context.say(context.colors.err.bold(`── ${step.name} (${step.status})`));
    const options = { signal: context.interrupted };
    const lines = input.follow ? client.followLog(step.logId, 0, options) : readWholeLog(client, step.logId);
    for await (const line of lines) context.data(input.json ? JSON.stringify(line) : line.text);
  }
  return 0;
}

function chooseSteps({ number, steps }: Pipeline, wanted: string | undefined): Pipeline["steps"] {
  if (wanted !== undefined) {
    const found = steps.filter(({ name, id }) => name === wanted || id === wanted);
    if (found.length > 0) return found;
    const names = steps.map(({ name }) => name);
    const meant = didYouMean(wanted, names);
    throw fail("NOT_FOUND", {
      message: `Pipeline #${number} has no step ${wanted}. It has ${names.join(", ")}.`,
      hint: `\`shipway logs --pipeline ${number} --step ${stepArgument(meant ?? names[0] ?? "NAME")}\``,
    });
  }
  const failed = steps.filter(({ status }) => status === "failed");
  return failed.length > 0 ? failed : steps.filter(({ status }) => status !== "skipped" && status !== "pending");
}

async function runLog(input: Input, id: string, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  const { logId } = await client.getRun(id);
  const lines = input.follow
    ? client.followLog(logId, 0, { signal: context.interrupted })
    : readWholeLog(client, logId);
  for await (const line of lines) {
    if (input.json) context.data(JSON.stringify(line));
    else if (line.stream === "meta") context.say(context.colors.err.dim(line.text));
    else context.data(line.text);
  }
  return 0;
}

/** The API gives a log in pages. */
async function* readWholeLog(client: ApiClient, logId: string) {
  for (let from = 0; ; ) {
    const page = await client.readLog(logId, from);
    const last = page.at(-1);
    if (last === undefined) return;
    yield* page;
    from = last.line + 1;
  }
}

/** The story of a deployment, then the kept output of what it ran: backing services, release commands, verify commands. */
async function deploymentLog(id: string, json: boolean, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  const { deliveryId, app, environment } = await client.getDeployment(id);
  const events = (await readAllEvents(client, { after: 0, deliveryId })).filter(
    (event) => event.environment === null || event.environment === environment,
  );
  if (json) {
    context.json(events);
    return 0;
  }
  const narrator = newNarrator();
  for (const event of events) {
    const time = context.colors.out.dim(event.at.slice(11, 19));
    for (const line of narrator.tell(event)) context.data(`${time} ${colorLine(line, context.colors.out)}`);
  }
  const { services } = await client.getEnvironment(app, environment);
  const names = ["images", "backing", ...services.map(({ name }) => `release-command-${name}`)];
  for (const name of names) await showKeptLog(`${id}.${name}`, name, { json, context });
  for (let n = 1; await showKeptLog(`${id}.verify-${n}`, `verify ${n}`, { json, context }); n++);
  return 0;
}

/** Each build under its service's name; by default the builds that failed, else all. */
async function buildLogs(input: Input, deliveryId: string, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  const events = await readAllEvents(client, { after: 0, deliveryId });
  const servicesOf = (kind: string) =>
    events.flatMap((event) =>
      event.kind === kind && typeof event.data.service === "string" ? [event.data.service] : [],
    );
  const failed = servicesOf("image.failed");
  const chosen =
    input.service === undefined ? (failed.length > 0 ? failed : servicesOf("image.started")) : [input.service];
  let found = false;
  for (const service of new Set(chosen)) {
    found = (await showKeptLog(`${deliveryId}.build-${service}`, service, { json: input.json, context })) || found;
  }
  if (found) return 0;
  throw fail("NOT_FOUND", {
    message: `Delivery ${deliveryId} kept no build output${input.service === undefined ? "" : ` of ${input.service}`}.`,
    hint: "An image that was there already is not built again. `shipway events` shows the deliveries.",
  });
}

/** Says whether there was anything to show. */
async function showKeptLog(
  logId: string,
  title: string,
  { json, context }: { json: boolean; context: CommandContext },
): Promise<boolean> {
  let isFirst = true;
  for await (const line of readWholeLog(await context.client(), logId)) {
    if (isFirst) context.say(context.colors.err.bold(`── ${title}`));
    isFirst = false;
    context.data(json ? JSON.stringify(line) : line.text);
  }
  return !isFirst;
}
