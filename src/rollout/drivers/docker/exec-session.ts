import { once } from "node:events";
import { PassThrough, type Readable, type Writable } from "node:stream";
import type Docker from "dockerode";
import { fail } from "../../../shared/errors.ts";
import { sleep } from "../../../shared/until.ts";
import type { ExecRequest, ExecSession, TerminalSize } from "../../target.ts";
import { asking, askingUnless, statusOf } from "./docker-errors.ts";
import { LABEL, prefixed } from "./names.ts";

/** In the environment of everything that an exec starts: what is left of it is found by that. */
const MARK = "SHIPWAY_EXEC";
/** A process that was just started has no terminal to resize yet. */
const RESIZE_ATTEMPTS = 10;
const RESIZE_EVERY_MS = 20;
/** Output may end before the process does. */
const LOOK_EVERY_MS = { first: 20, longest: 500 };

/** A command in a running container, its streams as they are. @throws TASK_NOT_RUNNING */
export async function startExec(docker: Docker, id: string, task: string, request: ExecRequest): Promise<ExecSession> {
  const { terminal } = request;
  const hasTerminal = terminal !== undefined;
  const exec = await docker
    .getContainer(id)
    .exec({
      Cmd: request.command,
      Env: [`${MARK}=${request.id}`, ...(hasTerminal ? [`TERM=${terminal.type ?? "xterm"}`] : [])],
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      Tty: hasTerminal,
      // Engines before 23 (API 1.42) do not know it: there the command begins with no size, and is told a moment later.
      ...(hasTerminal && { ConsoleSize: [terminal.rows, terminal.columns] }),
    })
    .catch((error: unknown) => {
      // 404: it is gone since. 409: it is stopped or paused.
      if (statusOf(error) === 404 || statusOf(error) === 409) throw notRunning(task);
      return asking(`Starting a command in ${task}`, () => Promise.reject(error));
    });
  const stream = await asking(`Starting a command in ${task}`, () =>
    exec.start({ hijack: true, stdin: true, Tty: hasTerminal }),
  );
  // What is written to a command that has ended is nobody's error.
  stream.on("error", () => undefined);
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const read = (hasTerminal ? pipeOut(stream, stdout) : demultiplex(stream, stdout, stderr)).finally(() => {
    stdout.end();
    stderr.end();
  });
  // The connection may break: what became of the command is asked of the engine either way.
  const ended = read.catch(() => undefined).then(() => exitCodeOf(exec));
  ended.catch(() => undefined);
  const resize = (size: TerminalSize) => resizeWhenReady(exec, size);
  if (hasTerminal) await resize(terminal);
  return { stdin: stream, stdout, stderr, resize, ended };
}

export function notRunning(task: string) {
  return fail("TASK_NOT_RUNNING", {
    message: `${task} does not run now.`,
    hint: "`shipway status` shows what runs. A command in a task of its own needs none that runs: `shipway run`.",
  });
}

async function resizeWhenReady(exec: Docker.Exec, { columns, rows }: TerminalSize): Promise<void> {
  for (let attempt = 0; attempt < RESIZE_ATTEMPTS; attempt++) {
    try {
      await exec.resize({ w: columns, h: rows });
      return;
    } catch {
      // Most often it has not begun yet; if it has ended already, nobody misses its size.
      await sleep(RESIZE_EVERY_MS);
    }
  }
}

async function exitCodeOf(exec: Docker.Exec): Promise<number> {
  for (let pauseMs = LOOK_EVERY_MS.first; ; pauseMs = Math.min(2 * pauseMs, LOOK_EVERY_MS.longest)) {
    const info = await asking("Looking at a command", () => exec.inspect());
    if (!info.Running) return info.ExitCode ?? 0;
    await sleep(pauseMs);
  }
}

async function pipeOut(stream: Readable, out: Writable): Promise<void> {
  for await (const chunk of stream) await writeTo(out, chunk as Buffer);
}

const HEADER_BYTES = 8;

/** Frames of an 8-byte header (stream, length) and a payload (Docker Engine API, "attach to a container"); a slow reader slows the command down. */
async function demultiplex(stream: Readable, stdout: Writable, stderr: Writable): Promise<void> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stream) {
    rest = rest.length === 0 ? (chunk as Buffer) : Buffer.concat([rest, chunk as Buffer]);
    while (rest.length >= HEADER_BYTES) {
      const end = HEADER_BYTES + rest.readUInt32BE(4);
      if (rest.length < end) break;
      await writeTo(rest[0] === 2 ? stderr : stdout, rest.subarray(HEADER_BYTES, end));
      rest = rest.subarray(end);
    }
  }
}

async function writeTo(out: Writable, chunk: Buffer): Promise<void> {
  if (!out.write(chunk)) await once(out, "drain");
}

/** Processes with the mark: asked to end as by a terminal that is closed, killed when they are still there after so many tenths of a second. */
const END_SCRIPT = `
marked() {
  for dir in /proc/[0-9]*; do
    if grep -qzxF "$1" "$dir/environ" 2>/dev/null; then echo "\${dir#/proc/}"; fi
  done
}
signal() { for pid in $(marked "$2"); do kill -s "$1" "$pid" 2>/dev/null; done; }
signal HUP "$1"
signal TERM "$1"
n=0
while [ "$n" -lt "$2" ] && [ -n "$(marked "$1")" ]; do sleep 0.1; n=$((n + 1)); done
signal KILL "$1"
`;
const GRACE_TENTHS = 20;

/**
 * Ends what an exec left running in a container. The engine has no call for that, a connection that breaks ends nothing, and the image may have no shell: so a
 * helper from an image of ours looks into the container's processes, and at nothing else of it.
 */
export async function endExec(
  { docker, instance, toolImage }: { docker: Docker; instance: string; toolImage: string },
  containerId: string,
  execId: string,
): Promise<void> {
  const name = prefixed(instance, `shipway-end-${execId}`);
  // One that was left by a kill in the middle of this.
  await askingUnless([404, 409], "Removing a helper", () => docker.getContainer(name).remove({ force: true, v: true }));
  const helper = await asking("Ending a command", () =>
    docker.createContainer({
      name,
      Image: toolImage,
      Entrypoint: ["sh", "-c", END_SCRIPT, "sh"],
      Cmd: [`${MARK}=${execId}`, String(GRACE_TENTHS)],
      User: "0",
      Labels: { [LABEL.instance]: instance, [LABEL.role]: "helper" },
      HostConfig: {
        PidMode: `container:${containerId}`,
        NetworkMode: "none",
        ReadonlyRootfs: true,
        CapDrop: ["ALL"],
        // To read the environment of other users' processes, and to signal them.
        CapAdd: ["KILL", "SYS_PTRACE", "DAC_READ_SEARCH"],
        SecurityOpt: ["no-new-privileges"],
        LogConfig: { Type: "none", Config: {} },
      },
    }),
  );
  try {
    // 409 and the like: the container whose processes are meant stopped meanwhile, and they with it.
    await askingUnless([400, 404, 409, 500], "Ending a command", async () => {
      await helper.start();
      await helper.wait();
    });
  } finally {
    await askingUnless([404, 409], "Removing a helper", () => helper.remove({ force: true, v: true }));
  }
}
