import type { Colors } from "picocolors/types.js";
import type { z } from "zod";
import { fail } from "../shared/errors.ts";
import type { ApiClient } from "./client.ts";
import type { CliContext, ExitCode } from "./context.ts";
import type { Column } from "./table.ts";

/** `flags` in commander's words: `--env NAME`, `-f, --follow`. */
export type OptionSpec = { flags: string; summary: string };
/** `many`: one or more of it, as a list; only the last argument can be. */
export type ArgSpec = { name: string; summary: string; optional?: boolean; many?: boolean };
export type Example = { run: string; does: string };

/** What a command gets beside its own input. */
export type CommandContext = CliContext & {
  /** The server that flags, environment or credentials name. @throws USAGE, TOKEN_INVALID */
  client(): Promise<ApiClient>;
  /** A line of data on stdout. */
  data(line: string): void;
  /** A line of talk on stderr. */
  say(line: string): void;
  json(value: unknown): void;
  table<Row>(rows: readonly Row[], columns: readonly Column<NoInfer<Row>>[]): void;
  /** For data on stdout and for talk on stderr; they do nothing where no terminal shows them. */
  colors: { out: Colors; err: Colors };
};

type Described = {
  /** `deploy`, or noun and verb: `app create`. */
  name: string;
  summary: string;
  details?: string;
  args?: ArgSpec[];
  options?: OptionSpec[];
  /** Takes words behind `--`, as they are, into `input.command`: what they are called in help. */
  behindDashes?: string;
  examples: Example[];
  /** Not shown in help; for other programs. */
  hidden?: boolean;
};

export type CommandSpec<S extends z.ZodType> = Described & {
  /** Arguments and options together, by name in camelCase. */
  input: S;
  run(input: z.output<S>, context: CommandContext): Promise<ExitCode>;
};

/** A command as data: help is written from it, commander is told by it. */
export type Command = Described & { start(input: unknown, context: CommandContext): Promise<ExitCode> };

/** Keeps the type of a command's input between its schema and its `run`. @throws USAGE when the input is not what the schema wants */
export function defineCommand<S extends z.ZodType>(spec: CommandSpec<S>): Command {
  const { run, input, ...described } = spec;
  return {
    ...described,
    start(raw, context) {
      const parsed = input.safeParse(raw);
      if (parsed.success) return run(parsed.data, context);
      throw fail("USAGE", {
        message: describeProblems(parsed.error, described.args ?? []),
        hint: `See \`shipway ${spec.name} --help\`.`,
      });
    },
  };
}

/** `<name>`, `[name]` or `<name...>`, as commander and help write it. */
export function argumentForm({ name, optional, many }: ArgSpec): string {
  const form = many ? `${name}...` : name;
  return optional ? `[${form}]` : `<${form}>`;
}

function describeProblems(error: z.ZodError, args: readonly ArgSpec[]): string {
  return error.issues.map(({ path, message }) => `${asTyped(String(path[0] ?? ""), args)}: ${message}`).join("\n");
}

/** `httpPort` → `--http-port`; an argument keeps its name. */
function asTyped(key: string, args: readonly ArgSpec[]): string {
  if (args.some(({ name }) => name === key)) return key;
  return `--${key.replace(/[A-Z]/g, (upper) => `-${upper.toLowerCase()}`)}`;
}
