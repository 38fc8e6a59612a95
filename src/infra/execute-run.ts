import { createHash } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Sealer } from "../environment/sealing.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { LogStore } from "../events/log-store.ts";
import { newMask, SHORTEST_MASKED } from "../events/mask-secrets.ts";
import { formatDurationMs } from "../shared/duration.ts";
import { fail, toProblem } from "../shared/errors.ts";
import { isThere } from "../shared/is-there.ts";
import { Secret } from "../shared/secret.ts";
import { PLAN_GOOD_FOR_MS } from "./approve-run.ts";
import { varFilesOf } from "./code-hash.ts";
import { recordDrift } from "./drift-reports.ts";
import { describePlace, isSamePlace, parseLockInfo } from "./foreign-state.ts";
import { listIgnored } from "./ignored-drift.ts";
import type { InfraOutputs, PlannedChange, PlanSummary, StateIn, StateLock } from "./infra-run.ts";
import { type ApplyVerdict, findUnsaved, judgeApply } from "./judge-apply.ts";
import type { LookSlots } from "./look-slots.ts";
import { parseOutputs, sealOutputs } from "./outputs.ts";
import { type PlanJson, parsePlanJson } from "./plan-json.ts";
import { readDrift } from "./read-drift.ts";
import { differingStarts, readPlan, readTakeover, refusalsOf, sensitiveValues } from "./read-plan.ts";
import { findWrites, isOurs } from "./rollout-writes.ts";
import {
  appliedElsewhere,
  canceledUnchanged,
  findInfra,
  frameOf,
  getRun,
  type InfraRun,
  journalApply,
  keepStateIn,
  keepTimings,
  type RunResult,
  recordPlan,
} from "./runs.ts";
import { idsIn, lockedBy, parseState, type States } from "./states.ts";
import { describeStopped } from "./stop-run.ts";
import { abortWhenStopped, startStopWatch } from "./stop-watch.ts";
import { describeDiagnostic, parseStreamLine, type StreamEvent } from "./terraform-stream.ts";
import { forgetInitialised, type OpenWorkspace, openWorkspace, runDirOf, type WorkspaceDeps } from "./workspace.ts";

export type InfraDeps = WorkspaceDeps & {
  sealer: Sealer;
  states: States;
  logs: LogStore;
  /** Where plans and drift checks wait for their turn. */
  lookSlots: LookSlots;
  /** How long init and plan may take before they are stopped: a provider that hangs must not hold the others up. Default: an hour, of a drift check 15 minutes. */
  planDeadlineMs?: number;
  /** How long an apply waits for somebody else's lock; 20 s. */
  lockWaitSeconds?: number;
};

const DEADLINE_MS = { plan: 3_600_000, apply: 3_600_000, drift: 900_000 };
/** From the interrupt, with which Terraform gives its lock back, to the kill. */
const GRACE_MS = 15_000;

const lockTimeout = ({ lockWaitSeconds = 20 }: InfraDeps) => `-lock-timeout=${lockWaitSeconds}s`;

/** What an error of a run may quote; more is in its log. */
const SHOWN_ERRORS = 3;
const PLAN_FILE = "plan.tfplan";
const SENSITIVE_FILE = "sensitive.json";
export const ERRORED_STATE = "errored.tfstate";

export const infraLogId = (runId: string, phase: "init" | "plan" | "apply"): string => `${runId}.${phase}`;

const planContext = (run: InfraRun) => `infra-plan/${run.id}`;

/**
 * Checks out, initialises, plans and reads what the plan will do; of an apply, the plan is kept sealed. Repeating it plans anew: nothing is changed by it.
 * @throws INFRA_PROTECTED for a plan that the environment's rules let nobody pass, once it is recorded; INFRA_INVALID, INFRA_FAILED, INFRA_LOCKED, SECRET_MISSING, TERRAFORM_MISSING, GIT_FAILED
 */
