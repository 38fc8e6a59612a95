import { randomUUID } from "node:crypto";
import { access, mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import pLimit from "p-limit";
import { fail } from "../shared/errors.ts";
import type { PushedRef } from "./change.ts";
import { type GitCommand, gitCommand } from "./git-command.ts";
import { Name } from "./name.ts";
import type { RefCommand } from "./push-request.ts";
import { classifyRef, isCommitId, isRefName, isRepositoryPath } from "./ref-name.ts";

export type CommitDescription = {
  commit: string;
  subject: string;
  /** The message without its first paragraph. */
  body: string;
  author: { name: string; email: string };
  /** Milliseconds since 1970. */
  authoredAt: number;
  committedAt: number;
};

/** The hosted repositories: one bare git repository per app, `DIR/APP.git`. */
export type Repositories = {
  /** Makes the repository of an app. Where it exists already, only its settings are brought up to date. @throws REQUEST_INVALID */
  create(app: string): Promise<void>;
  exists(app: string): Promise<boolean>;
  /** Where the repository lies; nothing is checked but the name. @throws APP_NOT_FOUND for what cannot be an app's name */
  dirOf(app: string): string;
  /**
   * A file of a commit as text; undefined when there is none. Symbolic links inside the repository are followed.
   * @throws REQUEST_INVALID when it is larger than `maxBytes` (default 1 MiB), COMMIT_NOT_FOUND
   */
  readFile(app: string, commit: string, path: string, maxBytes?: number): Promise<string | undefined>;
  /** The commit of a branch, a tag, a full ref or a commit id (at least 4 digits), looked up in this order. @throws COMMIT_NOT_FOUND */
  resolveCommit(app: string, refOrCommit: string): Promise<string>;
  /** @throws COMMIT_NOT_FOUND */
  describe(app: string, commit: string): Promise<CommitDescription>;
  /** Full names of branches and tags → commit. Tags that name no commit are left out. */
  refs(app: string): Promise<Map<string, string>>;
  /** Ref updates that git stored, with tags peeled to their commits and rewritten history found. */
  pushedRefs(app: string, commands: RefCommand[]): Promise<PushedRef[]>;
  /** Those of `commands` that the refs show as stored now; for when git did not get to say so. */
  storedCommands(app: string, commands: RefCommand[]): Promise<RefCommand[]>;
  /** Makes a branch the default one where the default (`main` at first) does not exist, so that a clone checks something out. */
  settleDefaultBranch(app: string): Promise<void>;
  /**
   * What differs between the refs and what was recorded of them (full ref name → commit): pushes that were stored but,
   * because of a crash in between, never recorded. Call it at start for every app.
   */
  unrecordedRefs(app: string, recorded: Map<string, string>): Promise<PushedRef[]>;
  /**
   * Packs what is loose when there is enough of it, and clears what killed git processes left behind.
   * Call it at start and every hour or so: a push never does it.
   */
  maintain(app: string): Promise<void>;
  /** Repeating it is a no-op. */
  remove(app: string): Promise<void>;
  /** The git program these repositories are served with. */
  git: GitCommand;
};

// What nobody has written to for this long was left by a process that was killed: git cleans up when its input ends, but
// not on a signal (seen with 2.39). An upload writes all the time, and a lock is held for moments.
const STALE_MS = 3_600_000;
const STALE_LOCK_MS = 600_000;

const DEFAULT_SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin";

/** `searchPath` is the PATH in which git is found. */
export function gitRepositories(options: { dir: string; searchPath?: string }): Repositories {
  const root = resolve(options.dir);
  const git = gitCommand(options.searchPath ?? DEFAULT_SEARCH_PATH);
  const dirOf = (app: string) => join(root, `${checkedName(app)}.git`);
  const store: Store = {
    root,
    git,
    dirOf,
    run: (app, args, runOptions) => git.run([`--git-dir=${dirOf(app)}`, ...args], runOptions),
  };
  return {
    git,
    dirOf,
    create: (app) => createRepository(store, app),
    exists: async (app) => Name.safeParse(app).success && (await isThere(join(dirOf(app), "HEAD"))),
    readFile: (app, commit, path, maxBytes = 1024 * 1024) => readFileAt(store, app, commit, path, maxBytes),
    resolveCommit: (app, refOrCommit) => resolveCommit(store, app, refOrCommit),
    describe: (app, commit) => describeCommit(store, app, commit),
    refs: async (app) => commitsOf(store, app, await listRefs(store, app)),
    pushedRefs: (app, commands) => pushedRefs(store, app, commands),
    storedCommands: async (app, commands) => {
      const now = await listRefs(store, app, []);
      return commands.filter(({ ref, oldId, newId }) => now.get(ref) === newId && oldId !== newId);
    },
    settleDefaultBranch: (app) => settleDefaultBranch(store, app),
    unrecordedRefs: (app, recorded) => unrecordedRefs(store, app, recorded),
    maintain: (app) => maintain(store, app),
    remove: (app) => removeRepository(store, app),
  };
}

type Store = {
  root: string;
  git: GitCommand;
  dirOf(app: string): string;
  run(app: string, args: string[], options?: Parameters<GitCommand["run"]>[1]): ReturnType<GitCommand["run"]>;
};

function checkedName(app: string): string {
  if (Name.safeParse(app).success) return app;
  throw fail("APP_NOT_FOUND", {
    message: `${JSON.stringify(app.slice(0, 60))} cannot be the name of an app.`,
    hint: "List your apps with `shipway apps`.",
  });
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

// --- making and removing

async function createRepository(store: Store, app: string): Promise<void> {
  const name = Name.safeParse(app);
  if (!name.success) {
    throw fail("REQUEST_INVALID", {
      message: `${JSON.stringify(app.slice(0, 60))} cannot be the name of an app.`,
      hint: "Use 1 to 30 lower-case letters, digits and dashes, starting with a letter.",
    });
  }
  const dir = store.dirOf(app);
  if (await isThere(join(dir, "HEAD"))) return writeSettings(dir);
  await mkdir(store.root, { recursive: true });
  const beside = join(store.root, `.new-${app}-${randomUUID()}`);
  try {
    // No template: sample hooks would only be in the way.
    await store.git.run(["init", "--quiet", "--bare", "--template=", "--initial-branch=main", beside]);
    await writeSettings(beside);
    await rename(beside, dir).catch((error) => ignoreWhenThere(error, dir));
  } finally {
    await rm(beside, { recursive: true, force: true });
  }
}

/** Two creations at once: the other one's repository is as good as ours. */
async function ignoreWhenThere(error: unknown, dir: string): Promise<void> {
  if (!(await isThere(join(dir, "HEAD")))) throw error;
}

const SETTINGS = `# Written by Shipway; changes are overwritten.
[core]
	repositoryformatversion = 0
	filemode = true
	bare = true
	# Who moved which ref when, kept for 90 days: a branch that was overwritten by force can be found again.
	logAllRefUpdates = always
	# Refs too reach the disk before a push is confirmed.
	fsync = committed
	# Larger files stream through git instead of lying in memory.
	bigFileThreshold = 32m
[http]
	receivepack = true
	uploadpack = true
	getanyfile = false
[receive]
	advertisePushOptions = true
	fsckObjects = true
	# Packs are stored as they come: a small commit with a huge file does not have to fit in memory.
	unpackLimit = 1
	# A push never waits for housekeeping; see Repositories.maintain.
	autogc = false
	# Refs that would change what other commits read as, or that belong to the platform.
	hideRefs = refs/replace
	hideRefs = refs/shipway
[receive "fsck"]
	# Flaws of old tools, harmless and found in many an honest history; every other one is refused.
	badTimezone = ignore
	missingSpaceBeforeDate = ignore
	zeroPaddedFilemode = ignore
[uploadpack]
	allowFilter = true
[gc]
	autoDetach = false
	# Commits that no branch has any more stay readable this long: a release may have been built from one.
	cruftPacks = true
	pruneExpire = 3.months.ago
`;

async function writeSettings(dir: string): Promise<void> {
  const beside = join(dir, `config.${randomUUID()}`);
  await writeFile(beside, SETTINGS);
  await rename(beside, join(dir, "config"));
}

async function removeRepository(store: Store, app: string): Promise<void> {
  const gone = join(store.root, `.gone-${app}-${randomUUID()}`);
  try {
    await rename(store.dirOf(app), gone);
  } catch (error) {
    if (isMissing(error)) return;
    throw error;
  }
  await rm(gone, { recursive: true, force: true });
}

function isMissing(error: unknown): boolean {
  return typeof error === "object" && error !== null && "code" in error && error.code === "ENOENT";
}

// --- reading

async function readFileAt(store: Store, app: string, commit: string, path: string, maxBytes: number) {
  if (!(await isThere(store.dirOf(app)))) throw appNotFound(app);
  if (!isCommitId(commit)) throw commitNotFound(app, commit);
  if (!isRepositoryPath(path)) return undefined;
  const input = `${commit}:${path}\n`;
  // The header line repeats the name, so it may be longer than the file.
  const options = { input, maxBytes: maxBytes + 8_192 };
  const { stdout } = await store.run(app, ["cat-file", "--batch", "--follow-symlinks"], options);
  const header = stdout.subarray(0, Math.max(0, stdout.indexOf("\n"))).toString("utf8");
  const blob = /^[0-9a-f]{40} blob (\d+)$/.exec(header);
  if (!blob) {
    if ((await peel(store, app, [commit]))[0] === undefined) throw commitNotFound(app, commit);
    return undefined;
  }
  const bytes = Number(blob[1]);
  if (bytes > maxBytes) throw fileTooLarge(path, bytes, maxBytes);
  const start = header.length + 1;
  return stdout.toString("utf8", start, start + bytes);
}

function fileTooLarge(path: string, bytes: number, maxBytes: number) {
  return fail("REQUEST_INVALID", {
    message: `${path} has ${bytes} bytes, more than the ${maxBytes} that are read.`,
    hint: `Make ${path} smaller.`,
  });
}

async function resolveCommit(store: Store, app: string, text: string): Promise<string> {
  if (!isRefName(text)) throw commitNotFound(app, text);
  const refs = text.startsWith("refs/") ? [text] : [`refs/heads/${text}`, `refs/tags/${text}`];
  const candidates = /^[0-9a-f]{4,40}$/.test(text) ? [...refs, text] : refs;
  const found = (await peel(store, app, candidates)).find((commit) => commit !== undefined);
  if (found === undefined) throw commitNotFound(app, text);
  return found;
}

function commitNotFound(app: string, text: string) {
  return fail("COMMIT_NOT_FOUND", {
    message: `App ${app} has no commit, branch or tag ${JSON.stringify(text.slice(0, 100))}.`,
    hint: "Push it first, or check its name with `git ls-remote`.",
  });
}

async function describeCommit(store: Store, app: string, commit: string): Promise<CommitDescription> {
  const id = await resolveCommit(store, app, commit);
  const format = ["%H", "%an", "%ae", "%at", "%ct", "%s", "%b"].join("%x00");
  const { stdout } = await store.run(app, ["log", "-1", `--format=${format}`, "--end-of-options", id, "--"]);
  const [hash = id, name = "", email = "", authored, committed, subject = "", body = ""] = stdout
    .toString("utf8")
    .split("\0");
  return {
    commit: hash,
    subject,
    body: body.trim(),
    author: { name, email },
    authoredAt: Number(authored) * 1_000,
    committedAt: Number(committed) * 1_000,
  };
}

/** The commit each object name leads to, in order; undefined where there is none. The names must be free of line breaks. */
async function peel(store: Store, app: string, names: string[]): Promise<(string | undefined)[]> {
  if (names.length === 0) return [];
  if (!(await isThere(store.dirOf(app)))) throw appNotFound(app);
  const input = names.map((name) => `${name}^{commit}\n`).join("");
  const { stdout } = await store.run(app, ["cat-file", "--batch-check=%(objectname) %(objecttype)"], { input });
  const lines = stdout.toString("utf8").split("\n");
  return names.map((_, n) => /^([0-9a-f]{40}) commit$/.exec(lines[n] ?? "")?.[1]);
}

function appNotFound(app: string) {
  return fail("APP_NOT_FOUND", {
    message: `There is no app ${app} here.`,
    hint: `Create it: \`shipway app create ${app}\`.`,
  });
}

/** Full ref name → object, not peeled. */
async function listRefs(store: Store, app: string, under = ["refs/heads", "refs/tags"]): Promise<Map<string, string>> {
  if (!(await isThere(store.dirOf(app)))) throw appNotFound(app);
  const { stdout } = await store.run(app, ["for-each-ref", "--format=%(objectname) %(refname)", ...under]);
  const lines = stdout.toString("utf8").split("\n").filter(Boolean);
  return new Map(lines.map((line) => [line.slice(41), line.slice(0, 40)]));
}

/** Peels the tags among `refs`; a branch points at a commit always. */
async function commitsOf(store: Store, app: string, refs: Map<string, string>): Promise<Map<string, string>> {
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

// --- what a push changed

async function pushedRefs(store: Store, app: string, commands: RefCommand[]): Promise<PushedRef[]> {
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
  store: Store,
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

async function isRewritten(store: Store, app: string, oldId: string | undefined, newId: string | undefined) {
  if (oldId === undefined || newId === undefined) return false;
  // 128: the old commit is not there any more, so it cannot be an ancestor.
  const okExitCodes = [0, 1, 128];
  const { exitCode } = await store.run(app, ["merge-base", "--is-ancestor", oldId, newId], { okExitCodes });
  return exitCode !== 0;
}

async function unrecordedRefs(store: Store, app: string, recorded: Map<string, string>): Promise<PushedRef[]> {
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

async function settleDefaultBranch(store: Store, app: string): Promise<void> {
  const branches = [...(await listRefs(store, app, ["refs/heads"])).keys()];
  const { stdout } = await store.run(app, ["symbolic-ref", "HEAD"]);
  if (branches.includes(stdout.toString("utf8").trim())) return;
  const best = branches.find((ref) => ref === "refs/heads/master") ?? branches[0];
  if (best !== undefined) await store.run(app, ["symbolic-ref", "HEAD", best]);
}

// --- housekeeping

async function maintain(store: Store, app: string): Promise<void> {
  await removeOlder(store.root, /^\.(new|gone)-/, STALE_MS);
  const dir = store.dirOf(app);
  await removeOlder(join(dir, "objects"), /^(tmp_objdir-)?incoming-/, STALE_MS);
  // A lock left by a killed git refuses every later push to its ref.
  await removeOlder(dir, /^(packed-refs|HEAD|config|shallow)\.lock$/, STALE_LOCK_MS);
  await removeOlder(join(dir, "refs"), /\.lock$/, STALE_LOCK_MS, { recursive: true });
  await settleDefaultBranch(store, app);
  await store.run(app, ["gc", "--auto", "--quiet"]);
}

async function removeOlder(dir: string, name: RegExp, ageMs: number, options = { recursive: false }): Promise<void> {
  const entries = await readdir(dir, { withFileTypes: true, ...options }).catch((error) => {
    if (isMissing(error)) return [];
    throw error;
  });
  for (const entry of entries.filter((candidate) => name.test(candidate.name))) {
    const path = join(entry.parentPath, entry.name);
    if (Date.now() - (await lastWrittenAt(path)) > ageMs) await rm(path, { recursive: true, force: true });
  }
}

/** When `path`, or for a directory anything in it, was last written. What vanishes meanwhile counts as written now. */
async function lastWrittenAt(path: string): Promise<number> {
  const inside = await readdir(path, { recursive: true }).catch(() => []);
  const times = [path, ...inside.map((name) => join(path, name))].map((each) =>
    stat(each).then(
      ({ mtimeMs }) => mtimeMs,
      () => Date.now(),
    ),
  );
  return Math.max(...(await Promise.all(times)));
}
