import { z } from "zod";
import type { Sealer } from "../environment/sealing.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import { formatDurationMs } from "../shared/duration.ts";
import { fail } from "../shared/errors.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { StateLock } from "./infra-run.ts";

/** Serial and lineage alone are required: the rest of a state that OpenTofu encrypted cannot be read. */
export const StateFile = z.looseObject({
  serial: z.int().min(0),
  lineage: z.string(),
  resources: z
    .array(
      z.looseObject({
        module: z.string().optional(),
        mode: z.string(),
        type: z.string(),
        name: z.string(),
        instances: z
          .array(
            z.looseObject({
              index_key: z.union([z.string(), z.number()]).optional(),
              deposed: z.string().optional(),
              attributes: z.record(z.string(), z.unknown()).nullish(),
              sensitive_attributes: z.array(z.unknown()).optional(),
            }),
          )
          .default([]),
      }),
    )
    .optional(),
  outputs: z
    .record(z.string(), z.looseObject({ value: z.unknown().optional(), sensitive: z.boolean().optional() }))
    .optional(),
});
export type StateFile = z.infer<typeof StateFile>;

export type StateVersion = {
  version: number;
  serial: number;
  lineage: string;
  resources: number;
  runId: string | null;
  actor: string;
  reason: string;
  createdAt: Date;
};

export type NewState = { text: string; runId: string | null; actor: string; reason: string };

/** The states of environments: every version kept, sealed, written only under the lock. */
export type States = {
  latest(place: Place): Promise<{ text: string; version: StateVersion } | undefined>;
  list(place: Place, limit: number): Promise<StateVersion[]>;
  /** @throws INFRA_STATE_NOT_FOUND */
  get(place: Place, version: number): Promise<{ text: string; version: StateVersion }>;
  latestVersion(place: Place): Promise<number>;
  findLock(place: Place): Promise<StateLock | undefined>;
  /** Takes the lock; returns the one that holds it when that is another. Repeating it with the same id is a no-op. */
  lock(place: Place, wanted: StateLock): Promise<StateLock | undefined>;
  /** Gives the lock back; returns the holder when that is another. Of a state that is not locked it is a no-op. */
  unlock(place: Place, id: string): Promise<StateLock | undefined>;
  /** What a run left locked, when its process is known to be gone. */
  releaseOf(place: Place, runId: string): Promise<void>;
  /** Takes a lock from its holder, on the record. @throws INFRA_LOCKED when `id` is not that of the lock */
  forceUnlock(place: Place, id: string, actor: string): Promise<StateLock>;
  /** Writes a version. @throws INFRA_STATE_REFUSED when `lockId` does not hold the state, or the text is no state */
  write(place: Place, lockId: string, state: NewState): Promise<StateVersion>;
  /** Writes a version on the platform's own behalf, while nobody holds the state. @throws INFRA_LOCKED, INFRA_STATE_REFUSED */
  put(place: Place, state: NewState, options?: { expectedVersion?: number; lockOf?: string }): Promise<StateVersion>;
  /** The text of an earlier version becomes a new one, with a higher serial: saved plans are stale by that. @throws INFRA_LOCKED, INFRA_STATE_NOT_FOUND */
  restore(place: Place, version: number, actor: string): Promise<StateVersion>;
};

