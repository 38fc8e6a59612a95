import { readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import { findForeignLock, isElsewhere, pullState, pushState, removeFromState, unlockForeign } from "./foreign-state.ts";
import type { StateLock } from "./infra-run.ts";
import { findUnsaved, type Unsaved } from "./judge-apply.ts";
import { maskErrors } from "./mask-errors.ts";
import { ERRORED_STATE, type InfraDeps, removeRunDir } from "./run-terraform.ts";
import { findInfra, getRun, type InfraRun, requestRun, type StartedRun, startNextRun, unblock } from "./runs.ts";
import { idsIn, lockedBy, parseState, resourcesIn, withoutResources } from "./states.ts";
import type { Workspace } from "./terraform.ts";
import { parseStreamLine } from "./terraform-stream.ts";
import { openWorkspace, runDirOf } from "./workspace.ts";

export type Recovery = {
  run: InfraRun;
  lock: StateLock | undefined;
  /** Through which a state is reached that Shipway does not keep itself. */
  workspace: Workspace | undefined;
  /** The state that Terraform could not save, when it left one. */
  errored: { serial: number; resources: number; text: string } | undefined;
  unsaved: Unsaved;
  /** Addresses of the state, with their ids. */
  inState: ReadonlyMap<string, string | undefined>;
};

/** `push`: take over errored.tfstate; `import`: plan the import of what the state lacks; `accept`: the state is right as it is. */
export type RecoveryWay = "push" | "import" | "accept";

/** What is known about the run that blocks an environment. @throws INFRA_RUN_NOT_FOUND when nothing is blocked */
export const findRecovery = (deps: InfraDeps, place: Place): Promise<Recovery> =>
  maskErrors(deps.secrets, place.app, () => lookAtRecovery(deps, place));

async function lookAtRecovery(deps: InfraDeps, place: Place): Promise<Recovery> {
  const blockedBy = (await findInfra(deps.db, place))?.blocked_by ?? null;
  if (blockedBy === null) {
    throw fail("INFRA_RUN_NOT_FOUND", {
      message: `There is nothing to recover: ${place.app} ${place.environment} is not blocked.`,
      hint: "`shipway infra runs` shows what ran.",
    });
  }
  const run = await getRun(deps.db, blockedBy);
  const runDir = runDirOf(deps.dir, run.id);
  const text = await readFile(join(runDir, "tree", run.spec.dir, ERRORED_STATE), "utf8").catch(() => undefined);
  const lines = await deps.terraform.output({ runDir }, "apply");
  const { state, lock, workspace } = await lookAtState(deps, place, run);
  const inState = idsIn(state);
  const events = lines.map((line) => parseStreamLine(line).event);
  // With its output gone, too, all that it was to make may exist.
  const unsaved = lines.length > 0 ? findUnsaved(events, inState) : mayExist(run, inState);
  // A recovery that was cut off itself: what it had not imported yet.
  const known = new Set([...inState.keys(), ...unsaved.finished.map(({ address }) => address)]);
  const left = run.imports.filter(({ address }) => !known.has(address));
  return {
    run,
    lock,
    workspace,
    errored: text === undefined ? undefined : erroredOf(text),
    inState,
    unsaved: { ...unsaved, finished: [...left.map((one) => ({ ...one, action: "create" })), ...unsaved.finished] },
  };
}

function mayExist({ plan }: InfraRun, inState: ReadonlyMap<string, string | undefined>): Unsaved {
  const made = (plan?.changes ?? []).filter(({ action }) => action === "create" || action === "replace");
  const uncertain = made.map(({ address }) => ({ address, action: "create", beside: inState.has(address) }));
  return { finished: [], uncertain, beside: [] };
}

async function lookAtState(deps: InfraDeps, place: Place, run: InfraRun) {
  if (!isElsewhere(run)) {
    const latest = await deps.states.latest(place);
    return { state: latest?.text, lock: await deps.states.findLock(place), workspace: undefined };
  }
  const workspace = await openWorkspace(deps, run, () => undefined);
  const state = await pullState(deps.terraform, workspace);
  const lock = await findForeignLock(deps.terraform, workspace);
  return { state, workspace, lock: lock && { ...lock, runId: isLockOf(run, lock) ? run.id : null } };
}

/** A clock of the database and one of this machine are compared. */
const CLOCKS_DIFFER_MS = 5_000;

/** A lock names no run. It is this one's when it was taken here, for an apply, while the run was at work: nobody else could take it meanwhile. */
export function isLockOf(
  run: Pick<InfraRun, "apply_started_at" | "ended_at">,
  lock: StateLock,
  host = hostname(),
): boolean {
  const [from, to] = [run.apply_started_at?.getTime(), run.ended_at?.getTime()];
  const at = Date.parse(lock.created);
  if (from === undefined || to === undefined || Number.isNaN(at)) return false;
  const isHere = lock.who.endsWith(`@${host}`) && lock.operation === "OperationTypeApply";
  return isHere && at >= from - CLOCKS_DIFFER_MS && at <= to + CLOCKS_DIFFER_MS;
}

function erroredOf(text: string): Recovery["errored"] {
  const state = parseState(text);
  return { serial: state.serial, resources: resourcesIn(state).size, text };
}

/** The way that loses nothing, given what is known. */
export function adviseRecovery({ errored, unsaved }: Recovery): RecoveryWay {
  if (errored) return "push";
  return unsaved.finished.some(canImport) ? "import" : "accept";
}

const canImport = ({ action, id }: Unsaved["finished"][number]) => action === "create" && id !== undefined;

/**
 * Ends the block. Nothing is applied by it: `import` asks for a run whose plan waits for an approval, and the block ends with that run. `found` are objects
 * that the run had begun, and somebody saw to exist.
 * @throws INFRA_STATE_REFUSED when there is nothing to push or import, or the backend does not take it; INFRA_LOCKED when somebody else holds the state, or
 * the run's Terraform is still at work
 */
export const recover = (
  deps: InfraDeps,
  place: Place,
  way: RecoveryWay,
  actor: string,
  found: readonly Found[] = [],
): Promise<Recovered> => maskErrors(deps.secrets, place.app, () => goOn(deps, place, way, actor, found));

export type Recovered = { runId: string | undefined; start: StartedRun | undefined };

async function goOn(
  deps: InfraDeps,
  place: Place,
  way: RecoveryWay,
  actor: string,
  found: readonly Found[],
): Promise<Recovered> {
  const recovery = await lookAtRecovery(deps, place);
  const { run, lock, workspace } = recovery;
  // Of a run that a bug of ours ended, not Terraform: what it still makes would be missed.
  if ((await deps.terraform.state({ runDir: runDirOf(deps.dir, run.id) }, "apply")) === "running")
    throw stillWorks(place, run);
  if (lock && lock.runId !== run.id) throw lockedBy(place, lock);
  const imports = way === "import" ? importsOf(recovery, found) : [];
  if (way === "push") await pushErrored(deps, place, recovery, actor);
  if (way === "import") await makeRoom(deps, place, recovery, imports, actor);
  if (workspace === undefined) await deps.states.releaseOf(place, run.id);
  else if (lock) await unlockForeign(deps.terraform, workspace, lock.id);
  if (way === "import") {
    const { commit, ref_name: refName, spec, inputs } = run;
    const wanted = { ...place, kind: "apply" as const, commit, refName, actor, spec, inputs, imports };
    // The block stays until this run has succeeded: whatever ran before it would make those objects a second time.
    const { id, start } = await deps.db.transaction().execute((tx) => requestRun(tx, wanted));
    return { runId: id, start };
  }
  const start = await deps.db.transaction().execute(async (tx) => {
    await unblock(tx, place, run.id, HOW[way], actor);
    return startNextRun(tx, place);
  });
  await removeRunDir(deps, run.id);
  return { runId: undefined, start };
}

function stillWorks({ app, environment }: Place, { id }: InfraRun) {
  return fail("INFRA_LOCKED", {
    message: `Terraform of run ${id} is still at work in ${app} ${environment}: what it makes from now on would be missed.`,
    hint: `Wait for its end, then look again: \`shipway infra recover --app ${app} --env ${environment}\`.`,
  });
}

const HOW: Record<Exclude<RecoveryWay, "import">, string> = {
  push: "the state that Terraform had left in errored.tfstate was taken over",
  accept: "somebody looked and found the state right",
};

/** An object that somebody found by looking, of those that were begun and never confirmed. */
export type Found = { address: string; id: string };

/** Terraform imports nothing to an address that its state has: what the run had destroyed there, to make it anew, leaves the state first. */
async function makeRoom(
  deps: InfraDeps,
  place: Place,
  { run, inState, workspace, lock }: Recovery,
  imports: readonly Found[],
  actor: string,
): Promise<void> {
  const gone = imports.flatMap(({ address }) => (inState.has(address) ? [address] : []));
  if (gone.length === 0) return;
  if (workspace) return removeFromState(deps.terraform, workspace, gone, { holdsLock: lock !== undefined });
  const latest = await deps.states.latest(place);
  if (!latest) return;
  const text = withSerial(withoutResources(latest.text, gone), latest.version.serial + 1);
  const reason = `without what run ${run.id} had made anew: ${gone.join(", ")}`;
  await deps.states.put(place, { text, runId: run.id, actor, reason }, { lockOf: run.id });
}

async function pushErrored(
  deps: InfraDeps,
  place: Place,
  { run, errored, workspace, lock }: Recovery,
  actor: string,
): Promise<void> {
  if (!errored) {
    throw fail("INFRA_STATE_REFUSED", {
      message: `Run ${run.id} left no errored.tfstate.`,
      hint: `See what it left: \`shipway infra recover --app ${place.app} --env ${place.environment}\`.`,
    });
  }
  const state = parseState(errored.text);
  if (workspace) {
    // A higher serial than any it may have written: Terraform refuses the same one with another content.
    const text = withSerial(errored.text, state.serial + 1);
    return pushState(deps.terraform, workspace, place, { text, holdsLock: lock !== undefined });
  }
  const latest = await deps.states.latest(place);
  if (latest && latest.version.lineage !== state.lineage) {
    throw fail("INFRA_STATE_REFUSED", {
      message: `The state in errored.tfstate has another lineage (${state.lineage}) than the one that is kept (${latest.version.lineage}): it belongs to something else.`,
      hint: "Compare the two by hand (`shipway infra state show`) before anything is written.",
    });
  }
  // What Terraform had written before it failed may have the serial already.
  const serial = Math.max(state.serial, (latest?.version.serial ?? -1) + 1);
  await deps.states.put(
    place,
    { text: withSerial(errored.text, serial), runId: run.id, actor, reason: "taken over from errored.tfstate" },
    { lockOf: run.id },
  );
}

const withSerial = (text: string, serial: number) => JSON.stringify({ ...JSON.parse(text), serial }, null, 2);

/** @throws INFRA_STATE_REFUSED */
function importsOf({ run, unsaved }: Recovery, found: readonly Found[]): Found[] {
  for (const { address, id } of found) {
    const begun = unsaved.uncertain.find((one) => one.address === address && one.action === "create");
    if (begun && !begun.beside) continue;
    throw fail("INFRA_STATE_REFUSED", {
      message: begun
        ? `${address} is in the state already, and run ${run.id} never said that it destroyed that one: ${id} is one too many.`
        : `${address} is none of what run ${run.id} had begun to create.`,
      hint: begun
        ? `Remove ${id} by hand; the next apply makes it anew. Then recover without naming it.`
        : "`shipway infra recover` lists what it had begun.",
    });
  }
  const made = unsaved.finished.flatMap(({ address, action, id }) =>
    action === "create" && id !== undefined ? [{ address, id }] : [],
  );
  const imports = [...made, ...found];
  if (imports.length > 0) return imports;
  throw fail("INFRA_STATE_REFUSED", {
    message: `Run ${run.id} made nothing that the state lacks, as far as it got to say.`,
    hint: "Look whether what it had begun exists; if so, name it (`shipway infra recover --way import --found ADDRESS=ID`), if not, `--way accept`.",
  });
}
