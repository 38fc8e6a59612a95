import { type DeclaredBacking, frameOf, listDeclaredBacking } from "../environment/declared-backing.ts";
import { appendEvent } from "../events/event-stream.ts";
import { makeDriftDue } from "../infra/drift-reports.ts";
import { findInfra } from "../infra/runs.ts";
import type { Place } from "../rollout/release.ts";
import type { ObservedBacking } from "../rollout/target.ts";
import type { Database } from "../store/open-store.ts";
import { type BackingDeps, backingOf } from "./backings.ts";

/**
 * Looks at every backing service declared through the API. One that was removed, stopped or changed by hand is not mended (Docker itself starts again what
 * crashed): it is drift. That is told once, and the environment's drift check does not wait for its turn.
 */
export async function watchBacking(deps: BackingDeps, report: (error: unknown) => void): Promise<void> {
  for (const { place, declared } of byPlace(await listDeclaredBacking(deps.db))) {
    await watchPlace(deps, place, declared).catch(report);
  }
}

function byPlace(all: DeclaredBacking[]): { place: Place; declared: DeclaredBacking[] }[] {
  const places = new Map<string, { place: Place; declared: DeclaredBacking[] }>();
  for (const one of all) {
    const { app, environment } = one;
    const known = places.get(`${app}/${environment}`) ?? { place: { app, environment }, declared: [] };
    places.set(`${app}/${environment}`, { ...known, declared: [...known.declared, one] });
  }
  return [...places.values()];
}

async function watchPlace(deps: BackingDeps, place: Place, declared: DeclaredBacking[]): Promise<void> {
  // Whoever changes things there now starts what is missing, or is about to remove it.
  if (await isChanging(deps, place)) return;
  const { declared: backing } = await backingOf(deps, place, { backing: {} });
  const observed = await deps.target.observeBacking(place, backing);
  for (const one of observed) {
    const before = declared.find(({ name }) => name === one.name);
    if (before === undefined) continue;
    const drift = driftOf(one);
    if (drift !== before.drift) await record(deps, before, drift);
  }
}

async function isChanging({ db }: BackingDeps, place: Place): Promise<boolean> {
  const row = await db
    .selectFrom("environments")
    .select(["running_deployment", "teardown"])
    .where("app", "=", place.app)
    .where("name", "=", place.environment)
    .executeTakeFirst();
  if (row?.running_deployment || row?.teardown) return true;
  return Boolean((await findInfra(db, place))?.running_run);
}

/** What is not as it was declared, in words; undefined while it is. One that starts is given its time. */
function driftOf({ name, state, isChanged, version }: ObservedBacking): string | undefined {
  if (state === "missing") return `the container of ${name} is gone`;
  if (isChanged) return `the container of ${name} was made from other settings (version ${version})`;
  return state === "stopped" ? `the container of ${name} was stopped, paused or taken off its network` : undefined;
}

async function record({ db }: BackingDeps, before: DeclaredBacking, drift: string | undefined): Promise<void> {
  const { app, environment, name } = before;
  const place = { app, environment };
  const declaredIn = before.runId === undefined ? undefined : await findRunPlace(db, before.runId);
  await db.transaction().execute(async (tx) => {
    const updated = await tx
      .updateTable("declared_backing")
      .set({ drift: drift ?? null })
      .where("app", "=", app)
      .where("environment", "=", environment)
      .where("name", "=", name)
      // Another control plane may have told it meanwhile.
      .where("drift", before.drift === undefined ? "is" : "=", before.drift ?? null)
      .executeTakeFirst();
    if (updated.numUpdatedRows === 0n || drift === undefined) return;
    await makeDriftDue(tx, [place, ...(declaredIn ? [declaredIn] : [])]);
    // Last: it holds the stream of events, for which whoever has one of those environments may be waiting.
    await appendEvent(tx, frameOf(place, name, "shipway"), { kind: "backing.drifted", data: { name, text: drift } });
  });
}

/** Terraform of one environment may declare what is in another. */
const findRunPlace = (db: Database, id: string): Promise<Place | undefined> =>
  db.selectFrom("infra_runs").select(["app", "environment"]).where("id", "=", id).executeTakeFirst();
