import { z } from "zod";
import { describeChanges } from "../../events/narrate-infra.ts";
import type { DriftView, IgnoredDriftView } from "../../http/infra-schemas.ts";
import { fail } from "../../shared/errors.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import type { ExitCode } from "../context.ts";
import { followInfra } from "../follow-infra.ts";
import { formatAgo, shortCommit } from "../format.ts";
import { APP, AppFlag, appFor, ENV, EnvFlag, environmentFor, JSON_OUT, JsonFlag } from "../input.ts";
import { hasTaskDrift, showTasks } from "../show-tasks.ts";

const Input = z.strictObject({
  ...AppFlag,
  ...EnvFlag,
  ...JsonFlag,
  now: z.boolean().default(false),
  revert: z.boolean().default(false),
  accept: z.boolean().default(false),
  target: z.string().optional(),
  ignore: z.string().optional(),
  reason: z.string().optional(),
  for: z.string().optional(),
  ignored: z.boolean().default(false),
  unignore: z.string().optional(),
});
type Input = z.output<typeof Input>;

export const infraDriftCommand: Command = defineCommand({
  name: "infra drift",
  summary: "what differs from what was applied, and tasks that run otherwise than declared",
  details:
    "reverting: the next apply puts it back. informational: nothing would be done about it, or a rollout set it. undeployed: the code wants something else than what exists. ignored: somebody ignores it, and said why. Tasks are looked at each time. Exits 1 when something is reverting, or a task differs.",
  options: [
    APP,
    ENV,
    { flags: "--now", summary: "look now instead of showing the last check" },
    { flags: "--revert", summary: "put it back: the same as `infra apply --again`" },
    { flags: "--accept", summary: "make the state say what exists; planned, shown, and an operator approves it" },
    { flags: "--target <address>", summary: "with --accept: only this resource or module" },
    { flags: "--ignore <what>", summary: "keep quiet about a resource or one attribute (with --reason)" },
    { flags: "--reason <text>", summary: "why it is ignored" },
    { flags: "--for <duration>", summary: "ignored for so long: 12h, 30d (until it is taken back)" },
    { flags: "--ignored", summary: "what is ignored, by whom, why and until when" },
    { flags: "--unignore <what>", summary: "hear of it again" },
    JSON_OUT,
  ],
  examples: [
    { run: "shipway infra drift --now", does: "looks, and shows each resource with what changed" },
    { run: "shipway infra drift --revert", does: "puts it back" },
    { run: "shipway infra drift --accept --target aws_vpc.main", does: "then says what the code says otherwise" },
    {
      run: 'shipway infra drift --ignore aws_ecs_service.web.desired_count --reason "scaled for the sale" --for 7d',
      does: "until then nobody is told of that attribute",
    },
    { run: "shipway infra drift --ignored", does: "everything nobody is told of" },
  ],
  input: Input,
  run: drift,
});

type Place = { app: string; environment: string };

async function drift(input: Input, context: CommandContext): Promise<ExitCode> {
  refuseMixtures(input);
  const app = await appFor(input, context);
  const place = { app, environment: await environmentFor(app, input, context) };
  const client = await context.client();
  if (input.revert)
    return follow(await client.startInfra(app, place.environment, { kind: "apply", again: true }), input, context);
  if (input.accept) {
    const targets = input.target === undefined ? [] : [input.target];
    return follow(await client.acceptDrift(app, place.environment, targets), input, context);
  }
  if (input.ignored) return showIgnored(place, input.json, context);
  if (input.ignore !== undefined) return ignore(place, input.ignore, input, context);
  if (input.unignore !== undefined) {
    await client.unignoreDrift(app, place.environment, input.unignore);
    context.say(`${context.colors.err.green("✓")} The next check tells of ${input.unignore} again.`);
    return 0;
  }
  // Without Terraform there are the tasks alone, and these are looked at each time.
  if (input.now && (await client.getInfra(app, place.environment)).applied !== null) {
    const code = await followInfra(await client.startInfra(app, place.environment, { kind: "drift" }), context);
    if (code !== 0) return code;
  }
  return showDriftNow(place, input.json, context);
}

