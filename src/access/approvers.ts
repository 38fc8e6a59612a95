import type { Database, Tx } from "../store/open-store.ts";
import type { Role } from "./roles.ts";
import { namesWithRole } from "./tokens.ts";

/** Who may approve what somebody asked for; undefined: others than its authors, unless nobody else has the role. */
export type Approvers = "anyone" | "others" | undefined;

/** A person is the name of a token. `others` are those with the role for it who are no authors. */
export type Judged = { mayApprove: boolean; others: string[] };

/** Where no rule is written, one who is alone with the right to approve may do so: nobody else could, and a team of one must not be locked out. */
export async function judgeApprover(
  db: Database | Tx,
  {
    app,
    authors,
    approvers,
    role = "tester",
  }: { app: string; authors: ReadonlySet<string>; approvers: Approvers; role?: Role },
  actor: string,
): Promise<Judged> {
  const others = (await namesWithRole(db, role, app)).filter((name) => !authors.has(name));
  const mayApprove = approvers === "anyone" || !authors.has(actor) || (approvers === undefined && others.length === 0);
  return { mayApprove, others };
}

/** ` (such as tess, olga)`: whoever could do it instead. */
export const suchAs = (others: readonly string[]): string =>
  others.length === 0 ? ", and nobody else has the role for it" : ` (such as ${others.slice(0, 3).join(", ")})`;