export async function planRun(deps: InfraDeps, run: InfraRun): Promise<PlanSummary> {
  const { workspace, plan, maskValues, timings } = await makePlan(deps, run);
  const startedAt = Date.now();
  const mask = newMask(maskValues);
  const found = read(run, plan);
  const moved = await stateHasMoved(deps, run, workspace.stateIn);
  if (moved !== undefined && found.changes.length > 0) found.approval.push(moved);
  const refused = refusalsOf(found.changes, run.spec);
  const summary = maskAll({ ...found, ...(refused.length > 0 && { refused }) }, mask);
  const file = await readFile(join(workspace.runDir, PLAN_FILE));
  await recordPlan(deps.db, run, {
    summary,
    file: run.kind === "apply" ? deps.sealer.seal(file.toString("base64"), planContext(run)) : Buffer.alloc(0),
    sha256: createHash("sha256").update(file).digest("hex"),
    stateVersion: await deps.states.latestVersion(run),
  });
  await keepTimings(deps.db, run.id, { ...timings, recordMs: Date.now() - startedAt });
  if (summary.refused !== undefined) throw refuse(run, summary.refused);
  return summary;
}

const read = ({ takeover, spec, imports }: InfraRun, plan: PlanJson): PlanSummary =>
  takeover === null ? readPlan(plan, spec.approval, imports.length > 0) : readTakeover(plan, takeover);

function refuse(run: InfraRun, reasons: readonly string[]) {
  const shown = reasons.slice(0, SHOWN_ERRORS);
  const more = reasons.length - shown.length;
  return fail("INFRA_PROTECTED", {
    message: `${run.environment} does not let this plan pass, whoever approves it: ${shown.join("; ")}${more > 0 ? `; and ${more} more` : ""}. Nothing was changed.`,
    hint: `If it is meant, say so in a commit: change \`protect\` or \`maxDestroy\` of environments.${run.environment}.infra in shipway.yml. See the whole plan: \`shipway infra runs ${run.id}\`.`,
  });
}

/** Another backend is another, mostly empty state: a plan made from it would build everything a second time. */
async function stateHasMoved(deps: InfraDeps, run: InfraRun, stateIn: StateIn): Promise<string | undefined> {
  const appliedRun = (await findInfra(deps.db, run))?.applied_run ?? null;
  const before = appliedRun === null ? null : (await getRun(deps.db, appliedRun)).state_in;
  if (before === null || isSamePlace(before, stateIn)) return undefined;
  return `its state lies in another place than what was applied last (${describePlace(before)}, now ${describePlace(stateIn)}); what exists would be built once more`;
}

/** Compares what exists with what was applied, without a lock. The result of a check that something overtook is thrown away. */
export async function checkDrift(deps: InfraDeps, run: InfraRun): Promise<void> {
  const before = await deps.states.latestVersion(run);
  const appliedBefore = (await findInfra(deps.db, run))?.applied_run;
  const { plan, maskValues, timings } = await makePlan(deps, run);
  await keepTimings(deps.db, run.id, timings);
  const environment = await findInfra(deps.db, run);
  const overtaken =
    environment?.running_run !== null ||
    environment.applied_run !== appliedBefore ||
    environment.applied_commit !== run.commit ||
    (await deps.states.latestVersion(run)) !== before;
  if (overtaken) {
    throw fail("INFRA_PLAN_STALE", {
      message: `${run.environment} was changed while its drift was looked for; what was found says nothing any more.`,
      hint: `Look again: \`shipway infra drift --app ${run.app} --env ${run.environment} --now\`.`,
    });
  }
  const now = Date.now();
  const [ignored, writes] = await Promise.all([listIgnored(deps.db, run, now), findWrites(deps.db, run)]);
  const drift = readDrift(plan, { ignored, isOurs: (found) => isOurs(writes, found, now) });
  await recordDrift(deps.db, run, maskAll(drift, newMask(maskValues)));
}

type MadePlan = { workspace: OpenWorkspace; plan: PlanJson; maskValues: Secret[]; timings: Record<string, number> };

