import { randomUUID } from "node:crypto";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fail } from "../shared/errors.ts";
import { isThere } from "../shared/is-there.ts";
import type { PushedRef } from "./change.ts";
import { findCommit } from "./find-commit.ts";
import { type GitCommand, gitCommand } from "./git-command.ts";
import { maintainRepository, settleDefaultBranch } from "./maintain-repository.ts";
import { Name } from "./name.ts";
import type { RefCommand } from "./push-request.ts";
import { commitsOf, listRefs, peel, pushedRefs, unrecordedRefs } from "./pushed-refs.ts";
import { isCommitId, isRepositoryPath } from "./ref-name.ts";
import { appNotFound, isMissing, type RepositoryStore } from "./repository-store.ts";

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
  /** Short name of the default branch; it may have no commit yet. */
  defaultBranch(app: string): Promise<string>;
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

const DEFAULT_SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin";

/** `searchPath` is the PATH in which git is found. */
export function gitRepositories(options: { dir: string; searchPath?: string }): Repositories {
  const root = resolve(options.dir);
  const git = gitCommand(options.searchPath ?? DEFAULT_SEARCH_PATH);
  const dirOf = (app: string) => join(root, `${checkedName(app)}.git`);
  const store: RepositoryStore = {
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
    defaultBranch: async (app) =>
      (await store.run(app, ["symbolic-ref", "--short", "HEAD"])).stdout.toString("utf8").trim(),
    settleDefaultBranch: (app) => settleDefaultBranch(store, app),
    unrecordedRefs: (app, recorded) => unrecordedRefs(store, app, recorded),
    maintain: (app) => maintainRepository(store, app),
    remove: (app) => removeRepository(store, app),
  };
}

function checkedName(app: string): string {
  if (Name.safeParse(app).success) return app;
  throw fail("APP_NOT_FOUND", {
    message: `${JSON.stringify(app.slice(0, 60))} cannot be the name of an app.`,
    hint: "List your apps with `shipway apps`.",
  });
}

// --- making and removing

async function createRepository(store: RepositoryStore, app: string): Promise<void> {
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

async function removeRepository(store: RepositoryStore, app: string): Promise<void> {
  const gone = join(store.root, `.gone-${app}-${randomUUID()}`);
  try {
    await rename(store.dirOf(app), gone);
  } catch (error) {
    if (isMissing(error)) return;
    throw error;
  }
  await rm(gone, { recursive: true, force: true });
}

// --- reading

async function readFileAt(store: RepositoryStore, app: string, commit: string, path: string, maxBytes: number) {
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

async function resolveCommit(store: RepositoryStore, app: string, text: string): Promise<string> {
  const found = await findCommit(store, app, text);
  if (found === undefined) throw commitNotFound(app, text);
  return found;
}

function commitNotFound(app: string, text: string) {
  return fail("COMMIT_NOT_FOUND", {
    message: `App ${app} has no commit, branch or tag ${JSON.stringify(text.slice(0, 100))}.`,
    hint: "Push it first, or check its name with `git ls-remote`.",
  });
}

async function describeCommit(store: RepositoryStore, app: string, commit: string): Promise<CommitDescription> {
  // Whoever waits for a push waits for each git process: a whole id needs none to be resolved.
  const id = isCommitId(commit) ? `${commit}^{commit}` : await resolveCommit(store, app, commit);
  const format = ["%H", "%an", "%ae", "%at", "%ct", "%s", "%b"].join("%x00");
  const args = ["log", "-1", `--format=${format}`, "--end-of-options", id, "--"];
  const { stdout, exitCode } = await store.run(app, args, { okExitCodes: [0, 128] });
  if (exitCode !== 0) {
    await resolveCommit(store, app, commit);
    throw fail("GIT_FAILED", { message: `git cannot read the commit ${commit} of ${app}.` });
  }
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
