import { once } from "node:events";
import { PassThrough, Writable } from "node:stream";
import type { SsmChannel } from "../../../../aws/ssm-channel/open-channel.ts";
import { fail } from "../../../../shared/errors.ts";
import { sleep } from "../../../../shared/until.ts";
import type { ExecRequest, ExecSession } from "../../../target.ts";
import { type ExecPart, type ExecReader, newFrameReader, newTerminalReader } from "./exec-output.ts";
import {
  exitSignOf,
  INPUT_END,
  INPUT_LINE_BYTES,
  PIPES_DONE,
  readyLineOf,
  scriptOf,
  terminalDoneOf,
} from "./exec-script.ts";

/** The agent itself waits a second before it reads what was printed. */
const READY_WITHIN_MS = 20_000;
/** A session ends by itself once its exit code is confirmed; one that does not is left. */
const CLOSES_WITHIN_MS = 5_000;

type Write = (bytes: Buffer) => Promise<void>;
type Chunks = AsyncIterator<Buffer, unknown>;

/** Runs the command in the shell that `bootstrapOf` started at the other end. @throws EXEC_NO_SHELL, EXEC_CUT_OFF */
export async function runInChannel(channel: SsmChannel, task: string, request: ExecRequest): Promise<ExecSession> {
  const { terminal, id } = request;
  const chunks: Chunks = channel.output[Symbol.asyncIterator]();
  const first = await awaitReady(channel, chunks, task, id);
  const write = inOrder(channel.write);
  if (terminal !== undefined) await channel.resize(terminal);
  await write(Buffer.from(scriptOf(request)));
  const stdin = terminal === undefined ? linesInto(write) : bytesInto(write);
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const parts = partsOf(terminal === undefined ? newFrameReader() : newTerminalReader(exitSignOf(id)), first, chunks);
  const give = async (to: PassThrough, bytes: Buffer) => {
    // Once nothing comes any more, nobody needs to be held back.
    if (!to.write(bytes)) await Promise.race([once(to, "drain"), channel.ended]);
  };
  const play = async (): Promise<number> => {
    for await (const part of parts) {
      if (part.is === "out") await give(stdout, part.bytes);
      if (part.is === "err") await give(stderr, part.bytes);
      if (part.is === "ended") stdin.end();
      if (part.is === "missing") throw noProgram(task, part.program);
      if (part.is !== "exit") continue;
      void write(Buffer.from(terminal === undefined ? PIPES_DONE : terminalDoneOf(id)));
      return part.code;
    }
    throw cutOff(task, (await channel.ended).said);
  };
  const ended = play().finally(() => {
    stdout.end();
    stderr.end();
    void leaveLater(channel);
  });
  ended.catch(() => undefined);
  return { stdin, stdout, stderr, resize: channel.resize, ended };
}

/** Reads until the shell can be told what to do. @returns what came behind that */
async function awaitReady(channel: SsmChannel, chunks: Chunks, task: string, id: string): Promise<Buffer> {
  const line = readyLineOf(id);
  let printed: Buffer = Buffer.alloc(0);
  const late = sleep(READY_WITHIN_MS).then(() => undefined);
  for (;;) {
    const next = await Promise.race([chunks.next(), late]);
    if (next === undefined || next.done) break;
    printed = Buffer.concat([printed, next.value]);
    const at = printed.indexOf(line);
    if (at >= 0) return printed.subarray(at + line.length);
  }
  channel.leave();
  throw notReady(task, `${printed.toString("utf8")} ${(await channel.ended).said}`.trim());
}

async function* partsOf(read: ExecReader, first: Buffer, chunks: Chunks): AsyncGenerator<ExecPart> {
  yield* read(first);
  for (;;) {
    const next = await chunks.next();
    if (next.done) return;
    yield* read(next.value);
  }
}

/** One after the other, whoever writes: a line is not cut by another. */
function inOrder(write: Write): Write {
  let last = Promise.resolve();
  return (bytes) => {
    last = last.then(() => write(bytes));
    return last;
  };
}

const bytesInto = (write: Write): Writable =>
  new Writable({ write: (chunk: Buffer, _encoding, done) => void write(chunk).then(() => done()) });

/** A terminal has no end of input and takes no byte as it is, so its lines are base64. */
function linesInto(write: Write): Writable {
  const writeLines = async (chunk: Buffer): Promise<void> => {
    for (let at = 0; at < chunk.length; at += INPUT_LINE_BYTES) {
      await write(Buffer.from(`${chunk.toString("base64", at, at + INPUT_LINE_BYTES)}\n`));
    }
  };
  return new Writable({
    write: (chunk: Buffer, _encoding, done) => void writeLines(chunk).then(() => done()),
    final: (done) => void write(Buffer.from(INPUT_END)).then(() => done()),
  });
}

async function leaveLater(channel: SsmChannel): Promise<void> {
  await Promise.race([channel.ended, sleep(CLOSES_WITHIN_MS)]);
  channel.leave();
}

/** The agent, or the shell it started, says only in its own words that a program is not there. */
const NOT_THERE = /not found|no such file/i;

function notReady(task: string, said: string) {
  if (NOT_THERE.test(said)) return noProgram(task, "sh` and `stty", said);
  return cutOff(task, said || "the shell in it did not answer");
}

function noProgram(task: string, program: string, said = "") {
  return fail("EXEC_NO_SHELL", {
    message: `A command in ${task} needs \`${program}\` in its image${said === "" ? "" : `: ${said}`}.`,
    hint: "On ECS a command runs through the image's shell: it needs sh and stty, and without a terminal also dd and base64. A command in a task of its own needs none of them: `shipway run`.",
  });
}

function cutOff(task: string, said: string) {
  return fail("EXEC_CUT_OFF", {
    message: `AWS ended the session in ${task} before the command had ended${said === "" ? "" : `: ${said}`}.`,
    hint: "AWS ends a session after 20 minutes in which nothing is typed and nothing printed, and when its task is stopped. What must not be cut off runs with `shipway run`.",
  });
}
