import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import type { StateIn, StateLock } from "./infra-run.ts";
import type { InfraRun } from "./runs.ts";
import type { Terraform, Workspace } from "./terraform.ts";

/**
 * The state of code that names its own backend (`backend "s3"`): Shipway has no copy of it, and reads, writes and unlocks it through Terraform alone, with
 * the credentials of the run. That works for every backend that Terraform knows.
 */

export const isElsewhere = ({ state_in: at }: Pick<InfraRun, "state_in">): boolean =>
  at !== null && at.type !== "shipway";

export function isSamePlace(left: StateIn, right: StateIn): boolean {
  return describePlace(left) === describePlace(right);
}

/** Such as `s3 (bucket=states, key=shop)`. */
export function describePlace({ type, config }: StateIn): string {
  if (type === "shipway") return "Shipway";
  const names = Object.entries(config).map(([name, value]) => `${name}=${value}`);
  return names.length === 0 ? type : `${type} (${names.sort().join(", ")})`;
}

/** The holder as Terraform describes it in an error (`Lock Info:` and its lines); undefined when the text has none. */
export function parseLockInfo(text: string): StateLock | undefined {
  const plain = text.replace(ANSI, "").replace(/^[│╷╵]\s?/gm, "");
  const [, info] = /Lock Info:\s*\n((?:[ \t]+\w+:.*\n?)+)/.exec(plain) ?? [];
  if (info === undefined) return undefined;
  const line = (name: string) => new RegExp(`^\\s*${name}:[ \\t]*(.*)$`, "m").exec(info)?.[1]?.trim() ?? "";
  const id = line("ID");
  if (id === "") return undefined;
  return {
    id,
    operation: line("Operation"),
    who: line("Who"),
    created: parseGoTime(line("Created")),
    runId: null,
  };
}

const ANSI = /\u001b\[[0-9;]*m/g;

/** Go prints `2026-11-26 05:00:00.123456789 +0000 UTC`. */
function parseGoTime(text: string): string {
  const [, day, time, fraction = "", zone = ""] = /^(\S+) (\d\d:\d\d:\d\d)(\.\d{1,3})?\d* ([+-]\d{4})/.exec(text) ?? [];
  const at = new Date(`${day}T${time}${fraction}${zone.slice(0, 3)}:${zone.slice(3)}`);
  return Number.isNaN(at.getTime()) ? text : at.toISOString();
}

/** Undefined where nothing was written yet. @throws INFRA_FAILED */
export async function pullState(terraform: Terraform, workspace: Workspace): Promise<string | undefined> {
  const { exitCode, stdout, stderr } = await terraform.run(workspace, ["state", "pull"]);
  if (exitCode !== 0) throw failed("read", stderr);
  return stdout.trim() === "" ? undefined : stdout;
}

/** An address that no code has: with it, `state rm -dry-run` takes the lock, gives it back, and does nothing else. */
const NO_RESOURCE = "terraform_data.shipway_looks_who_holds_the_lock";

/** Who holds it. There is no command that only asks, so the lock is taken for a moment. */
export async function findForeignLock(terraform: Terraform, workspace: Workspace): Promise<StateLock | undefined> {
  const args = ["state", "rm", "-dry-run", "-lock-timeout=0s", NO_RESOURCE];
  const { stdout, stderr } = await terraform.run(workspace, args);
  return parseLockInfo(`${stdout}\n${stderr}`);
}

/** Takes the lock `id` away. The caller has looked that it is this one: with some backends Terraform takes away whichever it finds. @throws INFRA_FAILED */
export async function unlockForeign(terraform: Terraform, workspace: Workspace, id: string): Promise<void> {
  const { exitCode, stderr } = await terraform.run(workspace, ["force-unlock", "-force", id]);
  if (exitCode !== 0) throw failed("unlocked", stderr);
}

/**
 * Writes a state where the backend keeps it; Terraform itself refuses another lineage and an older serial.
 * @throws INFRA_STATE_REFUSED
 */
export async function pushState(
  terraform: Terraform,
  workspace: Workspace,
  place: Place,
  { text, holdsLock }: { text: string; holdsLock: boolean },
): Promise<void> {
  const file = join(workspace.runDir, "recovered.tfstate");
  await writeFile(file, text, { mode: 0o600 });
  const lock = holdsLock ? "-lock=false" : "-lock-timeout=20s";
  const { exitCode, stdout, stderr } = await terraform.run(workspace, ["state", "push", lock, file]);
  if (exitCode === 0) return;
  throw fail("INFRA_STATE_REFUSED", {
    message: `The backend of ${place.app} ${place.environment} did not take the state: ${inWords(`${stdout}\n${stderr}`)}`,
    hint: "Mend what it names, then try again; the state that Terraform left is still there.",
  });
}

/** @throws INFRA_FAILED */
export async function removeFromState(
  terraform: Terraform,
  workspace: Workspace,
  addresses: readonly string[],
  { holdsLock }: { holdsLock: boolean },
): Promise<void> {
  const lock = holdsLock ? "-lock=false" : "-lock-timeout=20s";
  const { exitCode, stderr } = await terraform.run(workspace, ["state", "rm", lock, ...addresses]);
  if (exitCode !== 0) throw failed("changed", stderr);
}

const inWords = (text: string): string =>
  text
    .replace(ANSI, "")
    .replace(/^[│╷╵]\s?/gm, "")
    .trim()
    .split(/\n\s*\n/)
    .slice(0, 3)
    .join(" ")
    .replace(/\s+/g, " ") || "it said nothing";

function failed(done: "read" | "changed" | "unlocked", stderr: string) {
  return fail("INFRA_FAILED", {
    message: `The state could not be ${done} through Terraform: ${inWords(stderr)}`,
    hint: "Look whether the backend's credentials (`env`, `secrets` of the environment's infra) are good, then try again.",
  });
}
