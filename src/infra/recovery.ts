import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import { ERRORED_STATE, type InfraDeps, removeRunDir } from "./execute-run.ts";
import type { StateLock } from "./infra-run.ts";
import { findUnsaved, type Unsaved } from "./judge-apply.ts";
import { findInfra, getRun, type InfraRun, requestRun, type StartedRun, startNextRun, unblock } from "./runs.ts";
import { parseState, resourcesIn } from "./states.ts";
import { parseStreamLine } from "./terraform-stream.ts";
import { runDirOf } from "./workspace.ts";

export type Recovery = {
  run: InfraRun;
  lock: StateLock | undefined;
  /** The state that Terraform could not save, when it left one. */
  errored: { serial: number; resources: number; text: string } | undefined;
  unsaved: Unsaved;
};

/** `push`: take over errored.tfstate; `import`: plan the import of what the state lacks; `accept`: the state is right as it is. */
export type RecoveryWay = "push" | "import" | "accept";

/** What is known about the run that blocks an environment. @throws INFRA_RUN_NOT_FOUND when nothing is blocked */
export async function findRecovery(deps: InfraDeps, place: Place): Promise<Recovery> {
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
  const latest = await deps.states.latest(place);
  const ids = new Map(
    [...(latest === undefined ? [] : resourcesIn(parseState(latest.text)))].map(([address, { attributes }]) => [
      address,
      typeof attributes.id === "string" ? attributes.id : undefined,
    ]),
  );
  return {
    run,
    lock: await deps.states.findLock(place),
    errored: text === undefined ? undefined : erroredOf(text),
    unsaved: findUnsaved(
      lines.map((line) => parseStreamLine(line).event),
      ids,
    ),
  };
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
 * Ends the block. Nothing is applied by it: `import` asks for a run whose plan waits for an approval.
 * @throws INFRA_STATE_REFUSED when there is nothing to push or import; INFRA_LOCKED when somebody else holds the state
 */
export async function recover(
  deps: InfraDeps,
  place: Place,
  way: RecoveryWay,
  actor: string,
): Promise<{ runId: string | undefined; start: StartedRun | undefined }> {
  const recovery = await findRecovery(deps, place);
  const { run } = recovery;
  if (way === "push") await pushErrored(deps, place, recovery, actor);
  const imports = way === "import" ? importsOf(recovery) : [];
  await deps.states.releaseOf(place, run.id);
  const requested = await deps.db.transaction().execute(async (tx) => {
    await unblock(tx, place, run.id, HOW[way], actor);
    if (imports.length === 0) return { id: undefined, start: await startNextRun(tx, place) };
    const { commit, ref_name: refName, spec, inputs } = run;
    return requestRun(tx, { ...place, kind: "apply", commit, refName, actor, spec, inputs, imports });
  });
  await removeRunDir(deps, run.id);
  return { runId: requested.id, start: requested.start };
}

const HOW: Record<RecoveryWay, string> = {
  push: "the state that Terraform had left in errored.tfstate was taken over",
  import: "what the state lacked is imported by a run of its own",
  accept: "somebody looked and found the state right",
};

async function pushErrored(deps: InfraDeps, place: Place, { run, errored }: Recovery, actor: string): Promise<void> {
  if (!errored) {
    throw fail("INFRA_STATE_REFUSED", {
      message: `Run ${run.id} left no errored.tfstate.`,
      hint: `See what it left: \`shipway infra recover --app ${place.app} --env ${place.environment}\`.`,
    });
  }
  const latest = await deps.states.latest(place);
  const state = parseState(errored.text);
  if (latest && latest.version.lineage !== state.lineage) {
    throw fail("INFRA_STATE_REFUSED", {
      message: `The state in errored.tfstate has another lineage (${state.lineage}) than the one that is kept (${latest.version.lineage}): it belongs to something else.`,
      hint: "Compare the two by hand (`shipway infra state show`) before anything is written.",
    });
  }
  // What Terraform had written before it failed may have the serial already.
  const serial = Math.max(state.serial, (latest?.version.serial ?? -1) + 1);
  const text = JSON.stringify({ ...JSON.parse(errored.text), serial }, null, 2);
  await deps.states.put(
    place,
    { text, runId: run.id, actor, reason: "taken over from errored.tfstate" },
    { lockOf: run.id },
  );
}

function importsOf({ run, unsaved }: Recovery): { address: string; id: string }[] {
  const imports = unsaved.finished.flatMap(({ address, action, id }) =>
    action === "create" && id !== undefined ? [{ address, id }] : [],
  );
  if (imports.length > 0) return imports;
  throw fail("INFRA_STATE_REFUSED", {
    message: `Run ${run.id} made nothing that the state lacks, as far as it got to say.`,
    hint: "Look at what it had begun, then say that the state is right: `shipway infra recover --way accept`.",
  });
}
