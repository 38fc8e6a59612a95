import pLimit from "p-limit";
import { isThere } from "../shared/is-there.ts";
import type { PushedRef } from "./change.ts";
import type { RefCommand } from "./push-request.ts";
import { classifyRef } from "./ref-name.ts";
import { appNotFound, type RepositoryStore } from "./repository-store.ts";

/** What stored ref updates mean: kinds, tags peeled to their commits, rewritten history. In the order given. */
export async function pushedRefs(store: RepositoryStore, app: string, commands: RefCommand[]): Promise<PushedRef[]> {
  const tagIds = commands
    .filter(({ ref }) => ref.startsWith("refs/tags/"))
    .flatMap(({ oldId, newId }) => [oldId, newId].filter((id) => id !== undefined));
  const peeled = await peel(store, app, tagIds);
  const commitOf = new Map(tagIds.map((id, n) => [id, peeled[n]]));
  // One git process per updated branch: few at a time, so that a mirror push does not start hundreds.
  const limit = pLimit(4);
  return Promise.all(commands.map((command) => limit(() => pushedRef(store, app, command, commitOf))));
}

async function pushedRef(
  store: RepositoryStore,
  app: string,
  { ref, oldId, newId }: RefCommand,
  commitOf: Map<string, string | undefined>,
): Promise<PushedRef> {
  const { refKind, refName } = classifyRef(ref);
  if (refKind === "tag") {
    const namesCommit = newId === undefined || commitOf.get(newId) !== undefined;
    return {
      ref,
      refKind: namesCommit ? "tag" : "other",
      refName: namesCommit ? refName : ref,
      oldCommit: oldId && commitOf.get(oldId),
      newCommit: newId && (commitOf.get(newId) ?? newId),
      forced: oldId !== undefined && newId !== undefined,
    };
  }
  const forced = refKind === "branch" && (await isRewritten(store, app, oldId, newId));
  return { ref, refKind, refName, oldCommit: oldId, newCommit: newId, forced };
}

async function isRewritten(store: RepositoryStore, app: string, oldId: string | undefined, newId: string | undefined) {
  if (oldId === undefined || newId === undefined) return false;
  // 128: the old commit is not there any more, so it cannot be an ancestor.
  const okExitCodes = [0, 1, 128];
  const { exitCode } = await store.run(app, ["merge-base", "--is-ancestor", oldId, newId], { okExitCodes });
  return exitCode !== 0;
}

/** Where the refs differ from `recorded` (full name → commit), as the updates that led there. */
export async function unrecordedRefs(
  store: RepositoryStore,
  app: string,
  recorded: Map<string, string>,
): Promise<PushedRef[]> {
  const refs = await listRefs(store, app);
  const commits = await commitsOf(store, app, refs);
  const arrived = [...commits]
    .filter(([ref, commit]) => recorded.get(ref) !== commit)
    .map(([ref]) => ({ ref, oldId: recorded.get(ref), newId: refs.get(ref) }));
  const deleted = [...recorded]
    .filter(([ref]) => classifyRef(ref).refKind !== "other" && !refs.has(ref))
    .map(([ref, commit]) => ({ ref, oldId: commit, newId: undefined }));
  return pushedRefs(store, app, [...arrived, ...deleted]);
}

/** Full ref name → object, not peeled. */
export async function listRefs(
  store: RepositoryStore,
  app: string,
  under = ["refs/heads", "refs/tags"],
): Promise<Map<string, string>> {
  if (!(await isThere(store.dirOf(app)))) throw appNotFound(app);
  const { stdout } = await store.run(app, ["for-each-ref", "--format=%(objectname) %(refname)", ...under]);
  const lines = stdout.toString("utf8").split("\n").filter(Boolean);
  return new Map(lines.map((line) => [line.slice(41), line.slice(0, 40)]));
}

/** Peels the tags among `refs`; a branch points at a commit always. */
export async function commitsOf(
  store: RepositoryStore,
  app: string,
  refs: Map<string, string>,
): Promise<Map<string, string>> {
  const tags = [...refs].filter(([ref]) => ref.startsWith("refs/tags/"));
  const peeled = await peel(
    store,
    app,
    tags.map(([, id]) => id),
  );
  const commits = new Map(refs);
  tags.forEach(([ref], n) => {
    const commit = peeled[n];
    if (commit === undefined) commits.delete(ref);
    else commits.set(ref, commit);
  });
  return commits;
}

/** The commit each object name leads to, in order; undefined where there is none. The names must be free of line breaks. */
export async function peel(store: RepositoryStore, app: string, names: string[]): Promise<(string | undefined)[]> {
  if (names.length === 0) return [];
  if (!(await isThere(store.dirOf(app)))) throw appNotFound(app);
  const input = names.map((name) => `${name}^{commit}\n`).join("");
  const { stdout } = await store.run(app, ["cat-file", "--batch-check=%(objectname) %(objecttype)"], { input });
  const lines = stdout.toString("utf8").split("\n");
  return names.map((_, n) => /^([0-9a-f]{40}) commit$/.exec(lines[n] ?? "")?.[1]);
}
