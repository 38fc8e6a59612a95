import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { appendEvent } from "../events/event-stream.ts";
import { SHORTEST_MASKED } from "../events/mask-secrets.ts";
import type { Place } from "../rollout/release.ts";
import { fail, hasCode } from "../shared/errors.ts";
import { Secret } from "../shared/secret.ts";
import type { Database } from "../store/open-store.ts";
import type { Sealer } from "./sealing.ts";
import { columnsOf, flagsOf, forWhom, frameOf, refuseOurs, type ValueScope, whereOf } from "./value-scope.ts";

export type SecretSummary = { name: string; version: number; updatedAt: Date };

/** Secrets of environments and of pipelines: versioned, sealed, never returned by the API. */
export type Secrets = {
  /** Setting the value that is there already makes no new version. */
  set(scope: ValueScope, name: string, value: string, actor: string): Promise<SecretSummary>;
  list(scope: ValueScope): Promise<SecretSummary[]>;
  /** @throws NOT_FOUND */
  get(scope: ValueScope, name: string): Promise<SecretSummary>;
  remove(scope: ValueScope, name: string, actor: string): Promise<void>;
  /**
   * The values tasks get: the versions given, else the newest ones.
   * @throws SECRET_MISSING naming all that are not set.
   */
  resolve(
    place: Place,
    names: string[],
    versions?: Record<string, number>,
  ): Promise<{ values: Record<string, Secret>; versions: Record<string, number> }>;
  /** Exactly these versions, also of secrets that were removed since. */
  exact(scope: ValueScope, versions: Record<string, number>): Promise<Record<string, Secret>>;
  /** A password Shipway made itself and keeps, such as a backing service's. Repeating it gives the same. */
  internal(place: Place, name: string): Promise<Secret>;
  /** Every value of the place, for masking. */
  all(place: Place): Promise<Secret[]>;
  /** Every value of an app, of whatever environment and of its pipelines: what is built and tested belongs to none of them yet. */
  allOfApp(app: string): Promise<Secret[]>;
};

