import { createHash, randomBytes } from "node:crypto";
import type { Identity } from "../access/roles.ts";
import type { Database } from "../store/open-store.ts";
import { isApplying } from "./infra-run.ts";
import type { InfraRun } from "./runs.ts";

/** A password for this run's state, good until the run ends. Only its hash is kept; a step that runs again makes a new one. */
export async function newRunCredential(db: Database, id: string): Promise<string> {
  const password = randomBytes(24).toString("base64url");
  await db
    .updateTable("infra_runs")
    .set({ credential: hashOf(password) })
    .where("id", "=", id)
    .execute();
  return password;
}

export async function findRunByCredential(db: Database, id: string, password: string): Promise<InfraRun | undefined> {
  return db
    .selectFrom("infra_runs")
    .selectAll()
    .where("id", "=", id)
    .where("credential", "=", hashOf(password))
    .where("status", "=", "running")
    .executeTakeFirst();
}

/** Recognisable in a leak scan, and by the mask. */
const RUN_TOKEN = /^shr_(i_[a-z0-9]+)\.([\w-]+)$/;

/** What the run's own Terraform shows our API: its password again, as a bearer token. */
export const runToken = (id: string, password: string): string => `shr_${id}.${password}`;

/**
 * Who asks with a run's token; undefined when it is none, or its run is not at work any more. An apply may do in its app what an operator may, once it has
 * begun: code runs while it plans, too (`data "external"`), and nobody has approved that. Until then, as a plan or a drift check, it may read what a
 * developer may, and change nothing.
 */
export async function findRunIdentity(db: Database, token: string): Promise<Identity | undefined> {
  const [, id, password] = RUN_TOKEN.exec(token) ?? [];
  const run = id && password ? await findRunByCredential(db, id, password) : undefined;
  if (run === undefined) return undefined;
  const mayWrite = isApplying(run.kind) && run.apply_started_at !== null;
  return {
    tokenId: run.id,
    name: `infra run ${run.id}`,
    role: mayWrite ? "operator" : "developer",
    app: run.app,
    run: { mayWrite },
  };
}

const hashOf = (password: string): Buffer => createHash("sha256").update(password).digest();
