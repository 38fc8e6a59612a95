import { createHash } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { newMask, SHORTEST_MASKED } from "../events/mask-secrets.ts";
import { fail } from "../shared/errors.ts";
import { isThere } from "../shared/is-there.ts";
import type { Secret } from "../shared/secret.ts";
import { varFilesOf } from "./code-hash.ts";
import { recordDrift } from "./drift-reports.ts";
import { describePlace, isSamePlace } from "./foreign-state.ts";
import { listIgnored } from "./ignored-drift.ts";
import { isApplying, type PlanSummary, type StateIn } from "./infra-run.ts";
import { type PlanJson, parsePlanJson } from "./plan-json.ts";
import { readDrift } from "./read-drift.ts";
import { readPlan, readTakeover, refusalsOf, sensitiveValues, startsOf } from "./read-plan.ts";
import { findWrites, isOurs } from "./rollout-writes.ts";
import {
  DEADLINE_MS,
  follow,
  type InfraDeps,
  lockTimeout,
  maskAll,
  ofPlan,
  openUnlessStopped,
  PLAN_FILE,
  refuseCanceled,
  SENSITIVE_FILE,
  SHOWN_ERRORS,
  tooLong,
} from "./run-terraform.ts";
import { findInfra, getRun, type InfraRun, keepTimings, recordPlan } from "./runs.ts";
import { lockedBy } from "./states.ts";
import { describeErrors, errorsIn, holderIn, isLockError } from "./terraform-errors.ts";
import type { StreamEvent } from "./terraform-stream.ts";
import { forgetInitialised, type OpenWorkspace } from "./workspace.ts";

/** From the interrupt, with which Terraform gives its lock back, to the kill. */
const GRACE_MS = 15_000;

const planContext = (run: InfraRun) => `infra-plan/${run.id}`;

const KeptPlan = z.object({ file: z.base64(), starts: z.record(z.string(), z.string()) });

/** Terraform's plan file, and what it was made from: both tell secrets. */
export type KeptPlan = { file: Buffer; starts: Record<string, string> };

const sealPlan = ({ sealer }: InfraDeps, run: InfraRun, { file, starts }: KeptPlan): Buffer =>
  sealer.seal(JSON.stringify({ file: file.toString("base64"), starts }), planContext(run));

/** Undefined when none is kept. */
export function openPlan({ sealer }: InfraDeps, run: InfraRun): KeptPlan | undefined {
  if (run.plan_file === null) return undefined;
  const { file, starts } = KeptPlan.parse(JSON.parse(sealer.open(run.plan_file, planContext(run))));
  return { file: Buffer.from(file, "base64"), starts };
}

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
  const against = refusalsOf(found.changes, run.spec);
  if (run.overrule !== null)
    found.approval.unshift(
      ...against.map((reason) => `${reason}: ${run.actor} wants it all the same (${run.overrule})`),
    );
  const refused = run.overrule === null ? against : [];
  const summary = maskAll({ ...found, ...(refused.length > 0 && { refused }) }, mask);
  const file = await readFile(join(workspace.runDir, PLAN_FILE));
  await recordPlan(deps.db, run, {
    summary,
    file: isApplying(run.kind)
      ? sealPlan(deps, run, { file, starts: startsOf(plan, run.takeover !== null) })
      : Buffer.alloc(0),
    sha256: createHash("sha256").update(file).digest("hex"),
    stateVersion: await deps.states.latestVersion(run),
  });
  await keepTimings(deps.db, run.id, { ...timings, recordMs: Date.now() - startedAt });
  if (summary.refused !== undefined) throw refuse(run, summary.refused);
  return summary;
}

function read({ kind, takeover, spec, imports }: InfraRun, plan: PlanJson): PlanSummary {
  if (takeover !== null) return readTakeover(plan, takeover);
  const summary = readPlan(plan, spec.approval, imports.length > 0);
  const { length } = summary.changes;
  // Each by itself would only say the plan once more.
  if (kind === "destroy" && length > 0)
    summary.approval = [`it destroys all that is there: ${length === 1 ? "one object" : `${length} objects`}`];
  return summary;
}

function refuse(run: InfraRun, reasons: readonly string[]) {
  const shown = reasons.slice(0, SHOWN_ERRORS);
  const more = reasons.length - shown.length;
  return fail("INFRA_PROTECTED", {
    message: `${run.environment} does not let this plan pass, whoever approves it: ${shown.join("; ")}${more > 0 ? `; and ${more} more` : ""}. Nothing was changed.`,
    hint:
      run.kind === "destroy"
        ? `If it is meant, say why, on the record: \`--overrule "REASON"\`. See the whole plan: \`shipway infra runs ${run.id}\`.`
        : `If it is meant, say so in a commit: change \`protect\` or \`maxDestroy\` of environments.${run.environment}.infra in shipway.yml. See the whole plan: \`shipway infra runs ${run.id}\`.`,
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

export type MadePlan = {
  workspace: OpenWorkspace;
  plan: PlanJson;
  maskValues: Secret[];
  timings: Record<string, number>;
};

export async function makePlan(deps: InfraDeps, run: InfraRun): Promise<MadePlan> {
  const startedAt = Date.now();
  const limitMs = deps.planDeadlineMs ?? DEADLINE_MS[run.kind];
  const deadline = AbortSignal.timeout(limitMs);
  const { workspace, maskValues } = await openUnlessStopped(deps, run, deadline);
  const openedAt = Date.now();
  // What an earlier life of ours has left running is only in the way.
  await deps.terraform.kill(workspace, "plan");
  if (isApplying(run.kind)) await deps.states.releaseOf(run, run.id);
  await refuseCanceled(deps, run);
  for (const name of ["plan.jsonl", "plan.pid", PLAN_FILE]) await rm(join(workspace.runDir, name), { force: true });
  await deps.terraform.start(workspace, "plan", planArgs(deps, run, workspace));
  const stopLate = stopAtDeadline(deps, workspace, { deadline, graceMs: Math.min(GRACE_MS, limitMs) });
  const { events } = await follow(deps, run, workspace, "plan", maskValues).finally(stopLate.end);
  const plannedAt = Date.now();
  // One that was killed could not give its lock back.
  if (isApplying(run.kind)) await deps.states.releaseOf(run, run.id);
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

function planArgs(deps: InfraDeps, { kind, spec, takeover }: InfraRun, { runDir }: OpenWorkspace): string[] {
  // The last one wins: what shipway.yml says goes before what a file says.
  const variables = [
    ...varFilesOf(spec).map((file) => `-var-file=${join(runDir, "tree", file)}`),
    ...Object.entries(spec.variables).map(([name, value]) => `-var=${name}=${value}`),
  ];
  const lock = isApplying(kind) ? lockTimeout(deps) : "-lock=false";
  const only = takeover?.addresses.map((address) => `-target=${address}`) ?? [];
  const mode = kind === "destroy" ? ["-destroy"] : takeover === null ? [] : ["-refresh-only", ...only];
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
