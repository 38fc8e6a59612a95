import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fail } from "../shared/errors.ts";
import { isThere } from "../shared/is-there.ts";
import { newKeyedLock } from "../shared/keyed-lock.ts";
import { findCommit } from "./find-commit.ts";
import type { GitCommand } from "./git-command.ts";
import { removeOlder, removeStaleLocks, STALE_MS } from "./maintain-repository.ts";
import { peel } from "./pushed-refs.ts";
import { isRefName } from "./ref-name.ts";
import { type Remote, type RemoteGitOptions, runRemoteGit } from "./remote-git.ts";
import type { RepositoryStore } from "./repository-store.ts";

/**
 * Bare mirrors of repositories elsewhere, one per app and address, so that a credential of one app opens nothing to another. What was fetched stays
 * readable when the other side is away.
 */
export type Mirrors = {
  /** Where the mirror lies, whether or not anything was fetched yet. */
  dirOf(app: string, url: string): string;
  /** Whether a commit was fetched already. */
  has(app: string, url: string, commit: string): Promise<boolean>;
  /**
   * The newest commit of a branch or tag (default: the other side's default branch), fetched now.
   * @throws INFRA_REPOSITORY_UNREACHABLE, INFRA_REPOSITORY_REFUSED, COMMIT_NOT_FOUND, GIT_FAILED
   */
  resolve(app: string, remote: Remote, ref: string | undefined): Promise<{ commit: string; refName: string }>;
  /** Fetches only when the commit is not here. @throws as `resolve` */
  ensure(app: string, remote: Remote, commit: string): Promise<void>;
  /** Packs what many small fetches have left, and clears what a creation that was cut off has. */
  maintain(app: string): Promise<void>;
  /** Everything that was fetched for an app. Repeating it is a no-op. */
  remove(app: string): Promise<void>;
};

const REFSPECS = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/** `app` must be a valid name: it becomes a folder. */
export function gitMirrors(options: { dir: string; git: GitCommand; remote?: RemoteGitOptions }): Mirrors {
  const root = resolve(options.dir);
  const { git } = options;
  const keyOf = (app: string, url: string) => join(app, createHash("sha256").update(url).digest("hex").slice(0, 32));
  const dirOfKey = (key: string) => join(root, `${key}.git`);
  const store: RepositoryStore = {
    root,
    git,
    dirOf: dirOfKey,
    run: (key, args, runOptions) => git.run([`--git-dir=${dirOfKey(key)}`, ...args], runOptions),
  };
  // Two fetches into one repository would stand in each other's way.
  const inTurn = newKeyedLock();
  const fetch = async (key: string, remote: Remote, refspecs: readonly string[]): Promise<void> => {
    const dir = dirOfKey(key);
    await createMirror(store, key);
    await removeStaleLocks(dir);
    const args = ["fetch", "--quiet", "--prune", "--no-tags", "--no-recurse-submodules", "--", remote.url, ...refspecs];
    await runRemoteGit(git, remote, [`--git-dir=${dir}`, ...args], options.remote);
  };

  return {
    dirOf: (app, url) => dirOfKey(keyOf(app, url)),

    has: (app, url, commit) => hasCommit(store, keyOf(app, url), commit),

    resolve(app, remote, ref) {
      const key = keyOf(app, remote.url);
      return inTurn(key, async () => {
        if (ref !== undefined && !isRefName(ref)) throw refNotFound(remote, ref);
        const refName = ref ?? (await defaultBranch(git, remote, options.remote));
        await fetch(key, remote, REFSPECS);
        const commit = await findCommit(store, key, refName);
        if (commit === undefined) throw refNotFound(remote, refName);
        return { commit, refName };
      });
    },

    ensure(app, remote, commit) {
      const key = keyOf(app, remote.url);
      return inTurn(key, async () => {
        if (await hasCommit(store, key, commit)) return;
        await fetch(key, remote, REFSPECS);
        // A branch that was rewritten since does not bring it; many hosts give a commit by its id all the same.
        if (!(await hasCommit(store, key, commit))) await fetch(key, remote, [commit]).catch(() => undefined);
        if (!(await hasCommit(store, key, commit))) throw refNotFound(remote, commit);
      });
    },

    async maintain(app) {
      await removeOlder(join(root, app), /\.git\.[0-9a-f-]{36}$/, STALE_MS);
      const names = await readdir(join(root, app)).catch(() => []);
      for (const name of names.filter((one) => /^[0-9a-f]{32}\.git$/.test(one))) {
        const key = join(app, name.slice(0, -".git".length));
        await inTurn(key, () => store.run(key, ["gc", "--auto", "--quiet"]));
      }
    },

    remove: (app) => rm(join(root, app), { recursive: true, force: true }),
  };
}

async function createMirror(store: RepositoryStore, key: string): Promise<void> {
  const dir = store.dirOf(key);
  if (await isThere(join(dir, "HEAD"))) return;
  const beside = `${dir}.${randomUUID()}`;
  await mkdir(join(dir, ".."), { recursive: true, mode: 0o700 });
  try {
    await store.git.run(["init", "--quiet", "--bare", "--template=", beside]);
    await rename(beside, dir);
  } finally {
    await rm(beside, { recursive: true, force: true });
  }
}

async function hasCommit(store: RepositoryStore, key: string, commit: string): Promise<boolean> {
  if (!(await isThere(store.dirOf(key)))) return false;
  return (await peel(store, key, [commit]))[0] !== undefined;
}

async function defaultBranch(git: GitCommand, remote: Remote, options: RemoteGitOptions | undefined): Promise<string> {
  const text = await runRemoteGit(git, remote, ["ls-remote", "--symref", "--", remote.url, "HEAD"], options);
  const branch = /^ref: refs\/heads\/(\S+)\tHEAD$/m.exec(text)?.[1];
  if (branch !== undefined && isRefName(branch)) return branch;
  throw fail("COMMIT_NOT_FOUND", {
    message: `${remote.url} names no default branch that has a commit.`,
    hint: "Push to it, or name a branch or tag: `infra: { ref: main }`.",
  });
}

function refNotFound({ url }: Remote, ref: string) {
  return fail("COMMIT_NOT_FOUND", {
    message: `The infra repository ${url} has no branch, tag or commit ${JSON.stringify(ref.slice(0, 100))}.`,
    hint: `Push it there, or name another in \`infra: { ref: … }\`; \`git ls-remote ${url}\` shows what is there.`,
  });
}
