import { z } from "zod";
import { describeChanges } from "../../events/narrate-infra.ts";
import type { InfraRunView, InfraView, RecoveryView } from "../../http/infra-schemas.ts";
import { fail } from "../../shared/errors.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import type { ExitCode } from "../context.ts";
import { followInfra } from "../follow-infra.ts";
import { followTeardown } from "../follow-teardown.ts";
import { formatAgo, shortCommit } from "../format.ts";
import { APP, AppFlag, appFor, ENV, EnvFlag, environmentFor, JSON_OUT, JsonFlag, LIMIT, LimitFlag } from "../input.ts";
import { showTasks } from "../show-tasks.ts";
import { infraDriftCommand, showDriftNow } from "./infra-drift.ts";
import { infraRepositoryCommands } from "./infra-repository.ts";
import { describeStateIn, infraStateCommands } from "./infra-state.ts";

const Place = { ...AppFlag, ...EnvFlag };
const REF = {
  flags: "--ref <ref>",
  summary: "branch, tag or commit, of the infra repository where there is one (the default branch)",
};

export const infraCommands: Command[] = [
  defineCommand({
    name: "infra plan",
    summary: "what an apply of the environment's Terraform would do; nothing is changed",
    options: [APP, ENV, REF, JSON_OUT],
    examples: [
      { run: "shipway infra plan --env production", does: "of the default branch" },
      { run: "shipway infra plan --ref my-branch", does: "of a branch, before it is merged" },
    ],
    input: z.strictObject({ ...Place, ...JsonFlag, ref: z.string().optional() }),
    run: (input, context) =>
      start(input, { kind: "plan", ...(input.ref !== undefined && { ref: input.ref }) }, context),
  }),
  defineCommand({
    name: "infra apply",
    summary: "plan and apply; a plan that destroys something waits for an approval",
    details:
      "A push does it by itself when the Terraform code or its inputs changed. Ctrl-C leaves, it cancels nothing.",
    options: [
      APP,
      ENV,
      REF,
      { flags: "--again", summary: "what was applied last, once more: puts back what was changed by hand" },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway infra apply --env staging", does: "the newest commit of the default branch" },
      { run: "shipway infra apply --again", does: "reverts drift" },
    ],
    input: z.strictObject({ ...Place, ...JsonFlag, ref: z.string().optional(), again: z.boolean().default(false) }),
    async run(input, context) {
      if (input.again && input.ref !== undefined)
        throw fail("USAGE", {
          message: "--again applies what was applied: it takes no --ref.",
          hint: "Give one of them.",
        });
      const ref = input.ref === undefined ? {} : { ref: input.ref };
      return start(input, { kind: "apply", ...ref, ...(input.again && { again: true as const }) }, context);
    },
  }),
  defineCommand({
    name: "infra destroy",
    summary: "destroy all that the environment's Terraform has made; an operator approves the plan",
    details:
      "With the code that was applied last. Refused while tasks run there: `shipway env stop` first. What `protect` and `maxDestroy` keep stays, unless you say why it is to go. The next deployment makes all of it anew.",
    options: [
      APP,
      ENV,
      { flags: "--overrule <reason>", summary: "what is protected goes, too: why, for the record" },
      { flags: "--ref <ref>", summary: "other code to destroy with, where that of the last apply cannot" },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway infra destroy --env preview", does: "shows the plan, and waits for its approval" },
      {
        run: 'shipway infra destroy --env preview --overrule "the trial is over"',
        does: "the same with what is protected; who wanted it and why is on the record",
      },
    ],
    input: z.strictObject({
      ...Place,
      ...JsonFlag,
      ref: z.string().optional(),
      overrule: z.string().min(1).optional(),
    }),
    async run({ json, ref, overrule, ...input }, context) {
      const { app, environment } = await placeFor(input, context);
      const client = await context.client();
      const wish = { ...(ref !== undefined && { ref }), ...(overrule !== undefined && { overrule }) };
      const started = await client.destroyInfra(app, environment, wish);
      const code = await followInfra(started, context);
      if (json && code !== 130) context.json(await client.getInfraRun(started.runId));
      return code;
    },
  }),
  defineCommand({
    name: "infra runs",
    summary: "plans, applies and drift checks; of one: its plan and how it went",
    args: [{ name: "id", summary: "one run (i_7c1m)", optional: true }],
    options: [APP, ENV, LIMIT, { flags: "--log", summary: "of one: all that Terraform printed" }, JSON_OUT],
    examples: [
      { run: "shipway infra runs --env production", does: "the last ones" },
      { run: "shipway infra runs i_7c1m --log", does: "everything Terraform said" },
    ],
    input: z.strictObject({
      id: z.string().optional(),
      ...Place,
      ...LimitFlag,
      ...JsonFlag,
      log: z.boolean().default(false),
    }),
    async run(input, context) {
      const client = await context.client();
      if (input.id !== undefined) return showRun(await client.getInfraRun(input.id), input, context);
      const app = await appFor(input, context);
      const runs = await client.listInfraRuns(app, { environment: input.env, limit: input.limit });
      if (input.json) context.json(runs);
      else if (runs.length === 0) context.say("Nothing ran yet. Look what would be done: `shipway infra plan`");
      else listRuns(runs, context);
      return 0;
    },
  }),
  defineCommand({
    name: "infra approve",
    summary: "let a run that waits go on, and follow it",
    args: [{ name: "id", summary: "the run (i_7c1m)" }],
    options: [{ flags: "--reject", summary: "turn it down instead" }],
    examples: [
      { run: "shipway infra approve i_7c1m", does: "applies the very plan that was shown" },
      { run: "shipway infra approve i_7c1m --reject", does: "nothing is changed" },
    ],
    input: z.strictObject({ id: z.string(), reject: z.boolean().default(false) }),
    async run(input, context) {
      const client = await context.client();
      if (input.reject) {
        await client.rejectInfraRun(input.id);
        context.say(`${context.colors.err.green("✓")} ${input.id} is turned down; nothing was changed.`);
        return 0;
      }
      const { deliveryId } = await client.getInfraRun(input.id);
      const [last] = (await client.listEvents({ deliveryId })).slice(-1);
      const approved = await client.approveInfraRun(input.id);
      // Of an environment that is being removed the rest is worth seeing, too.
      if (deliveryId.startsWith("t_")) return followTeardown(deliveryId, { after: last?.id ?? 0 }, context);
      const code = await followInfra(approved, context, last?.id ?? 0);
      const run = await client.getInfraRun(input.id);
      return code === 0 && run.takeover !== null && run.status === "succeeded" ? lookAfter(run, context) : code;
    },
  }),
  defineCommand({
    name: "infra cancel",
    summary: "stop a run; of an apply, Terraform finishes what it is at and saves it",
    details:
      "A plan or a drift check just ends. An apply gets one interrupt: what is done stays done and is in the state, and another apply goes on from there. --force is a second decision, for an operator: Terraform ends at once, and the object it is making may exist without being in the state.",
    args: [{ name: "id", summary: "the run (i_7c1m)" }],
    options: [
      { flags: "--force", summary: "stop at once a run that was asked to stop before (with --yes)" },
      { flags: "--yes", summary: "you know what --force may cost" },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway infra cancel i_7c1m", does: "waits until it has ended, and says how far it came" },
      {
        run: "shipway infra cancel i_7c1m --force --yes",
        does: "the environment is blocked until somebody has looked",
      },
    ],
    input: z.strictObject({
      id: z.string(),
      ...JsonFlag,
      force: z.boolean().default(false),
      yes: z.boolean().default(false),
    }),
    run: cancel,
  }),
  defineCommand({
    name: "infra show",
    summary: "what is applied, its outputs, its lock and its drift",
    options: [APP, ENV, JSON_OUT],
    examples: [{ run: "shipway infra show --env production", does: "all at a glance" }],
    input: z.strictObject({ ...Place, ...JsonFlag }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      const infra = await (await context.client()).getInfra(app, environment);
      if (input.json) context.json(infra);
      else showInfra(infra, context);
      return 0;
    },
  }),
  defineCommand({
    name: "infra unlock",
    summary: "take the state's lock from a run that is gone; it is on the record",
    args: [{ name: "id", summary: "the lock, as `shipway infra show` names it" }],
    options: [APP, ENV],
    examples: [{ run: "shipway infra unlock 6f1c… --env staging", does: "refused while its run is at work" }],
    input: z.strictObject({ id: z.string(), ...Place }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      await (await context.client()).unlockState(app, environment, input.id);
      context.say(`${context.colors.err.green("✓")} The state of ${app} ${environment} is not locked any more.`);
      return 0;
    },
  }),
  defineCommand({
    name: "infra recover",
    summary: "what a run that was cut off has left, and how to go on",
    details:
      "Without --way it only shows. push: take over the state that Terraform could not save. import: plan the import of what the state lacks. accept: the state is right as it is.",
    options: [
      APP,
      ENV,
      { flags: "--way <way>", summary: "push, import or accept: end the block so" },
      { flags: "--found <address=id...>", summary: "with import: what was begun, and you saw to exist" },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway infra recover --env production", does: "what is missing, and which way loses nothing" },
      { run: "shipway infra recover --way import", does: "the import is shown and waits for an approval" },
      {
        run: "shipway infra recover --way import --found aws_subnet.a=subnet-0a1b",
        does: "the same, with an object that was begun and never confirmed",
      },
    ],
    input: z.strictObject({
      ...Place,
      ...JsonFlag,
      way: z.enum(["push", "import", "accept"]).optional(),
      found: z.array(z.string().regex(/^[^=]+=./, "write ADDRESS=ID")).optional(),
    }),
    run: recover,
  }),
  infraDriftCommand,
  ...infraStateCommands,
  ...infraRepositoryCommands,
];

