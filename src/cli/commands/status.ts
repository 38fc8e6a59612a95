import { z } from "zod";
import type { Environment, Status } from "../../http/schemas.ts";
import { formatDurationMs } from "../../shared/duration.ts";
import { fail } from "../../shared/errors.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import type { ExitCode } from "../context.ts";
import { APP, AppFlag, appFor, ENV, EnvFlag, environmentFor, JSON_OUT, JsonFlag } from "../input.ts";
import { renderHint } from "../problem.ts";
import { ENVIRONMENT_COLUMNS } from "./env.ts";

export const statusCommands: Command[] = [
  defineCommand({
    name: "status",
    summary: "the server, and what runs where",
    options: [{ flags: "--app <name>", summary: "only this app" }, JSON_OUT],
    examples: [{ run: "shipway status", does: "is everything up?" }],
    input: z.strictObject({ ...AppFlag, ...JsonFlag }),
    async run(input, context) {
      const client = await context.client();
      const status = await client.status();
      const apps = status.apps.filter(({ name }) => input.app === undefined || name === input.app);
      if (input.app !== undefined && apps.length === 0) await client.getApp(input.app);
      const environments = (await Promise.all(apps.map(({ name }) => client.listEnvironments(name)))).flat();
      if (input.json) context.json({ ...status, apps, environments });
      else {
        context.data(
          `Shipway ${status.version} at ${status.apiUrl}, up for ${formatDurationMs(status.uptimeMs)}, ${describeDocker(status.docker)}`,
        );
        if (environments.length > 0) context.data("");
        showEnvironments(environments, context);
        for (const line of nextSteps(environments, apps.length)) context.say(line);
        sayProblems(environments, context);
      }
      const isSeen = environments.every(({ problem }) => problem === null);
      return isSeen && (status.docker.reachable || !status.docker.used) ? 0 : 75;
    },
  }),
  defineCommand({
    name: "open",
    summary: "open an environment in the browser",
    args: [{ name: "service", summary: "which service (default: the first with an address)", optional: true }],
    options: [APP, ENV],
    examples: [
      { run: "shipway open", does: "production" },
      { run: "shipway open api --env staging", does: "the api of staging" },
    ],
    input: z.strictObject({ service: z.string().optional(), ...AppFlag, ...EnvFlag }),
    run: openEnvironment,
  }),
];

function describeDocker({ used, reachable, version }: Status["docker"]): string {
  if (!used) return "without Docker";
  return reachable ? `Docker ${version ?? ""}`.trim() : "Docker CANNOT BE REACHED";
}

function showEnvironments(environments: readonly Environment[], context: CommandContext): void {
  if (environments.length === 0) return;
  const address = { title: "ADDRESS", value: (one: Environment) => one.addresses[0] ?? "-" };
  const own = ENVIRONMENT_COLUMNS.filter(({ title }) => title !== "DEPLOYED FROM");
  context.table(environments, [{ title: "APP", value: ({ app }: Environment) => app }, ...own, address]);
}

/** What keeps from seeing what runs: an engine or AWS that does not answer is the same for many environments. */
function sayProblems(environments: readonly Environment[], context: CommandContext): void {
  const { err } = context.colors;
  for (const { app, name, problem } of environments) {
    if (problem === null) continue;
    context.say(`${err.yellow("!")} ${app} ${name}: ${problem.message}`);
    if (problem.hint !== undefined) for (const line of renderHint(problem.hint, err)) context.say(line);
  }
}

function nextSteps(environments: readonly Environment[], apps: number): string[] {
  if (apps === 0) return ["No app yet. Make one in its checkout: `shipway app create NAME`"];
  return environments.flatMap(({ app, name, frozen, liveRelease, waitingDeployment, stopped }) => {
    if (waitingDeployment !== null) {
      const decide = `shipway approve --app ${app} --env ${name}`;
      return [`${app} ${name}: r${waitingDeployment.release} waits for an approval by a tester. See it: \`${decide}\``];
    }
    if (stopped !== null) return [`${app} ${name} is stopped. Start it: \`shipway env start ${name} --app ${app}\``];
    if (frozen !== null) {
      return [`${app} ${name} is paused (${frozen.reason}). Go on: \`shipway resume --app ${app} --env ${name}\``];
    }
    if (liveRelease !== null) return [];
    return [`${app} ${name} serves nothing yet. Deploy there: \`shipway deploy --app ${app} --env ${name}\``];
  });
}

async function openEnvironment(
  input: { service?: string | undefined; app?: string | undefined; env?: string | undefined },
  context: CommandContext,
): Promise<ExitCode> {
  const client = await context.client();
  const app = await appFor(input, context);
  const name = await environmentFor(app, input, context);
  const environment = await client.getEnvironment(app, name);
  const service = environment.services.find((one) => one.name === input.service);
  if (input.service !== undefined && service === undefined) {
    throw fail("NOT_FOUND", {
      message: `${app} ${name} has no service ${input.service}.`,
      hint: `It has ${environment.services.map((one) => one.name).join(", ") || "none: nothing is live yet"}.`,
    });
  }
  const address = (service ?? environment).addresses[0];
  if (address === undefined) {
    throw fail("NOT_FOUND", {
      message: `${service ? `The service ${service.name}` : `${app} ${name}`} has no address.`,
      hint:
        environment.liveRelease === null
          ? "Nothing is live there yet: `git push shipway main`"
          : "Only a service with a `port:` in shipway.yml gets one.",
    });
  }
  context.data(address);
  if (context.isTTY.out) {
    await context
      .openUrl(address)
      .catch(() => context.say("  No browser could be started here: open the address yourself."));
  }
  return 0;
}
