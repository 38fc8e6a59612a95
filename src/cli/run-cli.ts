import { Command as Commander, CommanderError } from "commander";
import picocolors from "picocolors";
import { fail } from "../shared/errors.ts";
import { didYouMean } from "../shared/yaml-problems.ts";
import { type ApiClient, apiClient } from "./client.ts";
import { argumentForm, type Command, type CommandContext } from "./command.ts";
import { COMMANDS } from "./commands/index.ts";
import type { CliContext, ExitCode } from "./context.ts";
import { chooseServer } from "./credentials.ts";
import { GLOBAL_OPTIONS, NOUNS, renderCommandHelp, renderNounHelp, renderOverview } from "./help.ts";
import { exitCodeOf, renderProblem } from "./problem.ts";
import { renderTable } from "./table.ts";

type GlobalFlags = { server?: string; token?: string; color?: boolean };

/** Runs one command line (without `node` and the program) and returns its exit code. Never throws, never exits the process. */
export async function runCli(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const outcome: { code: ExitCode } = { code: 0 };
  try {
    // Without this, commander would call a bare `shipway` an error.
    if (argv.length === 0) return await runCli(["--help"], context);
    const { own, behind } = splitAtDashes(argv);
    await newProgram(context, outcome, behind).parseAsync([...own], { from: "user" });
    return outcome.code;
  } catch (error) {
    const shown = error instanceof CommanderError ? usageProblem(error, argv) : error;
    if (shown === undefined) return 0;
    const colors = picocolors.createColors(wantsColor(context, argv) && context.isTTY.err);
    context.err(`${renderProblem(shown, colors).join("\n")}\n`);
    return exitCodeOf(shown);
  }
}

/**
 * Words behind `--` that are another program's. Commander gives subcommands the words without the dashes, and so takes that program's options for its own.
 */
function splitAtDashes(argv: readonly string[]): { own: readonly string[]; behind: readonly string[] } {
  const at = argv.indexOf("--");
  const own = argv.slice(0, at);
  const takes = at >= 0 && COMMANDS.some(({ name, behindDashes }) => behindDashes !== undefined && own.includes(name));
  return takes ? { own, behind: argv.slice(at + 1) } : { own: argv, behind: [] };
}

/** Commander, told what it must parse; words, help and errors are ours. */
function newProgram(context: CliContext, outcome: { code: ExitCode }, behind: readonly string[]): Commander {
  const helpColors = picocolors.createColors(context.isTTY.out && !context.environment.NO_COLOR);
  const program = configured(new Commander("shipway"), context, () => renderOverview(COMMANDS, helpColors));
  program.version(context.version);
  for (const { flags, summary } of GLOBAL_OPTIONS) program.option(flags, summary);
  const nouns = new Map<string, Commander>();
  const nounOf = (name: string): Commander => {
    const known = nouns.get(name);
    if (known) return known;
    const help = () => renderNounHelp(name, COMMANDS, helpColors);
    const [word = name, ...before] = name.split(" ").reverse();
    const parent = before.length === 0 ? program : nounOf(before.reverse().join(" "));
    const noun = configured(parent.command(word), context, help).summary(NOUNS[name] ?? "");
    nouns.set(name, noun);
    return noun;
  };
  for (const command of COMMANDS) {
    const [verb = "", ...nounWords] = command.name.split(" ").reverse();
    const parent = nounWords.length === 0 ? program : nounOf(nounWords.reverse().join(" "));
    const passed = command.behindDashes === undefined ? {} : { command: behind };
    const help = () => renderCommandHelp(command, helpColors);
    const added = addCommand(parent, verb, command, { context, outcome, passed }, help);
    // `pipelines continue` is a word of `pipelines`, which is a command of its own.
    nouns.set(command.name, added);
  }
  return program;
}

function addCommand(
  parent: Commander,
  name: string,
  command: Command,
  { context, outcome, passed }: { context: CliContext; outcome: { code: ExitCode }; passed: object },
  help: () => string,
): Commander {
  const sub = configured(parent.command(name, { hidden: command.hidden === true }), context, help);
  for (const arg of command.args ?? []) sub.argument(argumentForm(arg), arg.summary);
  for (const { flags, summary } of command.options ?? []) sub.option(flags, summary);
  sub.action(async () => {
    const flags = sub.parent === null ? {} : rootOptions(sub);
    const input = { ...takenByParent(sub), ...sub.opts(), ...namedArguments(command, sub.args), ...passed };
    outcome.code = await command.start(input, newCommandContext(context, flags));
  });
  return sub;
}

/** Options of `pipelines continue` that `pipelines`, a command of its own with options of the same names, took for its own. */
function takenByParent({ parent, options }: Commander): Record<string, unknown> {
  if (!parent?.parent) return {};
  const names = new Set(options.map((option) => option.attributeName()));
  return Object.fromEntries(Object.entries(parent.opts()).filter(([name]) => names.has(name)));
}

/** What every level shares: nothing is written or exited behind our back. */
function configured(command: Commander, context: CliContext, help: () => string): Commander {
  return command
    .exitOverride()
    .showSuggestionAfterError(false)
    .allowExcessArguments(false)
    .configureOutput({ writeOut: (text) => context.out(text), writeErr: () => {}, outputError: () => {} })
    .configureHelp({ formatHelp: help });
}

