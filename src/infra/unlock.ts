import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import { findForeignLock, isElsewhere, unlockForeign } from "./foreign-state.ts";
import { maskErrors } from "./mask-errors.ts";
import { type InfraDeps, removeRunDir } from "./run-terraform.ts";
import { findInfra, findLastApply, type InfraRun } from "./runs.ts";
import { describeLock, notThatLock } from "./states.ts";
import { openWorkspace } from "./workspace.ts";

/**
 * Takes the state's lock from somebody who is gone, on the record; also that of a backend of the code's own.
 * @throws INFRA_LOCKED when `lockId` is not that of the lock, or its run is at work
 */
export async function forceUnlock(deps: InfraDeps, place: Place, lockId: string, actor: string): Promise<void> {
  const environment = await findInfra(deps.db, place);
  const lock = environment?.lock ?? undefined;
  if (lock?.id === lockId && lock.runId === environment?.running_run)
    throw stillRuns(place, lock.runId, describeLock(lock, Date.now()));
  const last = lock === undefined ? await findLastApply(deps.db, place) : undefined;
  if (last === undefined || !isElsewhere(last)) {
    await deps.states.forceUnlock(place, lockId, actor);
    return;
  }
  // Whose lock it is cannot be told from outside; while one of ours is at work it may be that one's.
  if (environment?.running_run) throw stillRuns(place, environment.running_run);
  await maskErrors(deps.secrets, place.app, () => unlockElsewhere(deps, place, last, lockId, actor));
}

async function unlockElsewhere(
  deps: InfraDeps,
  place: Place,
  last: InfraRun,
  lockId: string,
  actor: string,
): Promise<void> {
  const run = { ...last, id: newId("u"), imports: [] };
  try {
    const workspace = await openWorkspace(deps, run, () => undefined);
    const held = await findForeignLock(deps.terraform, workspace);
    if (held?.id !== lockId) throw notThatLock(place, lockId, held);
    await unlockForeign(deps.terraform, workspace, lockId);
    await deps.db
      .transaction()
      .execute((tx) =>
        appendEvent(
          tx,
          { ...place, subject: `environment:${place.environment}`, actor },
          { kind: "infra.lockForced", data: { lock: held } },
        ),
      );
  } finally {
    await removeRunDir(deps, run.id);
  }
}

function stillRuns({ app, environment }: Place, runId: string | null, holder?: string) {
  return fail("INFRA_LOCKED", {
    message: `Run ${runId} holds the lock of ${app} ${environment} and is at work${holder === undefined ? "" : ` (${holder})`}: taking it away would cost what it writes.`,
    hint: `Wait for it (\`shipway infra runs ${runId}\`), or stop it: \`shipway infra cancel ${runId}\`.`,
  });
}