async function makePlan(deps: InfraDeps, run: InfraRun): Promise<MadePlan> {
  const startedAt = Date.now();
  const limitMs = deps.planDeadlineMs ?? DEADLINE_MS[run.kind];
  const deadline = AbortSignal.timeout(limitMs);
  const { workspace, maskValues } = await openUnlessStopped(deps, run, deadline);
  const openedAt = Date.now();
  // What an earlier life of ours has left running is only in the way.
  await deps.terraform.kill(workspace, "plan");
  if (run.kind === "apply") await deps.states.releaseOf(run, run.id);
  await refuseCanceled(deps, run);
  for (const name of ["plan.jsonl", "plan.pid", PLAN_FILE]) await rm(join(workspace.runDir, name), { force: true });
  await deps.terraform.start(workspace, "plan", planArgs(deps, run, workspace));
  const stopLate = stopAtDeadline(deps, workspace, { deadline, graceMs: Math.min(GRACE_MS, limitMs) });
  const { events } = await follow(deps, run, workspace, "plan", maskValues).finally(stopLate.end);
  const plannedAt = Date.now();
  // One that was killed could not give its lock back.
  if (run.kind === "apply") await deps.states.releaseOf(run, run.id);
  await refuseCanceled(deps, run);
  if (stopLate.happened()) throw tooLong(run, "plan", limitMs);
  if (workspace.warm && events.some(wantsInit)) {
    await forgetInitialised(workspace);
    return makePlan(deps, run);
  }
  const planned = await isThere(join(workspace.runDir, PLAN_FILE));
  if (!planned || errorsIn(events).length > 0)
    throw await planFailed(deps, run, workspace, events, newMask(maskValues));
  const shown = await deps.terraform.run(workspace, ["show", "-json", "-no-color", join(workspace.runDir, PLAN_FILE)]);
  const plan = parsePlanJson(shown.stdout);
  const values = sensitiveValues(plan).filter((value) => value.length >= SHORTEST_MASKED);
  // The plan beside it holds the same in clear; an apply that follows at once need not ask Terraform again.
  await writeFile(join(workspace.runDir, SENSITIVE_FILE), JSON.stringify(values), { mode: 0o600 });
  return {
    workspace,
    plan,
    maskValues: [...maskValues, ...values.map(ofPlan)],
    timings: {
      openMs: openedAt - startedAt,
      planMs: plannedAt - openedAt,
      showMs: Date.now() - plannedAt,
      warm: workspace.warm ? 1 : 0,
    },
  };
}

/** A folder that was initialised earlier lacks something: a module or provider that somebody removed, or one that the files did not tell of. */
const wantsInit = (event: StreamEvent) =>
  event.type === "diagnostic" &&
  event.diagnostic.severity === "error" &&
  /\b(terraform|tofu) init\b/.test(`${event.diagnostic.summary} ${event.diagnostic.detail}`);

/** A plan changes nothing, so one that does not come to its end is stopped. */
function stopAtDeadline(
  deps: InfraDeps,
  workspace: OpenWorkspace,
  { deadline, graceMs }: { deadline: AbortSignal; graceMs: number },
) {
  let killing: NodeJS.Timeout | undefined;
  let stopped = false;
  const stop = () => {
    stopped = true;
    deps.terraform.interrupt(workspace, "plan").catch(() => undefined);
    killing = setTimeout(() => deps.terraform.kill(workspace, "plan").catch(() => undefined), graceMs);
  };
  if (deadline.aborted) stop();
  else deadline.addEventListener("abort", stop);
  return {
    happened: () => stopped,
    end: () => {
      deadline.removeEventListener("abort", stop);
      clearTimeout(killing);
    },
  };
}

function tooLong(run: InfraRun, what: "init" | "plan", limitMs: number) {
  return fail("INFRA_FAILED", {
    message: `terraform ${what} did not come to its end within ${formatDurationMs(limitMs)} and was stopped; nothing was changed.`,
    hint: `Most likely a provider waits for something that does not answer. The last it said: \`shipway infra runs ${run.id} --log\`.`,
  });
}

/** @throws INFRA_CANCELED */
async function refuseCanceled(deps: InfraDeps, run: InfraRun): Promise<void> {
  const { cancel_requested_by: by } = await getRun(deps.db, run.id);
  if (by !== null) throw canceledUnchanged(run, by);
}

