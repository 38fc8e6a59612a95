import { z } from "zod";
import type { TaskRun } from "../../http/schemas.ts";
import { formatDurationMs, parseDurationMs } from "../../shared/duration.ts";
import { fail } from "../../shared/errors.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { type ExitCode, passOn } from "../context.ts";
import { awaitRunEnd, followRun, sayRunEnd } from "../follow-run.ts";
import { formatAgo } from "../format.ts";
import {
  APP,
  AppFlag,
  appFor,
  ENV,
  EnvFlag,
  JSON_OUT,
  JsonFlag,
  LIMIT,
  LimitFlag,
  placeFor,
  ReleaseNumber,
} from "../input.ts";

const COMMAND_WORDS = "<command...>";
const Timeout = z
  .string()
  .refine((text) => parseDurationMs(text) !== undefined, "write a duration with its unit, such as 30s, 10m or 6h")
  .transform((text) => parseDurationMs(text) ?? 0);

const execCommand = defineCommand({
  name: "exec",
  summary: "run a command inside a running task, such as a shell",
  details:
    "Where stdin and stdout are a terminal, the command gets one too: Ctrl-C and everything else typed goes to it. Where they are not, stdin, stdout and stderr are piped as they are, so it works in scripts.\nThe command's own exit code is passed on. When the connection is lost, or you press Ctrl-C without a terminal, the command is ended with all it started. A backing service of the environment can be named, too.\nWho ran what is on the record (`shipway events`); what was typed and printed is not kept, and not masked. What a deployment replaces takes the commands inside it along: for what must end, see `shipway run`. Needs the role operator.",
  args: [{ name: "service", summary: "a service, or a backing service" }],
  behindDashes: COMMAND_WORDS,
  options: [
    APP,
    ENV,
    {
      flags: "--task <name>",
      summary: "this task of the service (default: the first that runs; `shipway logs` shows names)",
    },
    { flags: "-T, --no-tty", summary: "no terminal for the command, even where there is one here" },
  ],
  examples: [
    { run: "shipway exec web -- sh", does: "look around in a task" },
    { run: "shipway exec db -- mariadb -u root", does: "in a backing service" },
    { run: "cat dump.sql | shipway exec db -- sh -c 'mariadb app'", does: "input from a pipe" },
  ],
  input: z.strictObject({
    ...AppFlag,
    ...EnvFlag,
    service: z.string(),
    command: z.array(z.string()),
    task: z.string().optional(),
    tty: z.boolean().default(true),
  }),
  async run(input, context) {
    const command = wordsOf(input.command, "exec", input.service);
    const { app, environment } = await placeFor(input, context);
    const { service, task } = input;
    const hasTerminal = input.tty && context.isTTY.in && context.isTTY.out;
    const { raw, interrupted } = context;
    const client = await context.client();
    const code = await client.exec(
      app,
      environment,
      { service, command, ...(task !== undefined && { task }) },
      { raw, interrupted, terminalType: hasTerminal ? (context.environment.TERM ?? "xterm") : undefined },
    );
    return code === undefined ? 130 : passOn(code);
  },
});