type PlaceInput = { app?: string | undefined; env?: string | undefined };

async function placeFor(input: PlaceInput, context: CommandContext): Promise<{ app: string; environment: string }> {
  const app = await appFor(input, context);
  return { app, environment: await environmentFor(app, input, context) };
}

async function start(
  input: PlaceInput & { json: boolean },
  body: { kind: "plan" | "apply" | "drift"; ref?: string; again?: true },
  context: CommandContext,
): Promise<ExitCode> {
  const { app, environment } = await placeFor(input, context);
  const client = await context.client();
  const started = await client.startInfra(app, environment, body);
  const code = await followInfra(started, context);
  if (input.json && code !== 130) context.json(await client.getInfraRun(started.runId));
  return code;
}

/** Once drift was taken over, what the code says otherwise is not drift any more: it is shown at once, so that nobody takes quiet for agreement. */
async function lookAfter(run: InfraRunView, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  const runs = await client.listInfraRuns(run.app, { environment: run.environment, limit: 20 });
  const check = runs.find((one) => one.kind === "drift" && one.deliveryId === run.deliveryId);
  if (check !== undefined) {
    const code = await followInfra({ runId: check.id, deliveryId: check.deliveryId }, context);
    if (code !== 0) return code;
  }
  return showDriftNow(run, false, context);
}