function planArgs(deps: InfraDeps, { kind, spec, takeover }: InfraRun, { runDir }: OpenWorkspace): string[] {
  // The last one wins: what shipway.yml says goes before what a file says.
  const variables = [
    ...varFilesOf(spec).map((file) => `-var-file=${join(runDir, "tree", file)}`),
    ...Object.entries(spec.variables).map(([name, value]) => `-var=${name}=${value}`),
  ];
  const lock = kind === "apply" ? lockTimeout(deps) : "-lock=false";
  const only = takeover?.addresses.map((address) => `-target=${address}`) ?? [];
  const mode = takeover === null ? [] : ["-refresh-only", ...only];
  return ["plan", "-json", "-input=false", "-no-color", lock, `-out=${join(runDir, PLAN_FILE)}`, ...mode, ...variables];
}

async function planFailed(
  deps: InfraDeps,
  run: InfraRun,
  workspace: OpenWorkspace,
  events: readonly StreamEvent[],
  mask: (text: string) => string,
) {
  const lock = await deps.states.findLock(run);
  // Of the state that is kept here Terraform would print the caller's own lock, not the holder's (measured with 1.11).
  if (lock && lock.runId !== run.id && events.some(isLockError)) return lockedBy(run, lock);
  const holder = workspace.backend.type === "shipway" ? undefined : holderIn(events);
  if (holder) return lockedBy(run, holder);
  return fail("INFRA_FAILED", {
    message: `terraform plan failed.\n${describeErrors(events, mask) || "It was cut off before it said why."}`,
    hint: `Mend it, push and try again. All of its output: \`shipway infra runs ${run.id} --log\`.`,
  });
}

const isLockError = (event: StreamEvent) =>
  event.type === "diagnostic" && /acquiring the state lock/.test(event.diagnostic.summary);

/** Whom Terraform names as the holder of a lock that it could not take. */
const holderIn = (events: readonly StreamEvent[]): StateLock | undefined =>
  events.flatMap((event) => {
    const found =
      event.type === "diagnostic" && isLockError(event) ? parseLockInfo(event.diagnostic.detail) : undefined;
    return found === undefined ? [] : [found];
  })[0];

const errorsIn = (events: readonly StreamEvent[]) =>
  events.flatMap((event) =>
    event.type === "diagnostic" && event.diagnostic.severity === "error" ? [event.diagnostic] : [],
  );

function describeErrors(events: readonly StreamEvent[], mask: (text: string) => string): string {
  const errors = errorsIn(events).map(describeDiagnostic);
  const more = errors.length > SHOWN_ERRORS ? [`… and ${errors.length - SHOWN_ERRORS} more`] : [];
  return mask([...errors.slice(0, SHOWN_ERRORS), ...more].join("\n"));
}

type Opened = { workspace: OpenWorkspace; maskValues: Secret[] };

async function open(deps: InfraDeps, run: InfraRun, signal?: AbortSignal): Promise<Opened> {
  const known = await deps.secrets.allOfApp(run.app);
  const init: string[] = [];
  try {
    const workspace = await openWorkspace(deps, run, (text) => init.push(text), signal);
    await requireOwnPlace(deps, run, workspace.stateIn);
    await keepStateIn(deps.db, run, workspace.stateIn);
    return { workspace, maskValues: [...known, new Secret("state", workspace.password)] };
  } finally {
    await keepText(deps, infraLogId(run.id, "init"), init, known);
  }
}

/** Two environments with one state would each remove what the other has. @throws INFRA_INVALID */
async function requireOwnPlace(deps: InfraDeps, run: InfraRun, stateIn: StateIn): Promise<void> {
  if (Object.keys(stateIn.config).length === 0) return;
  const others = await appliedElsewhere(deps.db, run);
  const same = others.find(({ state_in: other }) => other !== null && isSamePlace(other, stateIn));
  if (same === undefined) return;
  throw fail("INFRA_INVALID", {
    message: `${run.app} ${run.environment} would share its state with ${same.app} ${same.environment}: both lie in ${describePlace(stateIn)}.`,
    hint: "Give each environment a state of its own: leave the key out of the backend block and set it as `infra: { backend: { key: … } }` in shipway.yml.",
  });
}

