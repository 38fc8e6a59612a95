import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { fail } from "../../../shared/errors.ts";
import type { LogSink } from "../../../shared/log-line.ts";
import { type Place, type Release, type ReleaseService, taskName } from "../../release.ts";
import type { OneOffResult, OneOffRun } from "../../target.ts";
import { followContainer } from "./container-logs.ts";
import { oneOffOptions } from "./container-options.ts";
import { asking, askingUnless, notStartable, statusOf } from "./docker-errors.ts";
import { prefixed } from "./names.ts";

export type OneOff = Omit<OneOffRun, "service"> & {
  docker: Docker;
  instance: string;
  place: Place;
  release: Release;
  service: ReleaseService;
  network: string;
  routerAddress: string;
};

/** How long the last lines may take to arrive after the command ended. */
const LAST_LINES_MS = 2_000;

/**
 * Runs a command to its end in a container named by its key, which is the memory that makes a repetition a no-op. It stays until the release is stopped or
 * reconciled, and that of an asked run until it is forgotten. Aborting ends it and rejects with the signal's reason.
 * @throws RUN_OUTCOME_UNKNOWN when somebody removed the container of an asked run that was begun
 */
export async function runOneOff(run: OneOff, log: LogSink, signal?: AbortSignal): Promise<OneOffResult> {
  const { docker, asked } = run;
  const container = docker.getContainer(prefixed(run.instance, nameOf(run)));
  const before = await askingUnless([404], "Looking at a command's container", () => container.inspect());
  const wasStarted = before !== undefined && before.State.Status !== "created";
  if (before === undefined && asked?.wasBegun) throw lost(run);
  // One that runs is ended below.
  if (!wasStarted) signal?.throwIfAborted();
  if (before === undefined) await create(run);
  if (wasStarted && !asked)
    log([{ at: Date.now(), stream: "meta", text: "Shipway was restarted: the output so far is repeated." }]);
  if (!wasStarted) {
    await asked?.begin();
    const refused = await start(container, run);
    if (refused !== undefined) {
      log([{ at: Date.now(), stream: "err", text: refused.text }]);
      return { exitCode: refused.exitCode, outOfMemory: false, timedOut: false };
    }
  }
  const over = new AbortController();
  const logs = followContainer(docker, container.id, { sinceMs: 0, untilExit: true, signal: over.signal }, log);
  logs.catch(() => undefined);
  try {
    const ending = await waitFor(container, run, signal);
    const late = setTimeout(() => over.abort(), LAST_LINES_MS);
    await logs;
    clearTimeout(late);
    signal?.throwIfAborted();
    const info = await askingUnless([404], "Looking at a command's container", () => container.inspect());
    if (info === undefined) throw lost(run);
    return { exitCode: info.State.ExitCode, outOfMemory: info.State.OOMKilled, timedOut: ending === "late" };
  } finally {
    over.abort();
  }
}

/** A program that is not in the image is the user's mistake, told with the exit code that a shell has for it. */
async function start(container: Docker.Container, run: OneOff) {
  try {
    await container.start();
    return undefined;
  } catch (error) {
    if (statusOf(error) === 304) return undefined;
    const refused = notStartable(error);
    if (refused !== undefined) return refused;
    return await asking(`Starting ${displayOf(run)}`, () => Promise.reject(error));
  }
}

function lost({ service, place }: OneOff) {
  return fail("RUN_OUTCOME_UNKNOWN", {
    message: `The container of a command of ${service.name} in ${place.environment} is gone: nobody can tell whether it ended, and how.`,
    hint: "Look whether its work is done, then run it again if it is not. It is never begun twice by itself.",
  });
}

async function create(run: OneOff): Promise<void> {
  const options = oneOffOptions({ ...run, name: nameOf(run), role: run.asked ? "run" : "oneoff" });
  // 409: this very run, created a moment ago.
  await askingUnless([409], `Creating ${displayOf(run)}`, () => run.docker.createContainer(options));
}

/** Waits for the end of the command; ends it when it is late or nobody wants it any more. */
async function waitFor(container: Docker.Container, run: OneOff, signal?: AbortSignal): Promise<"ended" | "late"> {
  // 404: somebody removed it, which the next look at it tells.
  const ended = askingUnless([404], "Waiting for a command", () => container.wait()).then(() => "ended" as const);
  ended.catch(() => undefined);
  const info = await askingUnless([404], "Looking at a command's container", () => container.inspect());
  const startedAt = info === undefined ? Date.now() : Date.parse(info.State.StartedAt);
  const leftMs = Math.max(0, startedAt + run.deadlineMs - Date.now());
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  const stopped = new Promise<"late" | "aborted">((resolve) => {
    timer = setTimeout(() => resolve("late"), leftMs);
    onAbort = () => resolve("aborted");
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted) onAbort();
  });
  try {
    const first = await Promise.race([ended, stopped]);
    if (first === "ended") return "ended";
    await end(container, run);
    await ended;
    return first === "late" ? "late" : "ended";
  } finally {
    clearTimeout(timer);
    if (onAbort) signal?.removeEventListener("abort", onAbort);
  }
}

/** 304, 404 and 409: it ended by itself meanwhile. */
async function end(container: Docker.Container, run: OneOff): Promise<void> {
  if (run.asked) await askingUnless([304, 404], "Stopping a command", () => container.stop());
  else await askingUnless([404, 409], "Ending a command", () => container.kill());
}

function nameOf({ place, service, release, key }: OneOff): string {
  const hash = createHash("sha256").update(key).digest("hex").slice(0, 10);
  return taskName(place, service.name, release.number, 0).replace(/-0$/, `-run-${hash}`);
}

function displayOf(run: OneOff): string {
  return `a command of ${run.service.name}`;
}