async function cancel(
  input: { id: string; json: boolean; force: boolean; yes: boolean },
  context: CommandContext,
): Promise<ExitCode> {
  if (input.force && !input.yes)
    throw fail("USAGE", {
      message:
        "Stopped at once, Terraform does not wait for the object it is making: it may exist and be missing from the state, and the environment is blocked until somebody has looked.",
      hint: `If you mean it: \`shipway infra cancel ${input.id} --force --yes\``,
    });
  const client = await context.client();
  const { deliveryId } = await client.getInfraRun(input.id);
  const [last] = (await client.listEvents({ deliveryId })).slice(-1);
  await client.cancelInfraRun(input.id, input.force);
  const code = await followInfra({ runId: input.id, deliveryId }, context, last?.id ?? 0, "canceled");
  if (input.json && code !== 130) context.json(await client.getInfraRun(input.id));
  return code;
}

async function showRun(
  run: InfraRunView,
  { json, log }: { json: boolean; log: boolean },
  context: CommandContext,
): Promise<ExitCode> {
  const client = await context.client();
  if (log) {
    for (const id of run.logs) for (const { text } of await client.readLog(id)) context.data(text);
    return 0;
  }
  if (json) {
    context.json(run);
    return 0;
  }
  const by = run.approvedBy === null ? run.actor : `${run.actor}, approved by ${run.approvedBy}`;
  context.data(
    `${run.kind} ${run.id} of ${run.environment}: ${run.status}, ${run.repository === null ? "" : `${run.repository} `}${run.refName} ${shortCommit(run.commit)}, by ${by}, ${formatAgo(run.createdAt, context.now())}`,
  );
  for (const line of describeChanges(run.plan?.changes ?? [])) context.data(line);
  if (run.problem !== null) {
    context.data(run.problem.message);
    if (run.problem.hint !== undefined) context.say(`  → ${run.problem.hint}`);
  }
  if (run.status === "waiting") {
    for (const reason of run.plan?.approval ?? []) context.data(`! ${reason}`);
    context.say(`  Let it go on: \`shipway infra approve ${run.id}\`, or turn it down with --reject.`);
  }
  return 0;
}

function listRuns(runs: readonly InfraRunView[], context: CommandContext): void {
  context.table(runs, [
    { title: "RUN", value: ({ id }) => id },
    { title: "KIND", value: ({ kind }) => kind },
    { title: "ENVIRONMENT", value: ({ environment }) => environment },
    { title: "STATUS", value: ({ status }) => status },
    { title: "CHANGES", value: ({ plan }) => (plan === null ? "-" : String(plan.changes.length)), align: "right" },
    { title: "COMMIT", value: ({ commit }) => shortCommit(commit) },
    { title: "BY", value: ({ actor }) => actor, flexible: true },
    { title: "WHEN", value: ({ createdAt }) => formatAgo(createdAt, context.now()) },
  ]);
}