/** As `open`, of a run that has changed nothing yet. @throws INFRA_CANCELED as soon as somebody wants it stopped */
async function openUnlessStopped(deps: InfraDeps, run: InfraRun, deadline?: AbortSignal): Promise<Opened> {
  const watch = abortWhenStopped(deps.db, run.id);
  try {
    return await open(deps, run, deadline ? AbortSignal.any([watch.signal, deadline]) : watch.signal);
  } catch (error) {
    await refuseCanceled(deps, run);
    if (deadline?.aborted) throw tooLong(run, "init", deps.planDeadlineMs ?? DEADLINE_MS[run.kind]);
    throw error;
  } finally {
    await watch.end();
  }
}

async function keepText({ logs }: InfraDeps, id: string, texts: string[], known: Secret[]): Promise<void> {
  if (texts.length === 0) return;
  const writer = await logs.open(id, newMask(known));
  const lines = texts.flatMap((text) => text.split("\n"));
  writer.sink(lines.map((text) => ({ at: Date.now(), stream: "out" as const, text })));
  await writer.close();
}

/** Shows a command's output as it comes: as a log, and each resource as an event. A second look, after a restart, begins anew. */
async function follow(
  deps: InfraDeps,
  run: InfraRun,
  workspace: OpenWorkspace,
  name: "plan" | "apply",
  maskValues: Secret[],
): Promise<{ events: StreamEvent[] }> {
  const logId = infraLogId(run.id, name);
  await deps.logs.remove(logId);
  const mask = newMask(maskValues);
  const writer = await deps.logs.open(logId, mask);
  const events: StreamEvent[] = [];
  const told = name === "apply" ? await toldResources(deps, run) : new Set<string>();
  // That somebody is not told of a resource must not cost the outcome of the apply.
  let telling: Promise<void> = Promise.resolve();
  const watch = startStopWatch(deps, { run, name, runDir: workspace.runDir, events, mask });
  try {
    await deps.terraform.follow(workspace, name, (line) => {
      if (line === "") return;
      const { event, text } = parseStreamLine(line);
      writer.sink(text.split("\n").map((one) => ({ at: Date.now(), stream: "out" as const, text: one })));
      events.push(event);
      if (name === "apply")
        telling = telling.then(() => tellResource(deps, run, maskAll(event, mask), told)).catch(() => undefined);
    });
  } finally {
    await watch.end();
  }
  await telling;
  const stderr = await readFile(join(workspace.runDir, `${name}.stderr`), "utf8").catch(() => "");
  if (stderr.trim() !== "")
    writer.sink(
      stderr
        .trim()
        .split("\n")
        .map((text) => ({ at: Date.now(), stream: "err" as const, text })),
    );
  await writer.close();
  return { events };
}

async function toldResources({ db }: InfraDeps, run: InfraRun): Promise<Set<string>> {
  const rows = await db
    .selectFrom("events")
    .select("data")
    .where("subject", "=", `infra:${run.id}`)
    .where("kind", "=", "infra.resource")
    .execute();
  return new Set(rows.map(({ data }) => `${data.address} ${data.action} ${data.status}`));
}

async function tellResource({ db }: InfraDeps, run: InfraRun, event: StreamEvent, told: Set<string>): Promise<void> {
  if (event.type !== "done" && event.type !== "failed" && event.type !== "progress") return;
  const { address, action } = event;
  const status = event.type;
  const key = `${address} ${action} ${status}`;
  if (told.has(key)) return;
  told.add(key);
  const data = { runId: run.id, address, action, status, ...("seconds" in event && { seconds: event.seconds }) };
  await db.transaction().execute((tx) => appendEvent(tx, frameOf(run), { kind: "infra.resource", data }));
}

/**
 * Applies the kept plan, once: the journal and the output file on disk say how far an earlier life of ours came, and a Terraform that still runs is
 * followed to its end. Never throws for what Terraform did: that is the result.
 * @throws INFRA_CANCELED, INFRA_PLAN_STALE, INFRA_FAILED, SECRET_MISSING before anything was begun
 */
