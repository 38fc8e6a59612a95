import type { Place } from "../rollout/release.ts";
import type { Database } from "../store/open-store.ts";

/**
 * What a rollout wrote into an object that Terraform manages, too: a service's task definition, the weights of a listener rule. Terraform sees it as drift;
 * it is ours as long as it is what was written last.
 */
export type RolloutWrite = {
  /** Terraform's type of the object, such as `aws_ecs_service`. */
  type: string;
  /** Its id or ARN. */
  object: string;
  /** The attribute, list indexes left out: `task_definition`, `action.forward.target_group.weight`. */
  path: string;
  /** In a list or set, which element is meant, by its other attributes: `{ arn: … }`. Empty where there is only one. */
  among: Record<string, string>;
  value: unknown;
};

export type WrittenValue = RolloutWrite & {
  /** What was written there before; undefined for the first. */
  previous: unknown;
  writtenAt: Date;
};

/** While a rollout is at work, an object may still have what the one before it wrote. */
const PREVIOUS_IS_OURS_FOR_MS = 15 * 60_000;

/** One attribute as it is found, in its place in the whole object. */
export type FoundAttribute = { type: string; object: unknown; path: string };

/** Whether a rollout put there what is there. Anything else on the same attribute is not ours. */
export function isOurs(writes: readonly WrittenValue[], { type, object, path }: FoundAttribute, now: number): boolean {
  const steps = path.split(/\.|(?=\[)/).filter((step) => step !== "");
  const plainPath = steps.filter((step) => !step.startsWith("[")).join(".");
  const ids = [valueAt(object, "id"), valueAt(object, "arn")];
  const around = steps.slice(0, -1).reduce(stepInto, object);
  const value = stepInto(around, steps.at(-1) ?? "");
  return writes.some((write) => {
    if (write.type !== type || write.path !== plainPath || !ids.includes(write.object)) return false;
    if (Object.entries(write.among).some(([name, wanted]) => valueAt(around, name) !== wanted)) return false;
    const isRecent = now - write.writtenAt.getTime() < PREVIOUS_IS_OURS_FOR_MS;
    return isSame(write.value, value) || (isRecent && write.previous !== undefined && isSame(write.previous, value));
  });
}

const stepInto = (value: unknown, step: string): unknown => valueAt(value, step.replace(/^\[|\]$/g, ""));

function valueAt(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
}

const isSame = (left: unknown, right: unknown): boolean => JSON.stringify(left) === JSON.stringify(right);

/**
 * Keeps what a rollout is about to write. Called before the write, so that a check in between finds it; repeating it is a no-op.
 */
export async function recordWrite(db: Database, place: Place, write: RolloutWrite): Promise<void> {
  const { type, object, path } = write;
  const among = JSON.stringify(Object.fromEntries(Object.entries(write.among).sort(([a], [b]) => (a < b ? -1 : 1))));
  const value = JSON.stringify(write.value ?? null);
  await db
    .insertInto("rollout_writes")
    .values({ ...place, type, object, path, among, value, previous: null, written_at: new Date() })
    .onConflict((conflict) =>
      conflict
        .columns(["app", "environment", "type", "object", "path", "among"])
        .doUpdateSet((row) => ({ value, previous: row.ref("rollout_writes.value"), written_at: new Date() }))
        .where("rollout_writes.value", "!=", value),
    )
    .execute();
}

export async function findWrites(db: Database, place: Place): Promise<WrittenValue[]> {
  const rows = await db
    .selectFrom("rollout_writes")
    .selectAll()
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .execute();
  return rows.map(({ type, object, path, among, value, previous, written_at: writtenAt }) => ({
    type,
    object,
    path,
    among: JSON.parse(among) as Record<string, string>,
    value: JSON.parse(value) as unknown,
    previous: previous === null ? undefined : (JSON.parse(previous) as unknown),
    writtenAt,
  }));
}