function showInfra(infra: InfraView, context: CommandContext): void {
  const { applied, blockedBy, runningRun, stateIn, lock, drift: found, outputs } = infra;
  context.data(
    applied === null
      ? "Nothing is applied."
      : `Applied: ${shortCommit(applied.commit)}${applied.repository === null ? "" : ` of ${applied.repository}`} by run ${applied.runId}.`,
  );
  if (runningRun !== null) context.data(`At work: ${runningRun}.`);
  if (blockedBy !== null) context.data(`Blocked: the outcome of ${blockedBy} is unknown. \`shipway infra recover\``);
  if (stateIn !== null && stateIn.type !== "shipway") context.data(`State: ${describeStateIn(stateIn)}.`);
  if (lock !== null)
    context.data(
      `State lock ${lock.id}: run ${lock.runId ?? "unknown"}, ${lock.operation} by ${lock.who}, ${formatAgo(lock.created, context.now())}.`,
    );
  if (found !== null) {
    const count = found.resources.filter(({ kind }) => kind === "reverting").length;
    context.data(
      `Drift: ${count === 0 ? "none" : `${count} changed by hand`}, looked ${formatAgo(found.checkedAt, context.now())}.`,
    );
  }
  if (outputs.length > 0)
    context.table(outputs, [
      { title: "OUTPUT", value: ({ name }) => name },
      { title: "VALUE", value: ({ value }) => value, flexible: true },
    ]);
  showTasks(infra.tasks, context);
}

async function recover(
  input: PlaceInput & { json: boolean; way?: "push" | "import" | "accept" | undefined; found?: string[] | undefined },
  context: CommandContext,
): Promise<ExitCode> {
  const client = await context.client();
  const { app, environment } = await placeFor(input, context);
  if (input.found !== undefined && input.way !== "import") {
    throw fail("USAGE", {
      message: "--found names what is to be imported.",
      hint: "Give it together with --way import.",
    });
  }
  if (input.way === undefined) {
    const recovery = await client.getRecovery(app, environment);
    if (input.json) context.json(recovery);
    else showRecovery(recovery, context);
    return 0;
  }
  const found = (input.found ?? []).map(parseFound);
  const { runId } = await client.recover(app, environment, { way: input.way, ...(found.length > 0 && { found }) });
  if (runId !== null) return followInfra({ runId, deliveryId: runId }, context);
  context.say(`${context.colors.err.green("✓")} ${app} ${environment} is not blocked any more.`);
  context.say(`  See what is left to do: \`shipway infra plan --env ${environment}\``);
  return 0;
}

/** An address may hold an `=` only in the key of a `for_each`, in quotes. */
function parseFound(pair: string): { address: string; id: string } {
  const [, address = "", id = ""] = /^((?:[^="]|"(?:\\.|[^"\\])*")+)=(.+)$/s.exec(pair) ?? [];
  return { address, id };
}

const isImportable = ({ action, beside }: RecoveryView["uncertain"][number]) => action === "create" && !beside;

function showRecovery(
  { run, errored, finished, uncertain, beside, advice, lock }: RecoveryView,
  context: CommandContext,
): void {
  context.data(run.problem?.message ?? `Run ${run.id} was cut off.`);
  if (lock !== null)
    context.data(
      lock.runId === null
        ? `The state is locked by ${lock.who} (${lock.operation}, lock ${lock.id}): that comes first. \`shipway infra unlock ${lock.id}\` when it is gone for good.`
        : `It still holds the state lock ${lock.id}; recovering gives it back.`,
    );
  if (errored !== null)
    context.data(
      `Terraform left the state it could not save: serial ${errored.serial}, ${errored.resources} resources.`,
    );
  if (finished.length > 0) {
    context.data("Done by the run, and not in the state:");
    context.table(finished, [
      { title: "RESOURCE", value: ({ address }) => address, flexible: true },
      { title: "WHAT", value: ({ action }) => action },
      { title: "ID", value: ({ id }) => id ?? "-", flexible: true },
    ]);
  }
  if (uncertain.length > 0) {
    context.data("Begun and never heard of again; look yourself whether these exist:");
    for (const { address, action, beside: isBeside } of uncertain)
      context.data(
        `  ${address} (${action}${isBeside ? ", beside the one in the state: if the new one exists, remove it by hand" : ""})`,
      );
    if (uncertain.some(isImportable))
      context.say("  One that exists: `--way import --found ADDRESS=ID`. Left out, it would be made a second time.");
  }
  if (beside.length > 0) {
    context.data(
      "Made beside the one in the state, which still exists; remove these by hand, the next apply makes them anew:",
    );
    for (const { address, id } of beside) context.data(`  ${address} (${id})`);
  }
  const words = {
    push: "take over the state that Terraform left",
    import: "import what the state lacks: it is planned, shown, and waits for an approval",
    accept: "nothing is missing from the state as far as the run got to say",
  };
  context.say(`  → ${words[advice]}: \`shipway infra recover --way ${advice} --env ${run.environment}\``);
}
