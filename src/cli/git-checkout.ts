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
 * Lets git of this checkout find the token of the remote's server, and nobody else's: the empty entry drops helpers of the user's global
 * configuration, which would otherwise store the token a second time. The token itself is in no URL, no configuration and no process list.
 */
export async function setCredentialHelper(
  cwd: string,
  url: string,
  credentialsFile: string,
  helper: readonly string[],
): Promise<void> {
  const { origin } = new URL(url);
  const key = `credential.${origin}.helper`;
  await git(cwd, ["config", "--local", "--replace-all", key, ""]);
  await git(cwd, ["config", "--local", "--add", key, credentialHelper(origin, credentialsFile, helper)]);
}

/**
 * git gives a helper that begins with ! to a shell, the operation as its last word, and waits for it twice in a push: for `get`, and then
 * for `store`, which we never do. A program of ours takes 0.2 s to start, which is a third of a small deployment. So the shell itself
 * looks into the file, as `writeCredentials` lays it out, and asks `helper` only when it finds nothing there.
 */
function credentialHelper(origin: string, credentialsFile: string, helper: readonly string[]): string {
  const server = origin.replace(/[.*[\]^$\\/]/g, "\\$&");
  const find = `/^ *"${server}": {$/{n;s/^ *"token": "\\([A-Za-z0-9_-]*\\)"$/\\1/p;}`;
  return [
    '!f() { test "$1" = get || exit 0',
    `token=$(sed -n ${quoted(find)} ${quoted(credentialsFile)} 2>/dev/null)`,
    `test -n "$token" || exec ${helper.map(quoted).join(" ")} "$@"`,
    'printf "username=shipway\\npassword=%s\\n" "$token"',
    "}; f",
  ].join("; ");
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
