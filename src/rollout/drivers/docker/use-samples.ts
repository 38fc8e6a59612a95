import type Docker from "dockerode";
import pLimit from "p-limit";
import { sleep } from "../../../shared/until.ts";
import { type Measurement, nothingMeasured, type ServiceUse } from "../../measurement.ts";
import type { Place } from "../../release.ts";
import { listTasks, type SeenTask } from "./containers.ts";
import { grown } from "./haproxy/answer-counts.ts";
import { backendName } from "./names.ts";
import type { Answers, Router, RouterAnswers } from "./router.ts";
import { readTaskStats, type TaskStats } from "./task-stats.ts";

/** What one task did between two looks; `cores` of a processor is 1 where it kept one busy. */
export type TaskUse = { name: string; cores: number | null; memoryBytes: number; limitBytes: number };

/** What the tasks of one service of a release did between two looks. */
export type UseSample = Measurement & {
  /** Of each of its tasks, on average. */
  cores: number | null;
  tasks: TaskUse[];
  unanswered: number | null;
};

export type UseSamples = ReturnType<typeof newUseSamples>;

type Options = {
  docker: Docker;
  router: Pick<Router, "answers">;
  instance: string;
  /** Between two looks. */
  everyMs?: number;
};

/** ECS looks as often (Amazon ECS developer guide, service utilization metrics: every 20 s). */
const EVERY_MS = 15_000;
/** A look at a service is some 300 bytes, an hour of them 70 KB. */
const KEPT_MS = 3_600_000;

/** At most this part of the time is spent looking: with very many tasks the looks are further apart. */
const SHARE_OF_TIME = 5;
/** The engine reads the figures of so many containers at a time. */
const AT_ONCE = 4;
/** Whoever asks now is not answered with figures older than this. */
const FRESH_MS = 2_000;
/** Two first looks are so far apart at least: less tells nothing of a processor. */
const FIRST_SPAN_MS = 1_000;

/** Looks at what all tasks of this installation use and answer, again and again, and keeps what it found in memory for a while. */
export function newUseSamples({ docker, router, instance, everyMs = EVERY_MS }: Options) {
  const kept = new Map<string, UseSample[]>();
  let before: Look | undefined;
  let looking: Promise<void> | undefined;
  let since: number | undefined;
  let looks = 0;
  let stop: AbortController | undefined;
  let ended = Promise.resolve();

  async function look(): Promise<void> {
    const now = await takeLook({ docker, router, instance });
    since ??= now.atMs;
    looks++;
    if (before !== undefined) {
      for (const [key, sample] of compareLooks(before, now)) kept.set(key, [...(kept.get(key) ?? []), sample]);
    }
    before = now;
    for (const [key, samples] of kept) {
      const young = samples.filter((one) => one.at + one.spanMs > now.atMs - KEPT_MS);
      if (young.length === 0) kept.delete(key);
      else kept.set(key, young);
    }
  }

  /** Askers of the same moment share a look. */
  const lookOnce = (): Promise<void> => {
    looking ??= look().finally(() => {
      looking = undefined;
    });
    return looking;
  };

  async function keepLooking(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const startedAt = Date.now();
      // An engine that is away is for others to report; the next look finds it back, or not.
      await lookOnce().catch(() => undefined);
      const tookMs = Date.now() - startedAt;
      await sleep(Math.max(everyMs - tookMs, tookMs * (SHARE_OF_TIME - 1)), signal).catch(() => undefined);
    }
  }

  return {
    start(): void {
      stop ??= new AbortController();
      ended = keepLooking(stop.signal);
    },
    async stop(): Promise<void> {
      stop?.abort();
      stop = undefined;
      await ended;
    },
    /** Looks now, unless it was done just before. */
    async refresh(): Promise<void> {
      if (before === undefined) await lookOnce();
      const ageMs = Date.now() - (before?.atMs ?? 0);
      const isFirst = looks < 2;
      if (!isFirst && ageMs < FRESH_MS) return;
      if (isFirst && ageMs < FIRST_SPAN_MS) await sleep(FIRST_SPAN_MS - ageMs);
      await lookOnce();
    },
    /** Oldest first. */
    of: (place: Place, release: number, service: string): UseSample[] =>
      kept.get(groupKey(place, release, service)) ?? [],
    /** What the last look found. */
    latest(): ServiceUse[] {
      return [...kept].flatMap(([key, samples]) => {
        const last = samples.at(-1);
        return last === undefined || last.at + last.spanMs < (before?.atMs ?? 0) ? [] : [useOfGroup(key, last)];
      });
    },
    /** When the first look was. */
    since: (): number => Math.max(since ?? Date.now(), Date.now() - KEPT_MS),
  };
}

/** Without figures where it does not run. */
type LookedTask = SeenTask & { stats: TaskStats | undefined };
type Look = { atMs: number; tasks: Map<string, LookedTask>; answers: RouterAnswers | undefined };

