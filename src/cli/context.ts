import type { Readable, Writable } from "node:stream";
import type { AwsNeeds } from "./aws-settings.ts";
import type { Check } from "./doctor.ts";
import type { Fetch } from "./request.ts";
import type { SmokeOptions } from "./smoke/trial.ts";

/** 0 done; 1 the user's work failed (tests, an unhealthy release); 2 wrong use; 70 our fault; 75 something upstream; 130 Ctrl-C. */
export type ExitCode = 0 | 1 | 2 | 70 | 75 | 130 | PassedCode;

/** What a command of the user's ended with, which may be any of 0 to 255. */
export type PassedCode = number & { readonly passed: unique symbol };
export const passOn = (code: number): PassedCode => code as PassedCode;

export type UpOptions = {
  data?: string | undefined;
  /** Of the API, git and the dashboard. */
  port?: number | undefined;
  /** Where the apps answer. */
  httpPort?: number | undefined;
  bind?: string | undefined;
  databaseUrl?: string | undefined;
  /** False: without an engine. */
  docker?: boolean | undefined;
};
export type DemoOptions = { once: boolean; runtime: "docker" | "ecs" };

/** What runs the platform itself; `main.ts` wires it. */
export type Actions = {
  /** Runs the server until it is stopped. */
  up(options: UpOptions): Promise<ExitCode>;
  demo(options: DemoOptions): Promise<ExitCode>;
  doctor(options: UpOptions): Promise<Check[]>;
  /** Looks at an AWS account with the credentials of this process. */
  doctorAws(needs: AwsNeeds): Promise<Check[]>;
  /** Tries the account with a service of its own, which is removed whatever happens. */
  smokeAws(
    needs: AwsNeeds,
    options: Pick<SmokeOptions, "image" | "signal" | "onLine" | "onProgress">,
  ): Promise<Check[]>;
};

/** Stdin and the outputs as bytes, for a program elsewhere that they are handed on to. */
export type RawIo = {
  readonly stdin: Readable;
  readonly out: Writable;
  readonly err: Writable;
  /** What keys give is handed on as it is, Ctrl-C too; only where stdin is a terminal. */
  setRaw(on: boolean): void;
  /** Of the terminal. */
  size(): { columns: number; rows: number };
  /** Returns what ends the listening. */
  onResize(listener: () => void): () => void;
};

/** Everything a command may touch outside of its arguments. `main.ts` fills it from the process; tests from memory. */
export type CliContext = {
  version: string;
  /** As given in the environment. */
  environment: {
    SHIPWAY_SERVER?: string | undefined;
    SHIPWAY_TOKEN?: string | undefined;
    NO_COLOR?: string | undefined;
    PATH?: string | undefined;
    TERM?: string | undefined;
  };
  credentialsFile: string;
  /** The user's home directory. */
  home: string;
  cwd: string;
  /** What starts this program again, as git's credential helper: `[node, main.js]`. */
  selfCommand: string[];
  /** Data, for pipes. */
  out(text: string): void;
  /** Talk, for people. */
  err(text: string): void;
  isTTY: { in: boolean; out: boolean; err: boolean };
  /** Width of the terminal. */
  columns: number;
  now(): number;
  /** Aborts on Ctrl-C. */
  interrupted: AbortSignal;
  /** All of stdin, when it is not a terminal. */
  readStdin(): Promise<string>;
  /** Asks at the terminal without showing what is typed; undefined when canceled. */
  promptSecret(question: string): Promise<string | undefined>;
  /** Asks at the terminal; false when it is denied or canceled. */
  confirm(question: string): Promise<boolean>;
  openUrl(url: string): Promise<void>;
  raw: RawIo;
  actions: Actions;
  fetch?: Fetch;
};
