import {
  type Declarer,
  declareBacking,
  forgetBacking,
  getDeclaredBacking,
  listDeclaredBacking,
  noBacking,
} from "../environment/declared-backing.ts";
import type { Secrets } from "../environment/secrets.ts";
import type { Place } from "../rollout/release.ts";
import type { Backing, KeptData, ObservedBacking, RolloutTarget } from "../rollout/target.ts";
import { fail } from "../shared/errors.ts";
import { newKeyedLock } from "../shared/keyed-lock.ts";
import type { BackingSpec, EnvironmentSpec } from "../spec/app-spec.ts";
import { RESERVED_NAMES } from "../spec/check-spec.ts";
import type { Database } from "../store/open-store.ts";

export type BackingDeps = { db: Database; secrets: Secrets; target: RolloutTarget };

/** A declared backing service with what is really there of it. */
export type BackingStatus = ObservedBacking & { engine: BackingSpec["engine"] };

/** Backing services declared through the API. They are there as soon as they are declared, before any deployment. */
export type Backings = {
  list(place: Place): Promise<BackingStatus[]>;
  /** @throws NOT_FOUND */
  get(place: Place, name: string): Promise<BackingStatus>;
  /**
   * Declares it and returns when it answers a query. Repeating it mends what is missing, over the data that were kept.
   * @throws BACKING_REFUSED, BACKING_UNHEALTHY, IMAGE_UNAVAILABLE
   */
  put(place: Place, name: string, spec: BackingSpec, by: Declarer): Promise<BackingStatus>;
  /** Its data go only where asked, also when it is declared no more. @throws NOT_FOUND */
  remove(place: Place, name: string, data: KeptData, actor: string): Promise<void>;
};

export function newBackings(deps: BackingDeps): Backings {
  const { db, target } = deps;
  // Declaring and removing the same one at once would leave a container that nobody declares.
  const lock = newKeyedLock();
  const keyOf = ({ app, environment }: Place, name: string) => `${app}/${environment}/${name}`;

  async function statusOf(place: Place, name: string): Promise<BackingStatus> {
    const { spec } = await getDeclaredBacking(db, place, name);
    const [observed] = await target.observeBacking(place, [await withPassword(deps, place, name, spec)]);
    if (observed === undefined) throw new Error(`nothing was said of ${name}`);
    return { ...observed, engine: spec.engine };
  }

  return {
    async list(place) {
      const declared = await listDeclaredBacking(db, place);
      return Promise.all(declared.map(({ name }) => statusOf(place, name)));
    },

    get: statusOf,

    put: (place, name, spec, by) =>
      lock(keyOf(place, name), async () => {
        await requireFreeName(db, place.app, name);
        const isNew = await declareBacking(db, place, name, spec, by);
        const backing = await withPassword(deps, place, name, spec);
        try {
          await target.ensureBacking(place, [backing], () => undefined);
        } catch (error) {
          if (isNew) await takeBack(deps, place, backing, by.actor);
          throw error;
        }
        return statusOf(place, name);
      }),

    remove: (place, name, data, actor) =>
      lock(keyOf(place, name), async () => {
        const wasDeclared = (await listDeclaredBacking(db, place)).some((one) => one.name === name);
        // The container first: what is declared and missing can be seen and removed again, the other way round it could not.
        const isKept = data === "remove" && !wasDeclared && !(await isInShipwayYml(db, place, name));
        const wasThere = (wasDeclared || isKept) && (await target.removeBacking(place, name, data));
        await forgetBacking(db, place, name, actor);
        if (!wasDeclared && !wasThere) throw noBacking(place, name);
      }),
  };
}

/** A first declaration that came to nothing (no image, no Docker) leaves nothing declared. A container that only is not ready yet stays. */
async function takeBack({ db, target }: BackingDeps, place: Place, backing: Backing, actor: string): Promise<void> {
  const [observed] = await target.observeBacking(place, [backing]).catch(() => []);
  if (observed === undefined || observed.state === "missing") await forgetBacking(db, place, backing.name, actor);
}

/** @throws BACKING_REFUSED when a service of the newest release has that name */
async function requireFreeName(db: Database, app: string, name: string): Promise<void> {
  const newest = await db
    .selectFrom("releases")
    .select("spec")
    .where("app", "=", app)
    .orderBy("number", "desc")
    .limit(1)
    .executeTakeFirst();
  const isService = newest !== undefined && Object.hasOwn(newest.spec.services, name);
  if (!isService && !RESERVED_NAMES.includes(name)) return;
  throw fail("BACKING_REFUSED", {
    message: `${name} is the name of ${isService ? `a service of ${app}` : "something of Shipway's own"}: both would answer under it.`,
    hint: "Choose another name.",
  });
}

/** Whether what runs there has a backing service of that name of its own: its data are not for this to remove. */
async function isInShipwayYml(db: Database, place: Place, name: string): Promise<boolean> {
  const rows = await db
    .selectFrom("releases")
    .innerJoin("environments", "environments.app", "releases.app")
    .select("releases.spec")
    .where("environments.app", "=", place.app)
    .where("environments.name", "=", place.environment)
    .where((eb) =>
      eb.or([
        eb("releases.number", "=", eb.ref("environments.live_release")),
        eb("releases.number", "=", eb.ref("environments.standby_release")),
      ]),
    )
    .execute();
  return rows.some(({ spec }) => Object.hasOwn(spec.backing, name));
}

async function withPassword(
  { secrets }: Pick<BackingDeps, "secrets">,
  place: Place,
  name: string,
  spec: BackingSpec,
): Promise<Backing> {
  return { name, spec, password: await secrets.internal(place, `backing-${name}`) };
}

/** All backing services of an environment. */
export type EnvironmentBacking = {
  /** Those of shipway.yml: kept running by the reconcile loop. */
  own: Backing[];
  /** Those declared through the API: one that was removed by hand is drift, to be seen before it is mended. */
  declared: Backing[];
  all: Backing[];
  /** Names that both declare: the API's holds. */
  overruled: string[];
};

/** The backing services of an environment, each with the password that it keeps for ever. */
export async function backingOf(
  deps: Pick<BackingDeps, "db" | "secrets">,
  { app, environment }: Place,
  spec: Pick<EnvironmentSpec, "backing">,
): Promise<EnvironmentBacking> {
  const place = { app, environment };
  const outside = await listDeclaredBacking(deps.db, place);
  const isDeclared = (name: string) => outside.some((one) => one.name === name);
  const names = Object.entries(spec.backing);
  const [own, declared] = await Promise.all([
    Promise.all(
      names.filter(([name]) => !isDeclared(name)).map(([name, declared]) => withPassword(deps, place, name, declared)),
    ),
    Promise.all(outside.map((one) => withPassword(deps, place, one.name, one.spec))),
  ]);
  return {
    own,
    declared,
    all: [...own, ...declared],
    overruled: names.map(([name]) => name).filter(isDeclared),
  };
}
