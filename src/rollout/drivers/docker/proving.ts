import { formatDurationMs } from "../../../shared/duration.ts";
import { sleep } from "../../../shared/until.ts";
import { healthDeadlineMs, type Place, type Release, type ReleaseService, taskNames } from "../../release.ts";
import type { HealthReport, RolloutTarget } from "../../target.ts";
import type { Ground } from "./ground.ts";
import { healthNotes, judgeNew, judgeProved, type TaskFacts } from "./health.ts";
import { type Judged, newTaskWatch, type TaskWatch, type WatchedTask } from "./task-watch.ts";
import { backendsOf } from "./traffic.ts";

/** How often the router is asked while a task proves itself: a command on a local socket. One that takes long is worth fewer looks. */
const LOOK_EVERY_MS = { first: 15, later: 100 };
const FIRST_LOOKS_MS = 3_000;
/** Steady watching has time: the router's own checks decide. */
const WATCH_EVERY_MS = 200;
/** Whoever reads the failure looks at the first few tasks; fifty times the same evidence helps nobody. */
const EVIDENCE_TASKS = 5;

/** Waits for tasks to prove themselves, and watches that they go on to. */
export function newProving(ground: Ground): Pick<RolloutTarget, "awaitHealthy" | "watchHealth"> {
  const { provedWith } = ground;
  return {
    async awaitHealthy(place, release, services, { deadlineMs, onProgress, signal }) {
      const tasks = await watchedTasks(ground, place, release, services, () => 0);
      const watching = await newWatch(ground, place, tasks);
      const startedAt = Date.now();
      const isLate = ({ task }: Judged) =>
        Date.now() - startedAt >= Math.min(deadlineMs, healthDeadlineMs(task.service));
      for (;;) {
        signal?.throwIfAborted();
        const judged = await watching.look(judgeNew);
        for (const service of services) onProgress(progressOf(service, judged));
        const late = judged.filter((one) => one.verdict.is === "waiting" && isLate(one));
        const sick = judged.filter((one) => one.verdict.is === "failed" || late.includes(one));
        if (sick.length > 0) return await unhealthy(watching, sick, late);
        if (judged.every((one) => one.verdict.is === "healthy")) {
          for (const { task } of judged) provedWith.set(task.name, watching.restartsOf(task));
          return {
            status: "healthy",
            notes: services.flatMap((service) => healthNotes(service, factsIn(service, judged))),
          };
        }
        const isFirst = Date.now() - startedAt < FIRST_LOOKS_MS;
        await sleep(isFirst ? LOOK_EVERY_MS.first : LOOK_EVERY_MS.later, signal);
      }
    },

    async watchHealth(place, release, services, { forMs, signal }) {
      const tasks = await watchedTasks(ground, place, release, services, (name) => provedWith.get(name));
      const watching = await newWatch(ground, place, tasks);
      const endsAt = Date.now() + forMs;
      for (;;) {
        signal?.throwIfAborted();
        const judged = await watching.look(judgeProved);
        const sick = judged.filter((one) => one.verdict.is === "failed");
        if (sick.length > 0) return await unhealthy(watching, sick);
        const leftMs = endsAt - Date.now();
        if (leftMs <= 0) return { status: "healthy", notes: [] };
        await sleep(Math.min(leftMs, WATCH_EVERY_MS), signal);
      }
    },
  };
}

async function watchedTasks(
  { tasksOf }: Ground,
  place: Place,
  release: Release,
  services: ReleaseService[],
  restarts: (name: string) => number | undefined,
): Promise<WatchedTask[]> {
  const seen = new Map((await tasksOf(place)).map((one) => [one.name, one]));
  return services.flatMap((service) =>
    taskNames(place, release.number, service).map((name) => ({
      name,
      service,
      containerId: seen.get(name)?.id,
      address: seen.get(name)?.address,
      restarts: restarts(name),
    })),
  );
}

/** Watches tasks of a place, those that serve by the router's own checks. */
export async function newWatch({ docker, router }: Ground, place: Place, tasks: WatchedTask[]): Promise<TaskWatch> {
  const names = new Set(tasks.map((task) => task.name));
  const backends = backendsOf(await router.current(), place)
    .filter((backend) => backend.servers.some((server) => names.has(server.name)))
    .map((backend) => backend.name);
  return newTaskWatch(docker, router, backends, tasks);
}

async function unhealthy(watching: TaskWatch, sick: Judged[], late: Judged[] = []): Promise<HealthReport> {
  const evidence = await Promise.all(
    sick.slice(0, EVIDENCE_TASKS).map(async (one) => {
      const found = await watching.evidence(one.task, becauseOf(one.verdict));
      return late.includes(one) ? { ...found, summary: `${found.summary} ${patience(one.task.service)}` } : found;
    }),
  );
  const more =
    sick.length > EVIDENCE_TASKS ? ` ${sick.length - EVIDENCE_TASKS} more tasks are not healthy either.` : "";
  return { status: "unhealthy", reason: evidence.map((one) => one.summary).join(" ") + more, evidence };
}

function progressOf(service: ReleaseService, judged: Judged[]) {
  const own = judged.filter((one) => one.task.service.name === service.name);
  const waiting = own.find((one) => one.verdict.is !== "healthy");
  return {
    service: service.name,
    healthy: own.filter((one) => one.verdict.is === "healthy").length,
    wanted: service.count,
    detail: waiting === undefined ? "healthy" : becauseOf(waiting.verdict),
  };
}

/** How long a task was waited for, and what gives it longer: a slow start looks the same as none. */
function patience(service: ReleaseService): string {
  return `It was given ${formatDurationMs(healthDeadlineMs(service))}; a slower start needs a longer \`grace\` at its \`health\`.`;
}

function becauseOf(verdict: Judged["verdict"]): string {
  if (verdict.is === "failed") return verdict.because;
  return verdict.is === "waiting" ? verdict.detail : "healthy";
}

function factsIn(service: ReleaseService, judged: Judged[]): Pick<TaskFacts, "imageHealth" | "server"> {
  const own = judged.find((one) => one.task.service.name === service.name);
  return own?.facts ?? { imageHealth: "none", server: undefined };
}