/** What would be overlooked must not look as if it had been done. */
function refuseMixtures(input: Input): void {
  const ways = [
    input.now && "--now",
    input.revert && "--revert",
    input.accept && "--accept",
    input.ignore !== undefined && "--ignore",
    input.ignored && "--ignored",
    input.unignore !== undefined && "--unignore",
  ].filter((way) => way !== false);
  if (ways.length > 1)
    throw fail("USAGE", { message: `${ways.join(" and ")} are different things.`, hint: "Give one of them." });
  if (input.target !== undefined && !input.accept)
    throw fail("USAGE", { message: "--target goes with --accept.", hint: "Add it, or leave --target out." });
  if (input.ignore === undefined && (input.reason !== undefined || input.for !== undefined))
    throw fail("USAGE", { message: "--reason and --for go with --ignore.", hint: "Add it, or leave them out." });
}

async function follow(
  started: { runId: string; deliveryId: string },
  { json }: Input,
  context: CommandContext,
): Promise<ExitCode> {
  const code = await followInfra(started, context);
  if (json && code !== 130) context.json(await (await context.client()).getInfraRun(started.runId));
  return code;
}

async function ignore(
  { app, environment }: Place,
  what: string,
  input: Input,
  context: CommandContext,
): Promise<ExitCode> {
  if (input.reason === undefined)
    throw fail("USAGE", { message: "Why is it ignored?", hint: 'Say it with --reason "…": others will ask.' });
  const client = await context.client();
  await client.ignoreDrift(app, environment, { what, reason: input.reason, for: input.for });
  context.say(
    `${context.colors.err.green("✓")} Nobody is told of ${what}${input.for === undefined ? "" : ` for ${input.for}`}. The next apply still puts it back.`,
  );
  context.say(`  Hear of it again: \`shipway infra drift --unignore ${what}\``);
  return 0;
}

async function showIgnored({ app, environment }: Place, json: boolean, context: CommandContext): Promise<ExitCode> {
  const ignored = await (await context.client()).listIgnoredDrift(app, environment);
  if (json) context.json(ignored);
  else if (ignored.length === 0) context.say(`Nothing is ignored in ${environment}.`);
  else listIgnored(ignored, context);
  return 0;
}

function listIgnored(ignored: readonly IgnoredDriftView[], context: CommandContext): void {
  context.table(ignored, [
    { title: "WHAT", value: ({ address, path }) => (path === "" ? address : `${address}.${path}`) },
    { title: "WHY", value: ({ reason }) => reason, flexible: true },
    { title: "BY", value: ({ actor }) => actor },
    { title: "UNTIL", value: ({ until }) => until?.slice(0, 16).replace("T", " ") ?? "taken back" },
  ]);
}

/** What the last check found. 1 when the next apply would put something back, or a task runs otherwise than declared. */
export async function showDriftNow(
  { app, environment }: Place,
  json: boolean,
  context: CommandContext,
): Promise<ExitCode> {
  const { drift: found, applied, blockedBy, tasks } = await (await context.client()).getInfra(app, environment);
  if (json) context.json({ ...found, tasks });
  else if (found === null)
    context.say(
      applied === null
        ? "No Terraform was applied here yet. Where shipway.yml declares `infra` for it: `shipway infra apply`"
        : "Nobody looked yet. `shipway infra drift --now`",
    );
  else showDrift(found, context);
  if (!json && blockedBy !== null)
    context.say(
      `  ${environment} is blocked by run ${blockedBy}: what that made and the state lacks is shown as undeployed. \`shipway infra recover\``,
    );
  if (!json) showTasks(tasks, context);
  return found?.resources.some(({ kind }) => kind === "reverting") || hasTaskDrift(tasks) ? 1 : 0;
}

const MEANING: Record<string, string> = {
  reverting: "Changed by hand; the next apply puts it back",
  informational: "Changed outside, and nothing would be done about it",
  undeployed: "The code wants something else than what exists; the next apply changes it",
  ignored: "Ignored",
};

function showDrift(drift: DriftView, context: CommandContext): void {
  const when = formatAgo(drift.checkedAt, context.now());
  if (drift.resources.length === 0) {
    context.data(`No drift: everything is as applied at ${shortCommit(drift.commit)} (looked ${when}).`);
    return;
  }
  for (const [kind, meaning] of Object.entries(MEANING)) {
    const found = drift.resources.filter((one) => one.kind === kind);
    if (found.length === 0) continue;
    context.data(`${meaning}:`);
    for (const line of describeChanges(found)) context.data(line);
  }
  context.say(`  Looked ${when}, against ${shortCommit(drift.commit)}.`);
  if (drift.resources.some(({ kind }) => kind === "reverting"))
    context.say(
      "  Put it back: `shipway infra drift --revert`; keep it: write it into the code, or let the state take it over with --accept.",
    );
}
