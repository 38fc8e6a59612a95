import { getEnvironment } from "../environment/environments.ts";
import type { Sealer } from "../environment/sealing.ts";
import type { Secrets } from "../environment/secrets.ts";
import {
  type ExecEnd,
  type ExecRecord,
  endExecSession,
  openExecSession,
  openExecSessions,
} from "../release/exec-sessions.ts";
import { getRelease } from "../release/releases.ts";
import { resolveRelease } from "../release/resolve-release.ts";
import { type Place, taskName } from "../rollout/release.ts";
import type { ExecRequest, ExecSession, ObservedService, RolloutTarget } from "../rollout/target.ts";
import { fail } from "../shared/errors.ts";
import { quoteCommand } from "../shared/quote-command.ts";
import type { Store } from "../store/open-store.ts";
import { backingOf } from "./backings.ts";
import { maskOf } from "./deployment-stages.ts";

export type ExecDeps = { store: Store; secrets: Secrets; sealer: Sealer; target: RolloutTarget };
export type ExecWish = {
  service: string;
  /** One of the service's tasks by name; undefined: the first that runs. */
  task?: string | undefined;
  command: string[];
  terminal?: ExecRequest["terminal"];
};
export type LiveExec = { task: string; session: ExecSession; end(how: ExecEnd): Promise<void> };

/** Commands inside running tasks. Each is on the record before it begins and until it has ended; what a connection leaves behind is ended with it. */
export type Execs = {
  /** `end` must be called once, whatever becomes of it. @throws ENVIRONMENT_NOT_FOUND, TASK_NOT_RUNNING, REQUEST_INVALID, RUN_LIMIT */
  open(place: Place, wish: ExecWish, actor: string): Promise<LiveExec>;
  /** Ends what an earlier process, or an engine that was away, left running. */
  endLeft(): Promise<void>;
};

export function newExecs(deps: ExecDeps): Execs {
  const { target } = deps;
  const { db } = deps.store;
  /** Those whose connection is here. */
  const live = new Set<string>();

  async function end(record: ExecRecord, how: ExecEnd): Promise<void> {
    // First what runs, then what is written: a kill in between leaves it open, and it is looked at again.
    if (how.status !== "exited") await target.endExec(record, record.task, record.id);
    await endExecSession(db, record.id, how);
  }

  return {
    async open(place, { service, task: wanted, command, terminal }, actor) {
      const task = await taskFor(deps, place, service, wanted);
      const mask = await maskOf(deps, place);
      const shown = { service, task, command: mask(quoteCommand(command)), terminal: terminal !== undefined };
      const record = await openExecSession(db, { app: place.app, environment: place.environment, ...shown, actor });
      live.add(record.id);
      const over = (how: ExecEnd) => end(record, how).finally(() => live.delete(record.id));
      try {
        const session = await target.exec(place, task, { id: record.id, command, terminal });
        return { task, session, end: over };
      } catch (error) {
        await over({ status: "failed" });
        throw error;
      }
    },

    async endLeft() {
      const left = (await openExecSessions(db)).filter(({ id }) => !live.has(id));
      const ended = await Promise.allSettled(left.map((record) => end(record, { status: "cut-off" })));
      // One in a place that is out of reach does not stand in the others' way.
      const failed = ended.find((one) => one.status === "rejected");
      if (failed !== undefined) throw failed.reason;
    },
  };
}

/** A task of the service's live release, or a backing service. */
async function taskFor(deps: ExecDeps, place: Place, service: string, wanted: string | undefined): Promise<string> {
  const { live_release } = await getEnvironment(deps.store.db, place);
  const seen = (await deps.target.observe(place)).filter((one) => one.service === service);
  // While a deployment goes on there are tasks of two releases: people mean what serves.
  const running = seen
    .filter(({ release }) => wanted !== undefined || release === live_release)
    .flatMap(({ tasks }) => tasks.filter(({ state }) => state === "running").map(({ name }) => name));
  const found = wanted === undefined ? running[0] : running.find((name) => name === wanted);
  if (found !== undefined) return found;
  if (wanted !== undefined && seen.some((one) => isNameInLogs(place, one, wanted))) return wanted;
  const { services, backing } = await namesIn(deps, place, live_release);
  if (wanted === undefined && !services.includes(service) && backing.includes(service)) return service;
  if (!services.includes(service)) throw unknownService(place, service, [...services, ...backing]);
  throw fail("TASK_NOT_RUNNING", {
    message:
      wanted === undefined
        ? `No task of ${service} runs in ${place.environment} of ${place.app}.`
        : `${service} has no running task ${wanted} in ${place.environment} of ${place.app}.`,
    hint:
      running.length > 0
        ? `Its running tasks: ${running.join(", ")}.`
        : "`shipway status` shows what runs. A command in a task of its own needs none that runs: `shipway run`.",
  });
}

/** On ECS lines of output name their task by the beginning of ECS's own id, not by its number; whether it runs is its runtime's to say. */
function isNameInLogs(place: Place, { service, release }: ObservedService, name: string): boolean {
  const head = taskName(place, service, release, 0).slice(0, -1);
  return name.startsWith(head) && /^[0-9a-f]{8}$/.test(name.slice(head.length));
}

async function namesIn({ store, secrets }: ExecDeps, place: Place, live: number | null) {
  const none = { backing: {} };
  const resolved =
    live === null ? undefined : resolveRelease(await getRelease(store.db, place.app, live), place.environment);
  const { all } = await backingOf({ db: store.db, secrets }, place, resolved?.environmentSpec ?? none);
  return {
    services: resolved?.release.services.map(({ name }) => name) ?? [],
    backing: all.map(({ name }) => name),
  };
}

function unknownService({ app, environment }: Place, service: string, names: string[]) {
  return fail("REQUEST_INVALID", {
    message: `${environment} of ${app} has no service ${service}.`,
    hint: names.length === 0 ? "Nothing was deployed there yet." : `There are ${names.join(", ")}.`,
  });
}
