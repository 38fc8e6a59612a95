import { spawn } from "node:child_process";
import { once } from "node:events";
import { newMask } from "../events/mask-secrets.ts";
import { fail } from "../shared/errors.ts";
import { Secret } from "../shared/secret.ts";
import { sleep } from "../shared/until.ts";
import type { GitCommand } from "./git-command.ts";

/** A repository elsewhere. `credential` is a token, or `USER:TOKEN`; only an address over https takes one. */
export type Remote = { url: string; over: "http" | "ssh"; host: string; credential: Secret | undefined };

export type RemoteGitOptions = {
  /** How long one call may take in all; default 2 min. */
  deadlineMs?: number;
  sleep?: (ms: number) => Promise<void>;
};

const DEADLINE_MS = 120_000;
/** A name that is not resolved for a moment or a connection that is refused while the other side restarts: worth waiting for, twice. */
const RETRY_AFTER_MS = [300, 1_000];
/** What failed after longer than this will not be there a second later. */
const QUICK_MS = 5_000;
const MAX_OUTPUT_BYTES = 1024 * 1024;
const MAX_STDERR_CHARS = 8_192;

/** A user name that takes a token as its password with every git host known to us; hosts that want another get `USER:TOKEN`. */
const TOKEN_USER = "x-token-auth";

/**
 * Runs a git command that speaks to a repository elsewhere, and returns what it printed. The credential reaches git as a header in its environment: it is in no
 * argument, no configuration and no message. Other protocols, prompts and helpers are off.
 * @throws INFRA_REPOSITORY_UNREACHABLE, INFRA_REPOSITORY_REFUSED, GIT_FAILED
 */
export async function runRemoteGit(
  git: GitCommand,
  remote: Remote,
  args: readonly string[],
  options: RemoteGitOptions = {},
): Promise<string> {
  const wait = options.sleep ?? sleep;
  for (let attempt = 0; ; attempt++) {
    const startedAt = Date.now();
    const outcome = await runOnce(git, remote, args, options.deadlineMs ?? DEADLINE_MS);
    if (outcome.status === "done") return outcome.stdout;
    const again = RETRY_AFTER_MS[attempt];
    const problem = explain(remote, outcome);
    const worthIt = problem.code === "INFRA_REPOSITORY_UNREACHABLE" && Date.now() - startedAt < QUICK_MS;
    if (again === undefined || !worthIt) throw problem;
    await wait(again);
  }
}

type Failure = { status: "failed"; stderr: string } | { status: "late"; deadlineMs: number };
type Outcome = { status: "done"; stdout: string } | Failure;

async function runOnce(git: GitCommand, remote: Remote, args: readonly string[], deadlineMs: number): Promise<Outcome> {
  const child = spawn("git", [...args], {
    env: environmentOf(git, remote),
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own: git starts ssh or git-remote-https, which must end with it at the deadline.
    detached: true,
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    if (stdout.length < MAX_OUTPUT_BYTES) stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR_CHARS);
  });
  let late = false;
  const timers = [
    setTimeout(() => {
      late = true;
      signalGroup(child.pid, "SIGTERM");
    }, deadlineMs),
    setTimeout(() => signalGroup(child.pid, "SIGKILL"), deadlineMs + 2_000),
  ];
  try {
    const [exitCode] = (await once(child, "close")) as [number | null];
    if (late) return { status: "late", deadlineMs };
    return exitCode === 0
      ? { status: "done", stdout }
      : { status: "failed", stderr: maskOf(remote)(stderr.trim()) || `git ended with ${exitCode ?? "a signal"}` };
  } catch (cause) {
    throw fail("GIT_FAILED", { message: `git cannot be started: ${String(cause)}`, hint: "Install git.", cause });
  } finally {
    for (const timer of timers) clearTimeout(timer);
  }
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // It has ended already.
  }
}