function namedArguments(command: Command, values: readonly string[]): Record<string, string | string[]> {
  const named: Record<string, string | string[]> = {};
  for (const [index, { name, many }] of (command.args ?? []).entries()) {
    const value = many ? values.slice(index) : values[index];
    if (value !== undefined) named[name.toLowerCase()] = value;
  }
  return named;
}

function rootOptions(command: Commander): GlobalFlags {
  let root = command;
  while (root.parent) root = root.parent;
  return root.opts<GlobalFlags>();
}

function newCommandContext(context: CliContext, flags: GlobalFlags): CommandContext {
  const colorful = flags.color !== false && !context.environment.NO_COLOR;
  const data = (line: string) => context.out(`${line}\n`);
  let client: Promise<ApiClient> | undefined;
  return {
    ...context,
    data,
    say: (line) => context.err(`${line}\n`),
    json: (value) => data(JSON.stringify(value, null, 2)),
    table(rows, columns) {
      for (const line of renderTable(rows, columns, context.isTTY.out ? context.columns : undefined)) data(line);
    },
    colors: {
      out: picocolors.createColors(colorful && context.isTTY.out),
      err: picocolors.createColors(colorful && context.isTTY.err),
    },
    client() {
      client ??= connect(context, flags);
      return client;
    },
  };
}

async function connect(context: CliContext, flags: GlobalFlags): Promise<ApiClient> {
  const wanted = {
    server: flags.server ?? context.environment.SHIPWAY_SERVER,
    token: flags.token ?? context.environment.SHIPWAY_TOKEN,
  };
  const server = await chooseServer(wanted, context.credentialsFile);
  return apiClient(context.fetch === undefined ? server : { ...server, fetch: context.fetch });
}

function wantsColor(context: CliContext, argv: readonly string[]): boolean {
  return !context.environment.NO_COLOR && !argv.includes("--no-color");
}

/** Commander's refusals in our words; undefined when it only showed help or the version. */
function usageProblem(error: CommanderError, argv: readonly string[]): Error | undefined {
  if (error.exitCode === 0) return undefined;
  const words = argv.filter((word) => !word.startsWith("-"));
  const [one = "", two = ""] = words;
  const noun = [`${one} ${two}`, ...words].find((word) => NOUNS[word] !== undefined);
  if (error.code === "commander.help" && noun !== undefined) {
    return fail("USAGE", {
      message: `\`shipway ${noun}\` needs a verb.`,
      hint: `One of: ${verbsOf(noun).join(", ")}. See \`shipway ${noun} --help\`.`,
    });
  }
  if (error.code === "commander.unknownCommand") {
    return unknownCommand(/'(.*)'/.exec(error.message)?.[1] ?? "", noun);
  }
  const passing = COMMANDS.find(({ name, behindDashes }) => behindDashes !== undefined && words.includes(name));
  if (error.code === "commander.excessArguments" && passing !== undefined) {
    return fail("USAGE", {
      message: "Where does the command begin?",
      hint: `Write it behind two dashes: \`shipway ${passing.name} SERVICE -- COMMAND\`.`,
    });
  }
  const command = COMMANDS.find(({ name }) => ` ${words.join(" ")} `.startsWith(` ${name} `));
  const text = (error.message.replace(/^error: /, "").split("\n")[0] ?? "").replace(/\.$/, "");
  return fail("USAGE", {
    message: `${text.charAt(0).toUpperCase()}${text.slice(1)}.`,
    hint: optionHint(error, command),
  });
}

function unknownCommand(word: string, noun: string | undefined): Error {
  const candidates = noun === undefined ? topWords() : verbsOf(noun);
  const meant = didYouMean(word, candidates);
  const prefix = noun === undefined ? "shipway" : `shipway ${noun}`;
  return fail("USAGE", {
    message: `There is no command \`${prefix} ${word}\`.`,
    hint: meant === undefined ? `See what there is: \`${prefix} --help\`` : `Did you mean \`${prefix} ${meant}\`?`,
  });
}

function optionHint(error: CommanderError, command: Command | undefined): string {
  const help = command === undefined ? "See `shipway --help`." : `See \`shipway ${command.name} --help\`.`;
  const option = error.code === "commander.unknownOption" ? /'(--[^'=]+)/.exec(error.message)?.[1] : undefined;
  const known = [...(command?.options ?? []), ...GLOBAL_OPTIONS].flatMap(({ flags }) => /--[a-z-]+/.exec(flags) ?? []);
  const meant = option === undefined ? undefined : didYouMean(option, known);
  return meant === undefined ? help : `Did you mean \`${meant}\`? ${help}`;
}

function topWords(): string[] {
  return [...new Set(COMMANDS.filter(({ hidden }) => !hidden).map(({ name }) => name.split(" ")[0] ?? ""))];
}

function verbsOf(noun: string): string[] {
  const own = COMMANDS.filter(({ name }) => name.startsWith(`${noun} `));
  return [...new Set(own.map(({ name }) => name.slice(noun.length + 1).split(" ")[0] ?? ""))];
}
