import { z } from "zod";
import type { ValueScope } from "../environment/value-scope.ts";
import { parseDurationMs } from "../shared/duration.ts";
import { fail } from "../shared/errors.ts";
import type { CommandContext, OptionSpec } from "./command.ts";
import { findProject, SPEC_FILE } from "./project.ts";

export const APP: OptionSpec = { flags: "--app <name>", summary: "the app (else the one that shipway.yml here names)" };
export const ENV: OptionSpec = {
  flags: "--env <name>",
  summary: "the environment (else the only one, or production)",
};
const PIPELINES: OptionSpec = {
  flags: "--pipelines",
  summary: "for pipeline steps: every one, or with --env those with that `deployment:`",
};
export const JSON_OUT: OptionSpec = { flags: "--json", summary: "the data as JSON, for programs" };
export const LIMIT: OptionSpec = { flags: "--limit <n>", summary: "at most so many, newest first (20)" };

export const AppFlag = { app: z.string().optional() };
export const EnvFlag = { env: z.string().optional() };
const PipelinesFlag = { pipelines: z.boolean().default(false) };

/** Of commands about variables and secrets: whose they are. */
export const ScopeFlags = { ...AppFlag, ...EnvFlag, ...PipelinesFlag };
export const SCOPE = [APP, ENV, PIPELINES];
export const JsonFlag = { json: z.boolean().default(false) };
export const LimitFlag = { limit: z.coerce.number().int().min(1).max(200).default(20) };

/** What becomes of data when what made them is removed. */
export const DataFlag = z.enum(["keep", "remove"], "write keep or remove").default("keep");

/** `r7` or `7`. */
export const ReleaseNumber = z
  .string()
  .regex(/^r?[1-9]\d*$/, "write a release as r7 or 7")
  .transform((text) => Number(text.replace("r", "")));

/** `10m` → milliseconds. */
export const Since = z
  .string()
  .refine((text) => parseDurationMs(text) !== undefined, "write a duration with its unit, such as 30s, 10m, 2h or 1d")
  .transform((text) => parseDurationMs(text) ?? 0);

/** The app that is meant: `--app`, else the one of the checkout. @throws USAGE when there is neither */
export async function appFor(input: { app?: string | undefined }, context: CommandContext): Promise<string> {
  if (input.app !== undefined) return input.app;
  const project = await findProject(context.cwd);
  if (project?.app !== undefined) return project.app;
  throw fail("USAGE", {
    message:
      project === undefined
        ? `Which app? There is no ${SPEC_FILE} in ${context.cwd} or above it.`
        : `Which app? ${project.specFile} has no \`app:\` line that could be read.`,
    hint: "Name it with `--app NAME`; `shipway app list` lists them.",
  });
}

/** The environment that is meant: `--env`, else the only one, else `production`. @throws USAGE when that leaves a choice */
export async function environmentFor(
  app: string,
  input: { env?: string | undefined },
  context: CommandContext,
): Promise<string> {
  if (input.env !== undefined) return input.env;
  const { environments } = await (await context.client()).getApp(app);
  const [only] = environments;
  if (only !== undefined && environments.length === 1) return only;
  if (environments.includes("production") || environments.length === 0) return "production";
  throw fail("USAGE", {
    message: `Which environment of ${app}? It has ${environments.join(", ")}.`,
    hint: `Name it, such as \`--env ${only}\`.`,
  });
}

/** Both. @throws USAGE */
export async function placeFor(
  input: { app?: string | undefined; env?: string | undefined },
  context: CommandContext,
): Promise<{ app: string; environment: string }> {
  const app = await appFor(input, context);
  return { app, environment: await environmentFor(app, input, context) };
}

type ScopeInput = { app?: string | undefined; env?: string | undefined; pipelines: boolean };

/** Whose variables or secrets are meant. @throws USAGE */
export async function scopeFor(input: ScopeInput, context: CommandContext): Promise<ValueScope> {
  if (!input.pipelines) return placeFor(input, context);
  const app = await appFor(input, context);
  return { app, pipelines: true, ...(input.env !== undefined && { environment: input.env }) };
}

/** Who gets them: `shop production`, `every pipeline step of shop`. */
export function holderOf({ app, environment, pipelines }: ValueScope): string {
  if (!pipelines) return `${app} ${environment}`;
  return environment === undefined
    ? `every pipeline step of ${app}`
    : `pipeline steps of ${app} with \`deployment: ${environment}\``;
}

/** Of all that pipeline steps have, what `--env` asks for; without it all. */
export const isOf =
  (scope: ValueScope) =>
  ({ environment }: { environment: string | null }): boolean =>
    scope.environment === undefined || scope.environment === environment;

/** A column that says which steps have it. */
export const STEPS = {
  title: "STEPS",
  value: ({ environment }: { environment?: string | null }) =>
    environment == null ? "every" : `deployment: ${environment}`,
};

/** When they have what was set. */
export function sayFromWhen(scope: ValueScope, context: CommandContext): void {
  const { app, environment } = scope;
  if (!scope.pipelines) {
    context.say(`  Tasks get it with the next deployment: \`shipway deploy --app ${app} --env ${environment}\``);
    return;
  }
  context.say("  Pipelines that begin from now on have it.");
  if (environment !== undefined)
    context.say(`  Only those of branches and tags that ${environment} takes, as the default branch has its rule.`);
}