export async function applyRun(deps: InfraDeps, seen: InfraRun): Promise<RunResult> {
  const run = await getRun(deps.db, seen.id);
  const startedAt = Date.now();
  const known = await deps.secrets.allOfApp(run.app);
  const runDir = runDirOf(deps.dir, run.id);
  const before = await deps.terraform.state({ runDir }, "apply");
  if (run.apply_started_at !== null && before === "never started" && !(await isThere(join(runDir, "journal")))) {
    return unknown(run, "its files are gone from Shipway's data directory, so nobody can say how far it came");
  }
  if (before !== "never started") {
    const workspace = bareWorkspace(runDir, join(runDir, "tree", run.spec.dir));
    // Its output is read from the beginning, and its log written anew.
    return conclude(deps, run, workspace, [...known, ...((await keptSensitive(runDir)) ?? [])], startedAt);
  }
  // Also one that an earlier life had noted and not started: its process would have left a file.
  await refuseCanceled(deps, run);
  const isApproved = run.approved_by !== null && run.apply_started_at === null;
  const { workspace, maskValues } = isApproved ? await planAgain(deps, run) : await openUnlessStopped(deps, run);
  if (run.apply_started_at === null) {
    await writePlan(deps, run, workspace);
    await writeFile(join(runDir, "journal"), `${run.id}\n`);
    if (!(await journalApply(deps.db, run.id))) await refuseCanceled(deps, run);
  }
  await deps.states.releaseOf(run, run.id);
  const plan = join(runDir, PLAN_FILE);
  await deps.terraform.start(workspace, "apply", [
    "apply",
    "-json",
    "-input=false",
    "-no-color",
    lockTimeout(deps),
    plan,
  ]);
  return conclude(deps, run, workspace, [...maskValues, ...(await sensitiveOf(deps, workspace))], startedAt);
}

/**
 * Terraform does not look again when it applies a saved plan: what somebody changed by hand while the plan waited would be overwritten unseen. So the plan
 * is made once more, and must start from the same; what is applied is the one that was approved. @throws INFRA_PLAN_STALE
 */
async function planAgain(deps: InfraDeps, run: InfraRun): Promise<MadePlan> {
  const made = await makePlan(deps, run);
  const now = maskAll(read(run, made.plan).changes, newMask(made.maskValues));
  const before = run.plan?.changes ?? [];
  // What is taken over is what exists: there it is the other end that must be the same.
  const differing =
    run.takeover === null ? differingStarts(before, now) : differingStarts(before.map(turned), now.map(turned));
  if (differing.length === 0) return made;
  const shown = differing.slice(0, SHOWN_ERRORS).join(", ");
  const more = differing.length > SHOWN_ERRORS ? ` and ${differing.length - SHOWN_ERRORS} more` : "";
  throw fail("INFRA_PLAN_STALE", {
    message: `While run ${run.id} waited for its approval, what it was planned from has changed: ${shown}${more}. Nothing was applied.`,
    hint: `Plan anew: \`shipway infra apply --app ${run.app} --env ${run.environment}\`.`,
  });
}

const turned = (change: PlannedChange): PlannedChange => ({
  ...change,
  attributes: change.attributes.map(({ path, before, after }) => ({ path, before: after, after: before })),
});

const isBare = ({ password }: OpenWorkspace) => password === "";

/** For following a process that was started before: it needs neither backend nor environment. */
const bareWorkspace = (runDir: string, codeDir: string): OpenWorkspace => ({
  runDir,
  codeDir,
  dataDir: join(runDir, "data"),
  env: {},
  password: "",
  backend: { type: "shipway" },
  stateIn: { type: "shipway", config: {} },
  warm: true,
});

async function sensitiveOf(deps: InfraDeps, workspace: OpenWorkspace): Promise<Secret[]> {
  return (await keptSensitive(workspace.runDir)) ?? (await sensitiveInPlan(deps, workspace)).map(ofPlan);
}

/** Undefined where none were kept. */
async function keptSensitive(runDir: string): Promise<Secret[] | undefined> {
  const kept = await readFile(join(runDir, SENSITIVE_FILE), "utf8").catch(() => undefined);
  return kept === undefined ? undefined : (JSON.parse(kept) as string[]).map(ofPlan);
}

const ofPlan = (value: string) => new Secret("plan", value);