async function takeLook({ docker, router, instance }: Pick<Options, "docker" | "router" | "instance">): Promise<Look> {
  const limit = pLimit(AT_ONCE);
  const seen = await listTasks(docker, instance);
  const atMs = Date.now();
  const read = async (task: SeenTask): Promise<[string, LookedTask]> => {
    const isThere = task.state === "running" || task.state === "paused";
    return [task.id, { ...task, stats: isThere ? await limit(() => readTaskStats(docker, task.id)) : undefined }];
  };
  const [answers, tasks] = await Promise.all([router.answers().catch(() => undefined), Promise.all(seen.map(read))]);
  return { atMs, tasks: new Map(tasks), answers };
}

/** What happened between two looks, by service of a release. */
export function compareLooks(before: Look, now: Look): Map<string, UseSample> {
  const groups = new Map<string, LookedTask[]>();
  for (const task of now.tasks.values()) {
    const key = groupKey(task.place, task.release ?? 0, task.service);
    groups.set(key, [...(groups.get(key) ?? []), task]);
  }
  const spanMs = Math.max(1, now.atMs - before.atMs);
  return new Map(
    [...groups].map(([key, tasks]) => {
      const uses = tasks.flatMap((task) => useOf(before.tasks.get(task.id), task));
      const known = uses.flatMap(({ cores }) => cores ?? []);
      const memory = uses.reduce((sum, one) => sum + one.memoryBytes, 0);
      const limit = uses.reduce((sum, one) => sum + one.limitBytes, 0);
      const sample: UseSample = {
        ...nothingMeasured(before.atMs, spanMs),
        ...answersOf(before, now, tasks),
        memoryPercent: limit === 0 ? null : (100 * memory) / limit,
        cores: known.length === 0 ? null : known.reduce((sum, one) => sum + one, 0) / known.length,
        tasks: uses,
      };
      return [key, sample];
    }),
  );
}

function useOf(before: LookedTask | undefined, { name, stats }: LookedTask): TaskUse[] {
  if (stats === undefined) return [];
  const { memoryBytes, limitBytes } = stats;
  const spanMs = stats.atMs - (before?.stats?.atMs ?? stats.atMs);
  const usedMs = stats.cpuMs - (before?.stats?.cpuMs ?? 0);
  // A container that was started again counts from nothing.
  const cores = spanMs <= 0 ? null : (usedMs < 0 ? stats.cpuMs : usedMs) / spanMs;
  return [{ name, cores, memoryBytes, limitBytes }];
}

type AnswersOf = Pick<UseSample, "requests" | "answers4xx" | "answers5xx" | "meanMs" | "unanswered">;
const NO_ANSWERS: AnswersOf = { requests: null, answers4xx: null, answers5xx: null, meanMs: null, unanswered: null };

function answersOf(before: Look, now: Look, tasks: LookedTask[]): AnswersOf {
  if (before.answers === undefined || now.answers === undefined) return NO_ANSWERS;
  let sum: Answers | undefined;
  let weighedMs = 0;
  for (const { name } of tasks) {
    const own = now.answers.tasks.get(name);
    if (own === undefined) continue;
    const more = grown(before.answers.tasks.get(name) ?? NO_COUNT, own);
    weighedMs += more.requests * own.meanMs;
    sum = {
      requests: (sum?.requests ?? 0) + more.requests,
      answers4xx: (sum?.answers4xx ?? 0) + more.answers4xx,
      answers5xx: (sum?.answers5xx ?? 0) + more.answers5xx,
    };
  }
  // A worker has none; the router does not know it.
  const [first] = tasks;
  if (sum === undefined || first === undefined) return NO_ANSWERS;
  const backend = backendName(first.place, first.service);
  const unanswered = now.answers.unanswered.get(backend) ?? 0;
  return {
    ...sum,
    meanMs: sum.requests === 0 ? null : weighedMs / sum.requests,
    unanswered: Math.max(0, unanswered - (before.answers.unanswered.get(backend) ?? 0)),
  };
}

const NO_COUNT: Answers = { requests: 0, answers4xx: 0, answers5xx: 0 };

function useOfGroup(key: string, { tasks, cores, requests, answers5xx, spanMs }: UseSample): ServiceUse {
  const [app = "", environment = "", release = "", service = ""] = key.split("/");
  const perSecond = (count: number | null) => (count === null ? null : count / (spanMs / 1_000));
  return {
    app,
    environment,
    service,
    release: Number(release.slice(1)),
    tasks: tasks.length,
    cores: cores === null ? null : cores * tasks.length,
    memoryBytes: tasks.reduce((sum, one) => sum + one.memoryBytes, 0),
    memoryLimitBytes: tasks.reduce((sum, one) => sum + one.limitBytes, 0),
    requestsPerSecond: perSecond(requests),
    errorsPerSecond: perSecond(answers5xx),
  };
}

const groupKey = ({ app, environment }: Place, release: number, service: string): string =>
  `${app}/${environment}/r${release}/${service}`;
