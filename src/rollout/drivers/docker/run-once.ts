import { createHash } from "node:crypto";
import type Docker from "dockerode";
import type { LogSink } from "../../../shared/log-line.ts";
import { type Place, type Release, type ReleaseService, taskName } from "../../release.ts";
import type { TaskVariables } from "../../target.ts";
import { followContainer } from "./container-logs.ts";
import { oneOffOptions } from "./container-options.ts";
import { asking, askingUnless } from "./docker-errors.ts";
import { prefixed } from "./names.ts";

export type OneOff = {
  docker: Docker;
  instance: string;
  place: Place;
  release: Release;
  service: ReleaseService;
  key: string;
  command: string[];
  variables: TaskVariables;
  deadlineMs: number;
  network: string;
  routerAddress: string;
};
export type OneOffResult = { exitCode: number; outOfMemory: boolean; timedOut: boolean };

/** How long the last lines may take to arrive after the command ended. */
const LAST_LINES_MS = 2_000;

/**
 * Runs a command to its end in a container named by its key, which stays until the release is stopped or reconciled: it is the
 * memory that makes a repetition a no-op. Aborting kills it and rejects with the signal's reason.
 */
export async function runOneOff(run: OneOff, log: LogSink, signal?: AbortSignal): Promise<OneOffResult> {
  signal?.throwIfAborted();
  const { docker } = run;
  const container = docker.getContainer(prefixed(run.instance, nameOf(run)));
  const before = await askingUnless([404], "Looking at a command's container", () => container.inspect());
  if (before === undefined) await create(run);
  else if (before.State.Status !== "created") {
    log([{ at: Date.now(), stream: "meta", text: "Shipway was restarted: the output so far is repeated." }]);
  }
  await askingUnless([304], `Starting ${displayOf(run)}`, async () => {
    if (before === undefined || before.State.Status === "created") await container.start();
  });
  const over = new AbortController();
  const logs = followContainer(docker, container.id, { sinceMs: 0, untilExit: true, signal: over.signal }, log);
  logs.catch(() => undefined);
  try {
    const ending = await waitFor(container, run, signal);
    const late = setTimeout(() => over.abort(), LAST_LINES_MS);
    await logs;
    clearTimeout(late);
    signal?.throwIfAborted();
    const info = await asking("Looking at a command's container", () => container.inspect());
    return { exitCode: info.State.ExitCode, outOfMemory: info.State.OOMKilled, timedOut: ending === "late" };
  } finally {
    over.abort();
  }
}

async function create(run: OneOff): Promise<void> {
  const options = oneOffOptions({ ...run, name: nameOf(run) });
  // 409: this very run, created a moment ago.
  await askingUnless([409], `Creating ${displayOf(run)}`, () => run.docker.createContainer(options));
}

/** Waits for the end of the command; ends it when it is late or nobody wants it any more. */
async function waitFor(container: Docker.Container, run: OneOff, signal?: AbortSignal): Promise<"ended" | "late"> {
  const ended = asking("Waiting for a command", () => container.wait()).then(() => "ended" as const);
  ended.catch(() => undefined);
  const info = await asking("Looking at a command's container", () => container.inspect());
  const leftMs = Math.max(0, Date.parse(info.State.StartedAt) + run.deadlineMs - Date.now());
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
    // 409: it ended by itself meanwhile.
    await askingUnless([404, 409], "Ending a command", () => container.kill());
    await ended;
    return first === "late" ? "late" : "ended";
  } finally {
    clearTimeout(timer);
    if (onAbort) signal?.removeEventListener("abort", onAbort);
  }
}

function nameOf({ place, service, release, key }: OneOff): string {
  const hash = createHash("sha256").update(key).digest("hex").slice(0, 10);
  return taskName(place, service.name, release.number, 0).replace(/-0$/, `-run-${hash}`);
}

function displayOf(run: OneOff): string {
  return `a command of ${run.service.name}`;
}