function environmentOf(git: GitCommand, { url, over, credential }: Remote): Record<string, string> {
  const settings = {
    // Of what somebody else hosts, every object is looked at; flaws of old tools are harmless.
    "fetch.fsckObjects": "true",
    "fetch.fsck.badTimezone": "ignore",
    "fetch.fsck.missingSpaceBeforeDate": "ignore",
    "fetch.fsck.zeroPaddedFilemode": "ignore",
    "gc.auto": "0",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    // A redirect would take the token to another host.
    "http.followRedirects": credential === undefined ? "initial" : "false",
    ...(credential && over === "http" && { [`http.${new URL(url).origin}/.extraHeader`]: headerOf(credential) }),
  };
  return {
    ...git.environment(settings),
    GIT_ALLOW_PROTOCOL: over === "ssh" ? "ssh" : url.startsWith("https:") ? "https" : "http",
    // ssh takes the keys and known hosts of the account that Shipway runs under; nobody is there to answer a question.
    GIT_SSH_COMMAND: "ssh -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15",
    GIT_SSH_VARIANT: "ssh",
  };
}

function headerOf(credential: Secret): string {
  return `Authorization: Basic ${basicOf(credential)}`;
}

function basicOf(credential: Secret): string {
  const text = credential.reveal();
  return Buffer.from(text.includes(":") ? text : `${TOKEN_USER}:${text}`).toString("base64");
}

function maskOf({ credential }: Remote): (text: string) => string {
  return credential === undefined
    ? (text) => text
    : newMask([credential, new Secret(credential.name, basicOf(credential))]);
}

const HOST_KEY = /Host key verification failed/;
const UNKNOWN_HOST_KEY = "is not known to the account that Shipway runs under";
const REDIRECTED = /redirect|returned error: 30\d/i;
const REFUSED =
  /Authentication failed|could not read (Username|Password)|Access denied|returned error: 40[13]|Permission denied|HTTP Basic/i;
const NOT_FOUND =
  /returned error: 404|repository '.*' not found|Repository not found|does not appear to be a git repository/i;
const UNREACHABLE =
  /Could not resolve|Failed to connect|Couldn't connect|Could not connect|Connection (refused|reset|closed|timed out)|timed out|too slow|No route to host|unreachable|returned error: (5\d\d|429)|unexpected disconnect|early EOF|hung up|certificate|SSL|TLS/i;

/** git says what went wrong as text alone: this is the one place that reads it. */
function explain(remote: Remote, failure: Failure) {
  const { url, host, over, credential } = remote;
  if (failure.status === "late") return unreachable(url, `it did not answer within ${failure.deadlineMs / 1_000} s`);
  const { stderr } = failure;
  const words = lastWords(stderr);
  const refused = (message: string, hint: string) => fail("INFRA_REPOSITORY_REFUSED", { message, hint });
  if (HOST_KEY.test(stderr))
    return refused(
      `${url} cannot be trusted: the host key of ${host} ${UNKNOWN_HOST_KEY}.`,
      `Check its fingerprint, then add it there: \`ssh-keyscan ${host} >> ~/.ssh/known_hosts\`.`,
    );
  if (over === "http" && REDIRECTED.test(stderr))
    return refused(
      `${url} has moved: ${words}`,
      "Write the new address in `infra: { repository: … }`: a token follows no redirect.",
    );
  if (REFUSED.test(stderr)) return refused(`${host} refuses access to ${url}: ${words}`, accessHint(remote));
  if (NOT_FOUND.test(stderr))
    return refused(
      `There is no repository ${url}, or it is hidden from ${credential ? `the credential ${credential.name}` : "everybody without a credential"}.`,
      `Check the address in \`infra: { repository: … }\`. ${accessHint(remote)}`,
    );
  if (UNREACHABLE.test(stderr)) return unreachable(url, words);
  return fail("GIT_FAILED", { message: `git cannot read ${url}: ${words}` });
}

function unreachable(url: string, why: string) {
  return fail("INFRA_REPOSITORY_UNREACHABLE", {
    message: `The infra repository ${url} cannot be reached: ${why}`,
    hint: "Nothing was changed. Try again once it answers; a rollback does not need it.",
  });
}

function accessHint({ over, credential }: Remote): string {
  if (over === "ssh") return "Give the key of the account that Shipway runs under (its ~/.ssh) read access there.";
  return credential === undefined
    ? "Set a token with read access as a secret (`shipway secret set INFRA_TOKEN`) and name it: `infra: { credential: INFRA_TOKEN }`."
    : `Set a token with read access: \`shipway secret set ${credential.name}\`, as TOKEN or USER:TOKEN.`;
}

const lastWords = (stderr: string): string =>
  stderr
    .split("\n")
    .map((line) => line.replace(/^(fatal|error|remote): /, "").trim())
    .filter((line) => line !== "")
    .slice(-2)
    .join(" ");
