import { sleep } from "../shared/until.ts";
import type { Database } from "../store/open-store.ts";
import { isApplying } from "./infra-run.ts";
import type { InfraRun } from "./runs.ts";
import { findStop, markInterrupted, tellStopping } from "./stop-requests.ts";
import { type AtStake, inFlight, nextStop } from "./stop-run.ts";
import type { Terraform } from "./terraform.ts";
import type { StreamEvent } from "./terraform-stream.ts";

/** How soon a request to stop is seen, and how often it is told what Terraform is still at. */
const LOOK_EVERY_MS = 250;
const TELL_EVERY_MS = 10_000;

export type StopWatch = { end(): Promise<void> };

/**
 * Carries out what somebody asked for (`requestStop`) while a command of a run is followed. Nothing that goes wrong here ends the run: it is looked again.
 * `events` is what Terraform has said, growing.
 */
export function startStopWatch(
  deps: { db: Database; terraform: Terraform },
  watched: {
    run: InfraRun;
    name: "plan" | "apply";
    runDir: string;
    events: readonly StreamEvent[];
    mask(text: string): string;
  },
): StopWatch {
  const watchedSince = Date.now();
  const ending = new AbortController();
  let toldAt = 0;
  const loop = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      await look().catch(() => undefined);
      await sleep(LOOK_EVERY_MS, ending.signal).catch(() => undefined);
    }
  };
  const look = async (): Promise<void> => {
    const { run, name, runDir, events, mask } = watched;
    const asked = await findStop(deps.db, run.id);
    if (asked.requestedAt === undefined) return;
    const now = Date.now();
    switch (nextStop({ ...asked, atStake: atStakeOf(run, name), watchedSince, events, now })) {
      case "interrupt":
        await interruptOnce(asked.interruptedAt);
        break;
      case "interrupt again":
        await deps.terraform.interrupt({ runDir }, name);
        break;
      case "kill":
        await deps.terraform.kill({ runDir }, name);
        break;
      case "wait":
        break;
    }
    const isStopping = events.some(({ type }) => type === "interrupted");
    const busyWith = inFlight(events, now);
    if (name !== "apply" || !isStopping || busyWith.length === 0 || now - toldAt < TELL_EVERY_MS) return;
    toldAt = now;
    const told = busyWith.map((one) => ({ ...one, address: mask(one.address) }));
    await tellStopping(deps.db, run, told);
  };
  /** Noted first: a Shipway that is killed in between finds the note, and asks Terraform's own words whether it was sent. */
  const interruptOnce = async (before: number | undefined): Promise<void> => {
    const { run, name, runDir } = watched;
    const notedAt = await markInterrupted(deps.db, run.id, before, new Date());
    if (notedAt === undefined) return;
    if (!(await deps.terraform.interrupt({ runDir }, name))) await markInterrupted(deps.db, run.id, notedAt, null);
  };
  const looping = loop();
  return {
    async end() {
      ending.abort();
      await looping;
    },
  };
}

function atStakeOf(run: InfraRun, name: "plan" | "apply"): AtStake {
  if (name === "apply") return "objects";
  return isApplying(run.kind) ? "lock" : "nothing";
}

/** For work that loses nothing by being broken off: its signal aborts once somebody wants the run stopped. */
export function abortWhenStopped(db: Database, runId: string): StopWatch & { signal: AbortSignal } {
  const stopped = new AbortController();
  const ended = new AbortController();
  const loop = async (): Promise<void> => {
    while (!ended.signal.aborted && !stopped.signal.aborted) {
      const asked = await findStop(db, runId).catch(() => undefined);
      if (asked?.requestedAt !== undefined) return stopped.abort(new Error(`run ${runId} was stopped`));
      await sleep(LOOK_EVERY_MS, ended.signal).catch(() => undefined);
    }
  };
  const looping = loop();
  return {
    signal: stopped.signal,
    async end() {
      ended.abort();
      await looping;
    },
  };
}
