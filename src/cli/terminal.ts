import { spawn } from "node:child_process";
import type { CliContext, RawIo } from "./context.ts";

export type Terminal = Pick<
  CliContext,
  | "cwd"
  | "out"
  | "err"
  | "isTTY"
  | "columns"
  | "now"
  | "interrupted"
  | "readStdin"
  | "promptSecret"
  | "confirm"
  | "openUrl"
  | "raw"
>;

/** The terminal of this process, as commands see it. */
export function terminalContext(of: NodeJS.Process): Terminal {
  return {
    cwd: of.cwd(),
    out: (text) => void of.stdout.write(text),
    err: (text) => void of.stderr.write(text),
    isTTY: { in: of.stdin.isTTY === true, out: of.stdout.isTTY === true, err: of.stderr.isTTY === true },
    columns: of.stdout.columns ?? of.stderr.columns ?? 100,
    now: Date.now,
    interrupted: interruption(of),
    readStdin: async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of of.stdin) chunks.push(Buffer.from(chunk));
      return Buffer.concat(chunks).toString("utf8");
    },
    promptSecret: async (question) => {
      const { isCancel, password } = await import("@clack/prompts");
      const answer = await password({ message: question });
      return isCancel(answer) ? undefined : answer;
    },
    confirm: async (question) => {
      const { confirm } = await import("@clack/prompts");
      // Canceled, it gives a symbol.
      return (await confirm({ message: question, initialValue: false })) === true;
    },
    openUrl,
    raw: rawIo(of),
  };
}

/** As a shell shows a program that was ended by SIGPIPE. */
const READER_GONE = 141;

/**
 * A reader that has seen enough (`shipway logs | head`) ends a command, as it ends any other program; Node.js would print where it was. What stays when
 * nobody reads (a server, the demo, which cleans up behind itself) goes on.
 */
export function endWithReader(of: NodeJS.Process): void {
  const stays = ["up", "demo"].includes(of.argv[2] ?? "");
  for (const stream of [of.stdout, of.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      if (!stays) of.exit(READER_GONE);
    });
  }
}

/** Nothing of stdin is touched before it is asked for: reading it keeps the process alive. */
function rawIo(of: NodeJS.Process): RawIo {
  return {
    get stdin() {
      return of.stdin;
    },
    out: of.stdout,
    err: of.stderr,
    setRaw: (on) => void (of.stdin.isTTY && of.stdin.setRawMode(on)),
    size: () => ({ columns: of.stdout.columns ?? 80, rows: of.stdout.rows ?? 24 }),
    onResize(listener) {
      of.stdout.on("resize", listener);
      return () => void of.stdout.off("resize", listener);
    },
  };
}

/** The first Ctrl-C (or SIGTERM, from a service manager) asks to stop; a second one insists. */
function interruption(of: NodeJS.Process): AbortSignal {
  const controller = new AbortController();
  const onSignal = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) of.exit(130);
    controller.abort(new Error(signal));
  };
  of.on("SIGINT", onSignal);
  of.on("SIGTERM", onSignal);
  return controller.signal;
}

function openUrl(url: string): Promise<void> {
  const program = process.platform === "darwin" ? "open" : "xdg-open";
  return new Promise((resolve, reject) => {
    const child = spawn(program, [url], { stdio: "ignore", detached: true });
    child.once("error", reject);
    child.once("spawn", () => {
      child.unref();
      resolve();
    });
  });
}