export function newSecrets(db: Database, sealer: Sealer): Secrets {
  const everRowsOf = (scope: ValueScope) => {
    const { app, environment, pipelines } = columnsOf(scope);
    return db
      .selectFrom("secrets")
      .selectAll()
      .where("app", "=", app)
      .where("environment", "=", environment)
      .where("pipelines", "=", pipelines);
  };
  const rowsOf = (scope: ValueScope) => everRowsOf(scope).where("removed_at", "is", null);

  const open = (row: SealedRow) => new Secret(row.name, sealer.open(row.sealed, contextOf(row)));

  /** False also for what does not open: a new version is the cure for a key that was lost. */
  function holds(row: SealedRow, value: string): boolean {
    try {
      return isEqual(open(row).reveal(), value);
    } catch (error) {
      if (hasCode(error, "SECRET_KEY_WRONG")) return false;
      throw error;
    }
  }

  async function insert(
    scope: ValueScope,
    name: string,
    value: string,
    internal: boolean,
    actor: string,
  ): Promise<SecretSummary> {
    return db.transaction().execute(async (tx) => {
      // The lock makes version numbers gapless under concurrent writers.
      const columns = columnsOf(scope);
      await tx.selectFrom("apps").select("name").where("name", "=", columns.app).forUpdate().execute();
      const last = await tx
        .selectFrom("secrets")
        .selectAll()
        .where("app", "=", columns.app)
        .where("environment", "=", columns.environment)
        .where("pipelines", "=", columns.pipelines)
        .where("name", "=", name)
        .orderBy("version", "desc")
        .limit(1)
        .executeTakeFirst();
      if (last && !internal && last.removed_at === null && holds(last, value)) return toSummary(last);
      const version = (last?.version ?? 0) + 1;
      const sealed = sealer.seal(value, contextOf({ ...columns, name, version }));
      const row = await tx
        .insertInto("secrets")
        .values({ ...columns, name, version, sealed, internal, removed_at: null })
        .returning(["name", "version", "created_at"])
        .executeTakeFirstOrThrow();
      if (!internal)
        await appendEvent(
          tx,
          { ...frameOf(scope), subject: `secret:${name}`, actor },
          { kind: "secret.set", data: { name, version, ...forWhom(scope) } },
        );
      return toSummary(row);
    });
  }

  return {
    async set(scope, name, value, actor) {
      refuseOurs(scope, name);
      if (value.length >= SHORTEST_MASKED) return insert(scope, name, value, false, actor);
      throw fail("REQUEST_INVALID", {
        message: `The value of ${name} is shorter than ${SHORTEST_MASKED} characters: it could not be masked in logs without blanking ordinary words.`,
        hint: scope.pipelines
          ? `Use a longer value, or a variable if it is no secret: \`shipway var set ${name}=VALUE ${flagsOf(scope)}\`.`
          : "Use a longer value, or put it in `env:` of shipway.yml if it is no secret.",
      });
    },

    async get(scope, name) {
      const row = await rowsOf(scope)
        .where("name", "=", name)
        .where("internal", "=", false)
        .orderBy("version", "desc")
        .limit(1)
        .executeTakeFirst();
      if (row) return toSummary(row);
      throw notFound(scope, name);
    },

    async list(scope) {
      const rows = await rowsOf(scope)
        .where("internal", "=", false)
        .orderBy("name")
        .orderBy("version", "desc")
        .execute();
      const newest = rows.filter((row, index) => rows.findIndex((other) => other.name === row.name) === index);
      return newest.map(toSummary);
    },

    async remove(scope, name, actor) {
      const { app, environment, pipelines } = columnsOf(scope);
      await db.transaction().execute(async (tx) => {
        const removed = await tx
          .updateTable("secrets")
          .set({ removed_at: new Date() })
          .where("app", "=", app)
          .where("environment", "=", environment)
          .where("pipelines", "=", pipelines)
          .where("name", "=", name)
          .where("internal", "=", false)
          .where("removed_at", "is", null)
          .returning("version")
          .execute();
        if (removed.length === 0) throw notFound(scope, name);
        const version = Math.max(...removed.map((row) => row.version));
        await appendEvent(
          tx,
          { ...frameOf(scope), subject: `secret:${name}`, actor },
          { kind: "secret.removed", data: { name, version, ...forWhom(scope) } },
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
        values[name] = open(row);
        used[name] = row.version;
      }
      return { values, versions: used };
    },

    async exact(scope, versions) {
      const rows = (await everRowsOf(scope).execute()).filter((row) => versions[row.name] === row.version);
      return Object.fromEntries(rows.map((row) => [row.name, open(row)]));
    },

    async internal(place, name) {
      // Two writers may have inserted: the lowest version is the one both use, then and ever after.
      const find = () =>
        rowsOf(place).where("name", "=", name).where("internal", "=", true).orderBy("version").executeTakeFirst();
      const found = await find();
      if (found) return open(found);
      await insert(place, name, randomBytes(18).toString("base64url"), true, "shipway");
      const first = await find();
      if (!first) throw new Error(`the password ${name} of ${place.app} vanished`);
      return open(first);
    },

    async all(place) {
      return (await rowsOf(place).execute()).map(open);
    },

    async allOfApp(app) {
      const rows = await db
        .selectFrom("secrets")
        .selectAll()
        .where("app", "=", app)
        .where("removed_at", "is", null)
        .execute();
      return rows.map(open);
    },
  };
}

type SealedRow = ReturnType<typeof columnsOf> & { name: string; version: number; sealed: Buffer };

/** No two rows have one: names of environments have no colon. */
const contextOf = ({ app, environment, pipelines, name, version }: Omit<SealedRow, "sealed">): string =>
  `${app}/${pipelines ? "pipelines:" : ""}${environment}/${name}/${version}`;

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

function notFound(scope: ValueScope, name: string) {
  return fail("NOT_FOUND", {
    message: `${scope.app} has no secret ${name} ${whereOf(scope)}.`,
    hint: `List them with \`shipway secret list ${flagsOf(scope)}\`.`,
  });
}
