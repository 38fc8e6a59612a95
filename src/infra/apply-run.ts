import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { newMask, SHORTEST_MASKED } from "../events/mask-secrets.ts";
import { fail, toProblem } from "../shared/errors.ts";
import { isThere } from "../shared/is-there.ts";
import type { Secret } from "../shared/secret.ts";
import { PLAN_GOOD_FOR_MS } from "./approve-run.ts";
import type { InfraOutputs } from "./infra-run.ts";
import { type ApplyVerdict, findUnsaved, judgeApply } from "./judge-apply.ts";
import { parseOutputs, sealOutputs } from "./outputs.ts";
import { parsePlanJson } from "./plan-json.ts";
import { type MadePlan, makePlan, openPlan } from "./plan-run.ts";
import { differingStarts, sensitiveValues, startsOf } from "./read-plan.ts";
import {
  ERRORED_STATE,
  follow,
  type InfraDeps,
  lockTimeout,
  ofPlan,
  open,
  openUnlessStopped,
  PLAN_FILE,
  refuseCanceled,
  SENSITIVE_FILE,
  SHOWN_ERRORS,
} from "./run-terraform.ts";
import { commandFor, getRun, type InfraRun, journalApply, keepTimings, type RunResult } from "./runs.ts";
import { idsIn, lockedBy, parseState } from "./states.ts";
import { describeStopped } from "./stop-run.ts";
import { describeErrors, errorsIn, holderIn } from "./terraform-errors.ts";
import type { StreamEvent } from "./terraform-stream.ts";
import { type OpenWorkspace, runDirOf } from "./workspace.ts";

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
  const differing = differingStarts(openPlan(deps, run)?.starts ?? {}, startsOf(made.plan, run.takeover !== null));
  if (differing.length === 0) return made;
  const shown = differing.slice(0, SHOWN_ERRORS).join(", ");
  const more = differing.length > SHOWN_ERRORS ? ` and ${differing.length - SHOWN_ERRORS} more` : "";
  throw fail("INFRA_PLAN_STALE", {
    message: `While run ${run.id} waited for its approval, what it was planned from has changed: ${shown}${more}. Nothing was applied.`,
    hint: `Plan anew: \`${commandFor(run)}\`.`,
  });
}

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

async function sensitiveInPlan(deps: InfraDeps, workspace: OpenWorkspace): Promise<string[]> {
  const shown = await deps.terraform.run(workspace, ["show", "-json", "-no-color", join(workspace.runDir, PLAN_FILE)]);
  return sensitiveValues(parsePlanJson(shown.stdout)).filter((value) => value.length >= SHORTEST_MASKED);
}

/** The very bytes that were planned and approved, made from the state that is there now. @throws INFRA_PLAN_STALE */
async function writePlan(deps: InfraDeps, run: InfraRun, workspace: OpenWorkspace): Promise<void> {
  const again = `Plan anew: \`${commandFor(run)}\`.`;
  const kept = openPlan(deps, run);
  if (kept === undefined || run.planned_at === null || Date.now() - run.planned_at.getTime() > PLAN_GOOD_FOR_MS) {
    throw fail("INFRA_PLAN_STALE", { message: `The plan of run ${run.id} is not good any more.`, hint: again });
  }
  const version = await deps.states.latestVersion(run);
  if (workspace.backend.type === "shipway" && version !== run.state_version) {
    throw fail("INFRA_PLAN_STALE", {
      message: `The plan of run ${run.id} was made from version ${run.state_version} of the state; by now it is version ${version}.`,
      hint: again,
    });
  }
  if (createHash("sha256").update(kept.file).digest("hex") !== run.plan_sha256) {
    throw fail("INFRA_PLAN_STALE", {
      message: `The kept plan of run ${run.id} is not the one that was made.`,
      hint: again,
    });
  }
  await writeFile(join(workspace.runDir, PLAN_FILE), kept.file, { mode: 0o600 });
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
    hint: `Plan anew: \`${commandFor(run)}\`.`,
  });
}

function stoppedMidway(run: InfraRun, by: string, howFar: string): RunResult {
  return {
    status: "canceled",
    problem: toProblem(
      fail("INFRA_CANCELED", {
        message: `Run ${run.id} was stopped in the middle, as ${by} asked: ${howFar}.`,
        hint: `Apply again, and it goes on from there: \`${commandFor(run)}\`. All of its output: \`shipway infra runs ${run.id} --log\`.`,
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
    hint: `Try again: \`${commandFor(run)}\`.`,
  });
}