export function newStates(db: Database, sealer: Sealer): States {
  const contextOf = (place: Place, version: number) => `infra-state/${place.app}/${place.environment}/${version}`;
  const versionsOf = (place: Place, on: Database | Tx = db) =>
    on
      .selectFrom("infra_states")
      .selectAll()
      .where("app", "=", place.app)
      .where("environment", "=", place.environment)
      .orderBy("version", "desc");
  type Row = Awaited<ReturnType<ReturnType<typeof versionsOf>["executeTakeFirstOrThrow"]>>;
  const opened = (place: Place, row: Row) => ({
    text: sealer.open(row.sealed, contextOf(place, row.version)),
    version: toVersion(row),
  });

  async function insert(tx: Tx, place: Place, { text, ...from }: NewState): Promise<StateVersion> {
    const state = parseState(text);
    const last = await versionsOf(place, tx).executeTakeFirst();
    const version = (last?.version ?? 0) + 1;
    const row = await tx
      .insertInto("infra_states")
      .values({
        app: place.app,
        environment: place.environment,
        version,
        serial: state.serial,
        lineage: state.lineage,
        resources: resourcesIn(state).size,
        sealed: sealer.seal(text, contextOf(place, version)),
        run_id: from.runId,
        actor: from.actor,
        reason: from.reason,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    return toVersion(row);
  }

  /** Holds the environment's row, so that lock and version cannot change in between. */
  const exclusively = <T>(place: Place, work: (tx: Tx, lock: StateLock | undefined) => Promise<T>): Promise<T> =>
    db.transaction().execute(async (tx) => {
      await tx
        .insertInto("infra_environments")
        .values({ ...newEnvironment(place) })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      const row = await tx
        .selectFrom("infra_environments")
        .select("lock")
        .where("app", "=", place.app)
        .where("environment", "=", place.environment)
        .forUpdate()
        .executeTakeFirstOrThrow();
      return work(tx, row.lock ?? undefined);
    });
  const setLock = (tx: Tx, place: Place, lock: StateLock | undefined) =>
    tx
      .updateTable("infra_environments")
      .set({ lock: JSON.stringify(lock ?? null) })
      .where("app", "=", place.app)
      .where("environment", "=", place.environment)
      .execute();

  return {
    async latest(place) {
      const row = await versionsOf(place).executeTakeFirst();
      return row && opened(place, row);
    },
    list: async (place, limit) => (await versionsOf(place).limit(limit).execute()).map(toVersion),
    async get(place, version) {
      const row = await versionsOf(place).where("version", "=", version).executeTakeFirst();
      if (row) return opened(place, row);
      throw fail("INFRA_STATE_NOT_FOUND", {
        message: `${place.app} has no version ${version} of the state of ${place.environment}.`,
        hint: `List them with \`shipway infra state list --app ${place.app} --env ${place.environment}\`.`,
      });
    },
    latestVersion: async (place) => (await versionsOf(place).executeTakeFirst())?.version ?? 0,
    async findLock(place) {
      const row = await db
        .selectFrom("infra_environments")
        .select("lock")
        .where("app", "=", place.app)
        .where("environment", "=", place.environment)
        .executeTakeFirst();
      return row?.lock ?? undefined;
    },
    lock: (place, wanted) =>
      exclusively(place, async (tx, held) => {
        if (held) return held.id === wanted.id && held.runId === wanted.runId ? undefined : held;
        await setLock(tx, place, wanted);
        return undefined;
      }),
    unlock: (place, id) =>
      exclusively(place, async (tx, held) => {
        if (held === undefined) return undefined;
        if (held.id !== id) return held;
        await setLock(tx, place, undefined);
        return undefined;
      }),
    releaseOf: (place, runId) =>
      exclusively(place, async (tx, held) => {
        if (held?.runId === runId) await setLock(tx, place, undefined);
      }),
    forceUnlock: (place, id, actor) =>
      exclusively(place, async (tx, held) => {
        if (held?.id !== id) throw notThatLock(place, id, held);
        await setLock(tx, place, undefined);
        await appendEvent(
          tx,
          { ...place, subject: `environment:${place.environment}`, actor },
          { kind: "infra.lockForced", data: { lock: held } },
        );
        return held;
      }),
    write: (place, lockId, state) =>
      exclusively(place, async (tx, held) => {
        if (held?.id === lockId) return insert(tx, place, state);
        throw fail("INFRA_STATE_REFUSED", {
          message: `The state of ${place.app} ${place.environment} was not written: the lock ${lockId} does not hold it${held === undefined ? "" : ` (${describeLock(held, Date.now())} does)`}.`,
          hint: "Terraform keeps what it could not write in errored.tfstate; `shipway infra recover` takes it from there.",
        });
      }),
    put: (place, state, { expectedVersion, lockOf } = {}) =>
      exclusively(place, async (tx, held) => {
        if (held && held.runId !== lockOf) throw lockedBy(place, held);
        const last = (await versionsOf(place, tx).executeTakeFirst())?.version ?? 0;
        if (expectedVersion !== undefined && last !== expectedVersion) {
          throw fail("INFRA_STATE_REFUSED", {
            message: `The state of ${place.app} ${place.environment} is at version ${last} by now, no longer at ${expectedVersion}.`,
            hint: "Look at what changed (`shipway infra state list`), then try again.",
          });
        }
        return insert(tx, place, state);
      }),
    restore: (place, version, actor) =>
      exclusively(place, async (tx, held) => {
        if (held) throw lockedBy(place, held);
        const row = await versionsOf(place, tx).where("version", "=", version).executeTakeFirst();
        const last = await versionsOf(place, tx).executeTakeFirst();
        if (!row || !last) {
          throw fail("INFRA_STATE_NOT_FOUND", {
            message: `${place.app} has no version ${version} of the state of ${place.environment}.`,
            hint: `List them with \`shipway infra state list --app ${place.app} --env ${place.environment}\`.`,
          });
        }
        const { text } = opened(place, row);
        const restored = { ...JSON.parse(text), serial: last.serial + 1 };
        const saved = await insert(tx, place, {
          text: JSON.stringify(restored, null, 2),
          runId: null,
          actor,
          reason: `restored from version ${version}`,
        });
        await appendEvent(
          tx,
          { ...place, subject: `environment:${place.environment}`, actor },
          { kind: "infra.stateRestored", data: { from: version, version: saved.version } },
        );
        return saved;
      }),
  };
}

export const newEnvironment = (place: Place) => ({
  app: place.app,
  environment: place.environment,
  running_run: null,
  blocked_by: null,
  applied_run: null,
  applied_commit: null,
  applied_inputs: null,
  applied_spec: "null",
  outputs: null,
  lock: "null",
  drift: "null",
  drift_at: null,
});

const toVersion = (row: {
  version: number;
  serial: number;
  lineage: string;
  resources: number;
  run_id: string | null;
  actor: string;
  reason: string;
  created_at: Date;
}): StateVersion => ({
  version: row.version,
  serial: row.serial,
  lineage: row.lineage,
  resources: row.resources,
  runId: row.run_id,
  actor: row.actor,
  reason: row.reason,
  createdAt: row.created_at,
});

/** @throws INFRA_STATE_REFUSED */
export function parseState(text: string): StateFile {
  let input: unknown;
  try {
    input = JSON.parse(text);
  } catch {
    input = undefined;
  }
  const parsed = StateFile.safeParse(input);
  if (parsed.success) return parsed.data;
  throw fail("INFRA_STATE_REFUSED", {
    message: "This is no Terraform state: it has no serial and lineage, or is no JSON.",
    hint: "Nothing was written. Restore an earlier version with `shipway infra state restore`.",
    cause: parsed.error,
  });
}

/** The state without these objects. */
export function withoutResources(text: string, addresses: readonly string[]): string {
  const state = parseState(text);
  const resources = (state.resources ?? []).map((resource) => ({
    ...resource,
    instances: resource.instances.filter(
      ({ index_key: index, deposed }) =>
        resource.mode !== "managed" || deposed !== undefined || !addresses.includes(addressOf(resource, index)),
    ),
  }));
  return JSON.stringify({ ...state, resources: resources.filter(({ instances }) => instances.length > 0) }, null, 2);
}

function addressOf(
  { module, type, name }: { module?: string | undefined; type: string; name: string },
  index: string | number | undefined,
): string {
  const key = index === undefined ? "" : `[${JSON.stringify(index)}]`;
  return `${module === undefined ? "" : `${module}.`}${type}.${name}${key}`;
}

export type StateResource = { attributes: Record<string, unknown>; sensitive: unknown };

/** Managed objects of a state by their address. */
export function resourcesIn(state: StateFile): Map<string, StateResource> {
  const found = new Map<string, StateResource>();
  for (const { module, mode, type, name, instances } of state.resources ?? []) {
    if (mode !== "managed") continue;
    for (const { index_key: index, deposed, attributes, sensitive_attributes: paths } of instances) {
      const address = addressOf({ module, type, name }, index);
      // A replacement that was not finished: the one that is to be destroyed stands beside the one that is.
      found.set(deposed === undefined ? address : `${address} (deposed ${deposed})`, {
        attributes: attributes ?? {},
        sensitive: sensitiveTree(paths ?? []),
      });
    }
  }
  return found;
}

/** The `id` of each object by its address; undefined for one that has none. */
export function idsIn(text: string | undefined): Map<string, string | undefined> {
  const resources = text === undefined ? [] : [...resourcesIn(parseState(text))];
  return new Map(
    resources.map(([address, { attributes }]) => [
      address,
      typeof attributes.id === "string" ? attributes.id : undefined,
    ]),
  );
}

const Step = z.object({ value: z.union([z.string(), z.number()]) });

/** Terraform lists sensitive attributes as paths (`[[{type, value}]]`); as a tree they mark what they cover. */
function sensitiveTree(paths: readonly unknown[]): unknown {
  const tree: Record<string, unknown> = {};
  for (const path of paths) {
    // Only the first step is kept: hiding a whole attribute is safer than guessing at the shape of the rest.
    const first = Step.safeParse(Array.isArray(path) ? path[0] : undefined);
    if (first.success) tree[String(first.data.value)] = true;
  }
  return tree;
}

/** `apply of run i_7c1m, asked for by ada, as root@vm, for 4 min 3 s`. */
export function describeLock({ operation, who, created, runId, actor }: StateLock, now: number): string {
  const heldMs = now - Date.parse(created);
  const work = operation.replace(/^OperationType/, "").toLowerCase() || "lock";
  return [
    `${work}${runId === null ? "" : ` of run ${runId}`}`,
    ...(actor === undefined ? [] : [`asked for by ${actor}`]),
    `as ${who}`,
    Number.isFinite(heldMs) ? `for ${formatDurationMs(Math.max(0, heldMs))}` : `since ${created}`,
  ].join(", ");
}

export function lockedBy(place: Place, lock: StateLock) {
  const look = lock.runId === null ? `of ${lock.who}` : `\`shipway infra runs ${lock.runId}\``;
  return fail("INFRA_LOCKED", {
    message: `The state of ${place.app} ${place.environment} is locked: ${describeLock(lock, Date.now())}.`,
    hint: `Wait for it (${look}). If it is gone for good: \`shipway infra unlock ${lock.id} --app ${place.app} --env ${place.environment}\`.`,
  });
}

export function notThatLock(place: Place, id: string, held: StateLock | undefined) {
  return fail("INFRA_LOCKED", {
    message:
      held === undefined
        ? `The state of ${place.app} ${place.environment} is not locked.`
        : `The lock of ${place.app} ${place.environment} is ${held.id}, not ${id}: ${describeLock(held, Date.now())}.`,
    hint: "Look at it once more with `shipway infra state list`; it names the lock that holds now.",
  });
}

/** Removing an app would lose the state of what still exists, and with it the only list of it. @throws APP_BUSY */
export async function requireNothingBuilt(db: Database, app: string): Promise<void> {
  const rows = await db
    .selectFrom("infra_states")
    .distinctOn("environment")
    .select(["environment", "resources"])
    .where("app", "=", app)
    .orderBy("environment")
    .orderBy("version", "desc")
    .execute();
  const built = rows.filter(({ resources }) => resources > 0);
  if (built.length === 0) return;
  throw fail("APP_BUSY", {
    message: `${app} still has infrastructure: ${built.map(({ environment, resources }) => `${resources} resources in ${environment}`).join(", ")}.`,
    hint: `Remove ${built.length === 1 ? "that environment" : "those environments"} with it first: ${built.map(({ environment }) => `\`shipway env remove ${environment} --app ${app} --infra destroy\``).join(", ")}. Then remove the app.`,
  });
}
