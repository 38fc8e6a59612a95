import type { TaskRun } from "../http/schemas.ts";
import { formatDurationMs } from "../shared/duration.ts";
import { ERRORS, errorCode } from "../shared/errors.ts";
import { sleep } from "../shared/until.ts";
import type { ApiClient } from "./client.ts";
import type { CommandContext } from "./command.ts";
import { type ExitCode, passOn } from "./context.ts";
import { renderHint } from "./problem.ts";

/** As `timeout` has it (GNU coreutils). */
const TIMED_OUT = 124;
const CANCELED = 130;
/** The output ends a moment before the end is recorded. */
const END_POLL_MS = 50;

/**
 * Shows what a command prints as it comes: its stdout on stdout, its stderr on stderr; with `json` both on stderr. Returns the ended run. Ctrl-C stops the
 * command and waits for its end.
 */
export async function followRun(run: TaskRun, json: boolean, context: CommandContext): Promise<TaskRun> {
  const client = await context.client();
  const stop = () => {
    context.say(context.colors.err.dim("… stopping it; once more leaves it to itself"));
    // What comes of it is seen in how the command ends.
    client
      .cancelRun(run.id)
      .catch((error: unknown) => context.say(error instanceof Error ? error.message : String(error)));
  };
  if (context.interrupted.aborted) stop();
  else context.interrupted.addEventListener("abort", stop, { once: true });
  const onReconnect = (attempt: number) => {
    if (attempt === 1)
      context.say(context.colors.err.dim("… the connection was lost; the command goes on, connecting again"));
  };
  try {
    for await (const { stream, text } of client.followLog(run.logId, 0, { onReconnect })) {
      if (stream === "meta") context.say(context.colors.err.dim(text));
      else if (stream === "err" || json) context.say(text);
      else context.data(text);
    }
    return await awaitRunEnd(client, run.id);
  } finally {
    context.interrupted.removeEventListener("abort", stop);
  }
}

/** The run, once its end is recorded: a moment after its output has ended. */
export async function awaitRunEnd(client: ApiClient, id: string): Promise<TaskRun> {
  for (;;) {
    const run = await client.getRun(id);
    if (run.endedAt !== null) return run;
    await sleep(END_POLL_MS);
  }
}

/** How it ended, on stderr; a command that succeeded says so itself. Returns what the command line exits with. */
export function sayRunEnd(run: TaskRun, context: CommandContext): ExitCode {
  const { red, yellow } = context.colors.err;
  const took = formatDurationMs(run.durationMs ?? 0);
  switch (run.status) {
    case "succeeded":
      return 0;
    case "canceled":
      context.say(
        `${yellow("!")} ${run.id} was stopped after ${took}${run.canceledBy === null ? "" : ` by ${run.canceledBy}`}.`,
      );
      return CANCELED;
    case "timed-out":
      context.say(`${red("✗")} ${run.id} was stopped after ${took}: its time was over.`);
      sayHint("Give it more: `--timeout 6h` (at most 24h).", context);
      return passOn(TIMED_OUT);
    default:
      return sayFailure(run, took, context);
  }
}

function sayFailure({ id, problem, exitCode, outOfMemory }: TaskRun, took: string, context: CommandContext): ExitCode {
  const { red } = context.colors.err;
  if (problem !== null) {
    context.say(`${red("✗")} ${id}: ${problem.message}`);
    if (problem.hint !== undefined) sayHint(problem.hint, context);
    const code = errorCode(problem);
    return code === undefined ? 70 : ERRORS[code].exit;
  }
  const why = outOfMemory ? "was ended: it needed more memory than the service declares" : `exited with ${exitCode}`;
  context.say(`${red("✗")} ${id} ${why} after ${took}.`);
  sayHint(`Its output is kept: \`shipway logs --run ${id}\``, context);
  return passOn(exitCode ?? 1);
}

function sayHint(hint: string, context: CommandContext): void {
  for (const line of renderHint(hint, context.colors.err)) context.say(line);
}

/** `shipway cancel run_…`. */
export async function cancelRun(id: string, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  const run = await client.getRun(id);
  if (run.endedAt !== null) {
    context.say(`${id} has already ended (${run.status}); there is nothing to cancel.`);
    return 2;
  }
  await client.cancelRun(id);
  context.say(`${context.colors.err.green("✓")} ${id} is being stopped.`);
  context.say(`  See how it ends: \`shipway runs ${id}\``);
  return 0;
}
