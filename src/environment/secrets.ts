import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { appendEvent } from "../events/event-stream.ts";
import { SHORTEST_MASKED } from "../events/mask-secrets.ts";
import type { Place } from "../rollout/release.ts";
import { fail, hasCode } from "../shared/errors.ts";
import { Secret } from "../shared/secret.ts";
import type { Database } from "../store/open-store.ts";
import type { Sealer } from "./sealing.ts";

export type SecretSummary = { name: string; version: number; updatedAt: Date };

/** Secrets of environments: versioned, sealed, never returned by the API. */
export type Secrets = {
  /** Setting the value that is there already makes no new version. */
  set(place: Place, name: string, value: string, actor: string): Promise<SecretSummary>;
  list(place: Place): Promise<SecretSummary[]>;
  /** @throws NOT_FOUND */
  get(place: Place, name: string): Promise<SecretSummary>;
  remove(place: Place, name: string, actor: string): Promise<void>;
  /**
   * The values tasks get: the versions given, else the newest ones.
   * @throws SECRET_MISSING naming all that are not set.
   */
  resolve(
    place: Place,
    names: string[],
    versions?: Record<string, number>,
  ): Promise<{ values: Record<string, Secret>; versions: Record<string, number> }>;
  /** A password Shipway made itself and keeps, such as a backing service's. Repeating it gives the same. */
  internal(place: Place, name: string): Promise<Secret>;
  /** Every value of the place, for masking. */
  all(place: Place): Promise<Secret[]>;
  /** Every value of an app, in whatever environment: what is built and tested belongs to none of them yet. */
  allOfApp(app: string): Promise<Secret[]>;
};

