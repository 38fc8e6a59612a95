import { runProgram } from "../shared/run-program.ts";

/** The name of the remote that leads to Shipway. */
export const REMOTE = "shipway";

export async function isGitCheckout(cwd: string): Promise<boolean> {
  return git(cwd, ["rev-parse", "--is-inside-work-tree"]).then(
    (answer) => answer === "true",
    () => false,
  );
}

/** Sets the remote to `url`, whether or not it is there, and says which it did. */
export async function setRemote(cwd: string, url: string): Promise<"added" | "changed" | "kept"> {
  const before = await git(cwd, ["remote", "get-url", REMOTE]).catch(() => undefined);
  if (before === url) return "kept";
  await git(cwd, before === undefined ? ["remote", "add", REMOTE, url] : ["remote", "set-url", REMOTE, url]);
  return before === undefined ? "added" : "changed";
}

/**
 * Lets git of this checkout ask `helper` for the token of the remote's server, and nobody else: the empty entry drops helpers of the user's global
 * configuration, which would otherwise store the token a second time. The token itself is in no URL, no configuration and no process list.
 */
export async function setCredentialHelper(cwd: string, url: string, helper: readonly string[]): Promise<void> {
  const key = `credential.${new URL(url).origin}.helper`;
  await git(cwd, ["config", "--local", "--replace-all", key, ""]);
  // git gives a helper that begins with ! to a shell, with the operation as its last word. After each successful push it
  // also asks to `store` the token, which we never do: the shell says so at once, and no program is started for it.
  const answer = `test "$1" = get || exit 0; exec ${helper.map(quoted).join(" ")} "$@"`;
  await git(cwd, ["config", "--local", "--add", key, `!f() { ${answer}; }; f`]);
}

export async function currentBranch(cwd: string): Promise<string | undefined> {
  const branch = await git(cwd, ["symbolic-ref", "--short", "-q", "HEAD"]).catch(() => undefined);
  return branch === "" ? undefined : branch;
}

/** For a POSIX shell: nothing inside single quotes means anything, but a single quote. */
function quoted(word: string): string {
  return /^[A-Za-z0-9_./:=@-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

async function git(cwd: string, args: readonly string[]): Promise<string> {
  return (await runProgram(["git", ...args], { cwd })).stdout.trim();
}
