import type { Colors } from "picocolors/types.js";
import { wrap } from "../events/narrated-line.ts";
import { argumentForm, type Command, type OptionSpec } from "./command.ts";

/** One paragraph of the overview, in this order. */
const GROUPS: { title: string; commands: string[] }[] = [
  { title: "Start", commands: ["up", "demo", "doctor", "login", "check"] },
  { title: "Ship", commands: ["app", "deploy", "approve", "rollback", "resume", "cancel"] },
  {
    title: "Watch",
    commands: ["status", "open", "logs", "metrics", "events", "releases", "deployments", "pipelines", "env"],
  },
  { title: "Reach in", commands: ["exec", "run", "runs"] },
  { title: "Build", commands: ["infra", "backing", "var"] },
  { title: "Guard", commands: ["secret", "token", "notify"] },
];

/** Options that every command takes. */
export const GLOBAL_OPTIONS: OptionSpec[] = [
  { flags: "--server <url>", summary: "the server to talk to (else SHIPWAY_SERVER, else the one you signed in to)" },
  { flags: "--token <token>", summary: "the token to use (else SHIPWAY_TOKEN, else the stored one)" },
  { flags: "--no-color", summary: "plain text (so does NO_COLOR)" },
];

export const NOUNS: Record<string, string> = {
  app: "create, list and remove apps",
  backing: "databases and caches of an environment, beside those of shipway.yml",
  env: "environments and what runs in them",
  infra: "Terraform of an environment: plan, apply, drift, state",
  "infra state": "versions of the state",
  "infra repository": "hosted repositories with an app's Terraform code",
  "infra provider": "Shipway's own Terraform provider",
  secret: "values that tasks get and nobody reads back",
  notify: "who is told what happens: chats and programs",
  token: "who may do what through the API and git",
  var: "configuration that tasks get as variables",
};

/** The help of one command, from its data. */
export function renderCommandHelp(command: Command, colors: Colors): string {
  const args = (command.args ?? []).map(argumentForm);
  const usage = [
    "shipway",
    command.name,
    ...args,
    ...((command.options ?? []).length > 0 ? ["[options]"] : []),
    ...(command.behindDashes === undefined ? [] : ["--", command.behindDashes]),
  ];
  return sections([
    [`${command.summary.charAt(0).toUpperCase()}${command.summary.slice(1)}.`],
    command.details === undefined ? [] : wrap("", command.details),
    [`${colors.bold("Usage")}  ${usage.join(" ")}`],
    listing(
      "Arguments",
      (command.args ?? []).map(({ name, summary }) => [name, summary]),
      colors,
    ),
    listing(
      "Options",
      (command.options ?? []).map(({ flags, summary }) => [flags, summary]),
      colors,
    ),
    [
      colors.bold("Examples"),
      ...command.examples.flatMap(({ run, does }) => [`  ${colors.dim(`# ${does}`)}`, `  $ ${run}`]),
    ],
    [colors.dim("Options of every command: `shipway --help`")],
  ]);
}

/** The overview: what there is, by what one wants to do. */
export function renderOverview(commands: readonly Command[], colors: Colors): string {
  const summaryOf = (name: string) => NOUNS[name] ?? commands.find((command) => command.name === name)?.summary ?? "";
  return sections([
    ["Shipway takes a team from `git push` to a running, watched, reversible release."],
    [`${colors.bold("Usage")}  shipway <command> [options]`],
    ...GROUPS.map(({ title, commands: names }) =>
      listing(
        title,
        names.map((name) => [name, summaryOf(name)]),
        colors,
      ),
    ),
    listing(
      "Options of every command",
      [
        ...GLOBAL_OPTIONS.map(({ flags, summary }): [string, string] => [flags, summary]),
        ["-V, --version", "the version of this command line"],
        ["-h, --help", "help, with examples; of a command: `shipway deploy --help`"],
      ],
      colors,
    ),
  ]);
}

/** What a noun alone (`shipway app`) shows. */
export function renderNounHelp(noun: string, commands: readonly Command[], colors: Colors): string {
  const own = commands.filter(({ name, hidden }) => name.startsWith(`${noun} `) && !hidden);
  return sections([
    [`${colors.bold("Usage")}  shipway ${noun} <command>`],
    listing(
      "Commands",
      own.map(({ name, args, summary }) => [[name, ...(args ?? []).map(argumentForm)].join(" "), summary]),
      colors,
    ),
  ]);
}

function listing(title: string, rows: [string, string][], colors: Colors): string[] {
  if (rows.length === 0) return [];
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return [colors.bold(title), ...rows.map(([left, right]) => `  ${left.padEnd(width)}${right}`)];
}

function sections(parts: string[][]): string {
  return `${parts
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join("\n"))
    .join("\n\n")}\n`;
}