export const runCommands: Command[] = [
  execCommand,
  defineCommand({
    name: "run",
    summary: "run a command once, in a task of its own beside those that serve",
    details:
      "The task has the live release's image of the service, its variables, secrets, network, cpu and memory; no volumes and no traffic. What the command prints is shown as it comes, line by line and with secrets masked, and is kept (`shipway logs --run ID`).\nThe command's own exit code is passed on. Ctrl-C stops it: SIGTERM, and SIGKILL after the service's stop timeout; then the code is 130, as it is 124 when --timeout was over. A lost connection stops nothing: the command goes on, also when Shipway is restarted, and is never run twice.\nThere is no input and no terminal; for those, see `shipway exec`. No shell reads the command: `sh -c '…'` asks for one. Needs the role operator.",
    args: [{ name: "service", summary: "whose image, variables and size it gets" }],
    behindDashes: COMMAND_WORDS,
    options: [
      APP,
      ENV,
      { flags: "--release <rN>", summary: "the image of another release than the live one" },
      { flags: "--timeout <duration>", summary: "stop it after so long: 30s, 10m, 6h (24h, the most)" },
      { flags: "-d, --detach", summary: "return at once, with the id; the command goes on" },
      { flags: "--json", summary: "the ended run as JSON on stdout; what the command prints goes to stderr" },
    ],
    examples: [
      { run: "shipway run web -- npm run migrate", does: "a migration by hand" },
      { run: "shipway run worker --env staging -- sh -c 'ls | wc -l'", does: "with a shell" },
      { run: "shipway run web --detach -- bin/reindex", does: "hours of work; `shipway runs` shows how it goes" },
    ],
    input: z.strictObject({
      ...AppFlag,
      ...EnvFlag,
      ...JsonFlag,
      service: z.string(),
      command: z.array(z.string()),
      release: ReleaseNumber.optional(),
      timeout: Timeout.optional(),
      detach: z.boolean().default(false),
    }),
    async run(input, context) {
      const command = wordsOf(input.command, "run", input.service);
      const { app, environment } = await placeFor(input, context);
      const client = await context.client();
      const { service, release, timeout } = input;
      const asked = { service, command, ...(release !== undefined && { release }) };
      const run = await client.startRun(app, environment, {
        ...asked,
        ...(timeout !== undefined && { deadlineMs: timeout }),
      });
      if (input.detach) return leave(run, input.json, context);
      if (context.isTTY.err) {
        context.say(
          context.colors.err.dim(`→ ${run.id}: ${service} of r${run.release} in ${environment}. Ctrl-C stops it.`),
        );
      }
      const ended = await followRun(run, input.json, context);
      if (input.json) context.json(ended);
      return sayRunEnd(ended, context);
    },
  }),
  defineCommand({
    name: "runs",
    summary: "commands that were run, by whom, and how they ended; of one: everything about it",
    details: "Of a command that still runs, the output is followed until it ends (Ctrl-C leaves, it stops nothing).",
    args: [{ name: "id", summary: "one of them (run_5h3x)", optional: true }],
    options: [APP, ENV, LIMIT, JSON_OUT],
    examples: [
      { run: "shipway runs --env production", does: "the last ones there" },
      { run: "shipway runs run_5h3x", does: "how this one ended" },
    ],
    input: z.strictObject({ id: z.string().optional(), ...AppFlag, ...EnvFlag, ...LimitFlag, ...JsonFlag }),
    async run(input, context) {
      if (input.id !== undefined) return showRun(input.id, input.json, context);
      const app = await appFor(input, context);
      const runs = await (await context.client()).listRuns(app, { environment: input.env, limit: input.limit });
      if (input.json) context.json(runs);
      else if (runs.length === 0) context.say("No command was run yet. `shipway run --help` shows how.");
      else listRuns(runs, context);
      return 0;
    },
  }),
];

/** The words behind `--`. @throws USAGE when there are none */
function wordsOf(words: string[], verb: string, service: string): string[] {
  if (words.length > 0) return words;
  throw fail("USAGE", {
    message: "Which command?",
    hint: `Write it behind two dashes: \`shipway ${verb} ${service} -- COMMAND\`.`,
  });
}

function leave(run: TaskRun, json: boolean, context: CommandContext): ExitCode {
  if (json) context.json(run);
  else context.data(run.id);
  context.say(`It runs. Its output: \`shipway logs --run ${run.id} -f\`; how it ended: \`shipway runs ${run.id}\``);
  return 0;
}

function listRuns(runs: readonly TaskRun[], context: CommandContext): void {
  context.table(runs, [
    { title: "RUN", value: ({ id }) => id },
    { title: "ENVIRONMENT", value: ({ environment }) => environment, flexible: true },
    { title: "SERVICE", value: ({ service, release }) => `${service} r${release}` },
    { title: "COMMAND", value: ({ command }) => command, flexible: true },
    { title: "STATUS", value: statusOf },
    {
      title: "TOOK",
      value: ({ durationMs }) => (durationMs === null ? "-" : formatDurationMs(durationMs)),
      align: "right",
    },
    { title: "BY", value: ({ actor }) => actor, flexible: true },
    { title: "WHEN", value: ({ createdAt }) => formatAgo(createdAt, context.now()) },
  ]);
}

const statusOf = ({ status, exitCode }: TaskRun) =>
  status === "failed" && exitCode !== null ? `failed (${exitCode})` : status;

async function showRun(id: string, json: boolean, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  const run = await client.getRun(id);
  if (json) {
    context.json(run);
    return 0;
  }
  const { app, environment, service, release, command, actor, createdAt } = run;
  context.data(`${id}: \`${command}\` in a task of ${service} (r${release}), ${app} ${environment}`);
  context.data(`  by ${actor}, ${formatAgo(createdAt, context.now())} (${createdAt})`);
  if (run.endedAt === null) {
    for await (const line of client.followLog(run.logId, 0, { signal: context.interrupted })) context.data(line.text);
    if (context.interrupted.aborted) return 130;
  }
  const { status, exitCode, outOfMemory, durationMs, canceledBy, problem } = await awaitRunEnd(client, id);
  const code = exitCode === null ? "" : `, exit code ${exitCode}`;
  context.data(`  ${status}${code}${durationMs === null ? "" : ` after ${formatDurationMs(durationMs)}`}`);
  if (outOfMemory) context.data("  ended because it needed more memory than the service declares");
  if (canceledBy !== null) context.data(`  stopped by ${canceledBy}`);
  if (problem !== null) context.data(`  ${problem.message}`);
  context.say(`  Its output: \`shipway logs --run ${id}\``);
  return 0;
}