export function newSecrets(db: Database, sealer: Sealer): Secrets {
  const contextOf = (place: Place, name: string, version: number) =>
    `${place.app}/${place.environment}/${name}/${version}`;

  const rowsOf = (place: Place) =>
    db
      .selectFrom("secrets")
      .selectAll()
      .where("app", "=", place.app)
      .where("environment", "=", place.environment)
      .where("removed_at", "is", null);

  const open = (place: Place, row: { name: string; version: number; sealed: Buffer }) =>
    new Secret(row.name, sealer.open(row.sealed, contextOf(place, row.name, row.version)));

  /** False also for what does not open: a new version is the cure for a key that was lost. */
  function holds(place: Place, row: { name: string; version: number; sealed: Buffer }, value: string): boolean {
    try {
      return isEqual(open(place, row).reveal(), value);
    } catch (error) {
      if (hasCode(error, "SECRET_KEY_WRONG")) return false;
      throw error;
    }
  }

  async function insert(
    place: Place,
    name: string,
    value: string,
    internal: boolean,
    actor: string,
  ): Promise<SecretSummary> {
    return db.transaction().execute(async (tx) => {
      // The lock makes version numbers gapless under concurrent writers.
      await tx.selectFrom("apps").select("name").where("name", "=", place.app).forUpdate().execute();
      const last = await tx
        .selectFrom("secrets")
        .selectAll()
        .where("app", "=", place.app)
        .where("environment", "=", place.environment)
        .where("name", "=", name)
        .orderBy("version", "desc")
        .limit(1)
        .executeTakeFirst();
      if (last && !internal && last.removed_at === null && holds(place, last, value)) return toSummary(last);
      const version = (last?.version ?? 0) + 1;
      const sealed = sealer.seal(value, contextOf(place, name, version));
      const row = await tx
        .insertInto("secrets")
        .values({ app: place.app, environment: place.environment, name, version, sealed, internal, removed_at: null })
        .returning(["name", "version", "created_at"])
        .executeTakeFirstOrThrow();
      if (!internal)
        await appendEvent(
          tx,
          { ...place, subject: `secret:${name}`, actor },
          { kind: "secret.set", data: { name, version } },
        );
      return toSummary(row);
    });
  }

  return {
    async set(place, name, value, actor) {
      if (value.length >= SHORTEST_MASKED) return insert(place, name, value, false, actor);
      throw fail("REQUEST_INVALID", {
        message: `The value of ${name} is shorter than ${SHORTEST_MASKED} characters: it could not be masked in logs without blanking ordinary words.`,
        hint: "Use a longer value, or put it in `env:` of shipway.yml if it is no secret.",
      });
    },

    async get(place, name) {
      const row = await rowsOf(place)
        .where("name", "=", name)
        .where("internal", "=", false)
        .orderBy("version", "desc")
        .limit(1)
        .executeTakeFirst();
      if (row) return toSummary(row);
      throw notFound(place, name);
    },

    async list(place) {
      const rows = await rowsOf(place)
        .where("internal", "=", false)
        .orderBy("name")
        .orderBy("version", "desc")
        .execute();
      const newest = rows.filter((row, index) => rows.findIndex((other) => other.name === row.name) === index);
      return newest.map(toSummary);
    },

    async remove(place, name, actor) {
      await db.transaction().execute(async (tx) => {
        const removed = await tx
          .updateTable("secrets")
          .set({ removed_at: new Date() })
          .where("app", "=", place.app)
          .where("environment", "=", place.environment)
          .where("name", "=", name)
          .where("internal", "=", false)
          .where("removed_at", "is", null)
          .returning("version")
          .execute();
        if (removed.length === 0) throw notFound(place, name);
        const version = Math.max(...removed.map((row) => row.version));
        await appendEvent(
          tx,
          { ...place, subject: `secret:${name}`, actor },
          { kind: "secret.removed", data: { name, version } },
        );
      });
    },

    async resolve(place, names, versions = {}) {
      const rows =
        names.length === 0 ? [] : await rowsOf(place).where("name", "in", names).orderBy("version", "desc").execute();
      const chosen = names.map(
        (name) =>
          [
            name,
            rows.find((row) => row.name === name && (versions[name] === undefined || row.version === versions[name])) ??
              rows.find((row) => row.name === name),
          ] as const,
      );
      const missing = chosen.filter(([, row]) => row === undefined).map(([name]) => name);
      if (missing.length > 0) {
        throw fail("SECRET_MISSING", {
          message: `${place.app} declares secrets that ${place.environment} does not have: ${missing.join(", ")}.`,
          hint: [
            `Set ${missing.length === 1 ? "it" : "them"}, then deploy again:`,
            ...missing.map((name) => `  shipway secret set ${name} --app ${place.app} --env ${place.environment}`),
            `  shipway deploy --app ${place.app} --env ${place.environment}`,
          ].join("\n"),
        });
      }
      const values: Record<string, Secret> = {};
      const used: Record<string, number> = {};
      for (const [name, row] of chosen) {
        if (!row) continue;
        values[name] = open(place, row);
        used[name] = row.version;
      }
      return { values, versions: used };
    },

    async internal(place, name) {
      // Two writers may have inserted: the lowest version is the one both use, then and ever after.
      const find = () =>
        rowsOf(place).where("name", "=", name).where("internal", "=", true).orderBy("version").executeTakeFirst();
      const found = await find();
      if (found) return open(place, found);
      await insert(place, name, randomBytes(18).toString("base64url"), true, "shipway");
      const first = await find();
      if (!first) throw new Error(`the password ${name} of ${place.app} vanished`);
      return open(place, first);
    },

    async all(place) {
      return (await rowsOf(place).execute()).map((row) => open(place, row));
    },

    async allOfApp(app) {
      const rows = await db
        .selectFrom("secrets")
        .selectAll()
        .where("app", "=", app)
        .where("removed_at", "is", null)
        .execute();
      return rows.map((row) => open(row, row));
    },
  };
}

const toSummary = (row: { name: string; version: number; created_at: Date }): SecretSummary => ({
  name: row.name,
  version: row.version,
  updatedAt: row.created_at,
});

/** In a time that tells nothing of either; hashes are of one length. */
function isEqual(one: string, other: string): boolean {
  const [a, b] = [one, other].map((text) => createHash("sha256").update(text).digest());
  return a !== undefined && b !== undefined && timingSafeEqual(a, b);
}

function notFound(place: Place, name: string) {
  return fail("NOT_FOUND", {
    message: `${place.app} has no secret ${name} in ${place.environment}.`,
    hint: "List them with `shipway secret list`.",
  });
}