async function sensitiveInPlan(deps: InfraDeps, workspace: OpenWorkspace): Promise<string[]> {
  const shown = await deps.terraform.run(workspace, ["show", "-json", "-no-color", join(workspace.runDir, PLAN_FILE)]);
  return sensitiveValues(parsePlanJson(shown.stdout)).filter((value) => value.length >= SHORTEST_MASKED);
}

/** The very bytes that were planned and approved, made from the state that is there now. @throws INFRA_PLAN_STALE */
async function writePlan(deps: InfraDeps, run: InfraRun, workspace: OpenWorkspace): Promise<void> {
  const again = `Plan anew: \`shipway infra apply --app ${run.app} --env ${run.environment}\`.`;
  if (run.plan_file === null || run.planned_at === null || Date.now() - run.planned_at.getTime() > PLAN_GOOD_FOR_MS) {
    throw fail("INFRA_PLAN_STALE", { message: `The plan of run ${run.id} is not good any more.`, hint: again });
  }
  const version = await deps.states.latestVersion(run);
  if (workspace.backend.type === "shipway" && version !== run.state_version) {
    throw fail("INFRA_PLAN_STALE", {
      message: `The plan of run ${run.id} was made from version ${run.state_version} of the state; by now it is version ${version}.`,
      hint: again,
    });
  }
  const file = Buffer.from(deps.sealer.open(run.plan_file, planContext(run)), "base64");
  if (createHash("sha256").update(file).digest("hex") !== run.plan_sha256) {
    throw fail("INFRA_PLAN_STALE", {
      message: `The kept plan of run ${run.id} is not the one that was made.`,
      hint: again,
    });
  }
  await writeFile(join(workspace.runDir, PLAN_FILE), file, { mode: 0o600 });
}

async function conclude(
  deps: InfraDeps,
  run: InfraRun,
  workspace: OpenWorkspace,
  maskValues: Secret[],
  startedAt: number,
): Promise<RunResult> {
  const followedAt = Date.now();
  const { events } = await follow(deps, run, workspace, "apply", maskValues);
  const endedAt = Date.now();
  const isForced = events.some(({ type }) => type === "forced");
  const verdict = judgeApply({
    events,
    lockHeld: (await deps.states.findLock(run))?.runId === run.id,
    erroredState: await isThere(join(workspace.codeDir, ERRORED_STATE)),
    ...(isForced && { unsaved: findUnsaved(events, idsIn((await deps.states.latest(run))?.text)) }),
  });
  const result = await resultOf(deps, run, verdict, events, newMask(maskValues), workspace);
  await keepTimings(deps.db, run.id, {
    applyOpenMs: followedAt - startedAt,
    applyMs: endedAt - followedAt,
    outputsMs: Date.now() - endedAt,
  });
  return result;
}

async function resultOf(
  deps: InfraDeps,
  run: InfraRun,
  verdict: ApplyVerdict,
  events: readonly StreamEvent[],
  mask: (text: string) => string,
  workspace: OpenWorkspace,
): Promise<RunResult> {
  if (verdict.outcome === "unknown") {
    await deps.terraform.kill({ runDir: runDirOf(deps.dir, run.id) }, "apply");
    return unknown(run, verdict.why);
  }
  await deps.states.releaseOf(run, run.id);
  const { cancel_requested_by: by } = await getRun(deps.db, run.id);
  if (verdict.outcome === "failed" && verdict.interrupted && by !== null)
    return stoppedMidway(run, by, mask(describeStopped(run.plan?.changes ?? [], events)));
  const refused = verdict.outcome === "failed" ? refusalOf(run, events) : undefined;
  if (refused) return { status: "failed", problem: toProblem(refused) };
  if (verdict.outcome === "applied") return readOutputs(deps, run, isBare(workspace) ? undefined : workspace);
  const how = verdict.interrupted ? "was interrupted" : "failed";
  return {
    status: "failed",
    problem: toProblem(
      fail("INFRA_FAILED", {
        message: `terraform apply ${how}; what it had done by then is in the state.\n${describeErrors(events, mask)}`,
        hint: `Mend it and apply again: it goes on from there. All of its output: \`shipway infra runs ${run.id} --log\`.`,
      }),
    ),
  };
}

/** What Terraform itself refused before it began: of a state kept elsewhere, only it can tell that somebody was faster. */
function refusalOf(run: InfraRun, events: readonly StreamEvent[]) {
  const holder = holderIn(events);
  if (holder) return lockedBy(run, holder);
  if (!errorsIn(events).some(({ summary }) => summary === "Saved plan is stale")) return undefined;
  return fail("INFRA_PLAN_STALE", {
    message: `The state of ${run.environment} has changed since run ${run.id} was planned; nothing was applied.`,
    hint: `Plan anew: \`shipway infra apply --app ${run.app} --env ${run.environment}\`.`,
  });
}

function stoppedMidway(run: InfraRun, by: string, howFar: string): RunResult {
  return {
    status: "canceled",
    problem: toProblem(
      fail("INFRA_CANCELED", {
        message: `Run ${run.id} was stopped in the middle, as ${by} asked: ${howFar}.`,
        hint: `Apply again, and it goes on from there: \`shipway infra apply --app ${run.app} --env ${run.environment}\`. All of its output: \`shipway infra runs ${run.id} --log\`.`,
      }),
    ),
  };
}

function unknown(run: InfraRun, why: string): RunResult {
  return {
    status: "unknown",
    problem: toProblem(
      fail("INFRA_OUTCOME_UNKNOWN", {
        message: `The outcome of run ${run.id} is unknown: ${why}. Nothing more is applied to ${run.environment} until somebody has looked.`,
        hint: `See what the state lacks and go on from there: \`shipway infra recover --app ${run.app} --env ${run.environment}\`.`,
      }),
    ),
  };
}

/** Outputs of what is applied now. They change nothing, so they are read anew as often as it takes. */
export async function readOutputs(deps: InfraDeps, run: InfraRun, opened?: OpenWorkspace): Promise<RunResult> {
  const workspace = opened ?? (await open(deps, run)).workspace;
  const outputs = (await outputsInState(deps, run, workspace)) ?? (await askForOutputs(deps, run, workspace));
  return { status: "succeeded", outputs: sealOutputs(deps.sealer, run, outputs) };
}

/** Of a state that is here they are read without starting Terraform; one that is encrypted (OpenTofu) shows none. */
async function outputsInState(
  deps: InfraDeps,
  run: InfraRun,
  { backend }: OpenWorkspace,
): Promise<InfraOutputs | undefined> {
  const latest = backend.type === "shipway" ? await deps.states.latest(run) : undefined;
  const outputs = latest && parseState(latest.text).outputs;
  if (outputs === undefined) return undefined;
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { value, sensitive = false }]) => [name, { value, sensitive }]),
  );
}

async function askForOutputs(deps: InfraDeps, run: InfraRun, workspace: OpenWorkspace): Promise<InfraOutputs> {
  const { exitCode, stdout, stderr } = await deps.terraform.run(workspace, ["output", "-json", "-no-color"]);
  if (exitCode === 0) return parseOutputs(stdout);
  throw fail("INFRA_FAILED", {
    message: `Everything is applied, but the outputs could not be read: ${stderr.trim().split("\n").slice(-3).join(" ")}`,
    hint: `Try again: \`shipway infra apply --app ${run.app} --env ${run.environment}\`.`,
  });
}

/** Everything a run has on disk, once nobody needs it any more. */
export const removeRunDir = (deps: Pick<InfraDeps, "dir">, runId: string): Promise<void> =>
  rm(runDirOf(deps.dir, runId), { recursive: true, force: true });

/** The plan in clear, of a run whose other files a recovery needs. */
export async function removePlanFiles({ dir }: Pick<InfraDeps, "dir">, runId: string): Promise<void> {
  for (const name of [PLAN_FILE, SENSITIVE_FILE]) await rm(join(runDirOf(dir, runId), name), { force: true });
}

/** The same data with every text masked. Terraform's own words (addresses, actions) are texts, too: they may hold a name made from a secret. */
function maskAll<T>(data: T, mask: (text: string) => string): T {
  return JSON.parse(
    JSON.stringify(data, (_key, value: unknown) => (typeof value === "string" ? mask(value) : value)),
  ) as T;
}
