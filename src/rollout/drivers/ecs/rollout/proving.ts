import { formatDurationMs } from "../../../../shared/duration.ts";
import { sleep } from "../../../../shared/until.ts";
import { healthDeadlineMs, type Place, type Release, type ReleaseService, taskName } from "../../../release.ts";
import type { Evidence, HealthReport, RolloutTarget } from "../../../target.ts";
import {
  isNoFault,
  isOutOfMemory,
  isOwnFault,
  judgeNew,
  judgeProved,
  type SeenTask,
  type ServiceFacts,
  targetText,
  type Verdict,
} from "../account/judge.ts";
import { type Ground, serviceKey } from "../ground.ts";
import { logGroupName, logPrefix, logStreamName, SLOTS, taskIdOf } from "../names.ts";
import { lastLines } from "../watch/task-logs.ts";

/** As many as fit one screen below the sentence that explains them. */
const EVIDENCE_LINES = 50;
/** Whoever reads the failure looks at the first few tasks. */
const EVIDENCE_TASKS = 5;

/** Waits for tasks to prove themselves, and watches that they go on to. */
export function newProving(ground: Ground): Pick<RolloutTarget, "awaitHealthy" | "watchHealth"> {
  const { times } = ground;
  /** Tasks that had stopped before the release was found healthy. */
  const stoppedBefore = new Map<string, Set<string>>();
  return {
    async awaitHealthy(place, release, services, { deadlineMs, onProgress, signal }) {
      const startedAt = Date.now();
      // A task that does not pass is replaced, and what it answered goes with it.
      const answered = new Map<string, string[]>();
      const isLate = (service: ReleaseService) =>
        Date.now() - startedAt >= Math.min(deadlineMs, healthDeadlineMs(service)) + times.startAllowanceMs;
      for (;;) {
        signal?.throwIfAborted();
        const mayBeUnseen = Date.now() - startedAt < times.unseenMs;
        const judged = (await factsOf(ground, place, release, services)).map((seen) => {
          const facts = { ...seen, mayBeUnseen };
          return { facts, verdict: judgeNew(facts, Date.now()) };
        });
        for (const { facts, verdict } of judged) {
          onProgress(progressOf(facts.service, verdict));
          const probes = probesOf(facts);
          if (probes.length > 0) answered.set(facts.service.name, probes);
        }
        const sick = judged.flatMap(({ facts, verdict }) => {
          if (verdict.is === "failed") return [{ facts, because: verdict.because }];
          if (verdict.is === "healthy" || !isLate(facts.service)) return [];
          return [{ facts, because: `${verdict.detail}. ${patience(facts.service)}` }];
        });
        if (sick.length > 0) return await unhealthy(ground, place, release, { sick, answered });
        if (judged.every(({ verdict }) => verdict.is === "healthy")) {
          for (const { facts } of judged) {
            const key = serviceKey(place, release.number, facts.service.name);
            stoppedBefore.set(key, new Set(facts.died.map((task) => task.arn)));
          }
          return { status: "healthy", notes: [] };
        }
        await sleep(jittered(times.watchMs), signal);
      }
    },

    async watchHealth(place, release, services, { forMs, signal }) {
      const endsAt = Date.now() + forMs;
      for (;;) {
        signal?.throwIfAborted();
        const judged = (await factsOf(ground, place, release, services)).map((facts) => {
          const known = stoppedBefore.get(serviceKey(place, release.number, facts.service.name));
          return { ...facts, died: facts.died.filter((task) => !known?.has(task.arn)) };
        });
        const sick = judged.flatMap((facts) => {
          const verdict = judgeProved(facts, Date.now());
          return verdict.is === "failed" ? [{ facts, because: verdict.because }] : [];
        });
        if (sick.length > 0) return await unhealthy(ground, place, release, { sick, answered: new Map() });
        const leftMs = endsAt - Date.now();
        if (leftMs <= 0) return { status: "healthy", notes: [] };
        await sleep(Math.min(leftMs, jittered(times.watchMs)), signal);
      }
    },
  };
}

async function factsOf(
  { reader, recall, settings }: Ground,
  place: Place,
  release: Release,
  services: ReleaseService[],
): Promise<ServiceFacts[]> {
  const slots = await reader.slotsOf(
    place,
    services.map((one) => one.name),
  );
  return await Promise.all(
    services.map(async (service) => {
      const own = slots.get(service.name) ?? {};
      const slot = SLOTS.map((name) => own[name]).find((one) => one?.primary?.release === release.number);
      const id = slot?.primary?.id;
      const tasks = id === undefined ? [] : await reader.startedTasks(id);
      const mayHaveDied = slot?.primary !== undefined && (slot.primary.failedTasks > 0 || tasks.length < service.count);
      const stopped =
        slot !== undefined && mayHaveDied ? await reader.stoppedTasks({ serviceName: slot.serviceName }) : [];
      const targets = slot?.targetGroup === undefined ? [] : await reader.targets(slot.targetGroup);
      return {
        service,
        slot,
        taskDefinition: recall.startedWith.get(serviceKey(place, release.number, service.name)),
        tasks: tasks.filter((task) => task.status !== "STOPPED"),
        died: stopped.filter((task) => task.startedBy === id && !isNoFault(task)),
        targets,
        isOnSpot: settings.spot === true,
        mayBeUnseen: false,
      };
    }),
  );
}

/** What tasks of these answered the load balancer's checks. */
function probesOf({ service, tasks, targets }: ServiceFacts): string[] {
  return targets
    .filter((one) => one.state === "unhealthy" && tasks.some((task) => task.ip === one.ip))
    .map((one) => targetText(service, one));
}

async function evidenceOf(
  { aws, install }: Ground,
  place: Place,
  release: Release,
  facts: ServiceFacts,
  { because, answered }: { because: string; answered: string[] },
): Promise<Evidence> {
  const { service, died, tasks } = facts;
  // The one that it is judged by: later ones may have been ended because of it, without an exit code of their own.
  const worst: SeenTask | undefined = died.find(isOwnFault) ?? died.at(-1) ?? tasks[0];
  const name = taskName(place, service.name, release.number, 1);
  const seen = probesOf(facts);
  const lines =
    worst === undefined
      ? []
      : await lastLines(
          aws,
          {
            group: logGroupName(install, place),
            stream: logStreamName(logPrefix(release.number), service.name, worst.arn),
          },
          EVIDENCE_LINES,
        );
  const id = worst === undefined ? "" : ` (ECS task ${taskIdOf(worst.arn)})`;
  return {
    task: name,
    service: service.name,
    summary: `${name}${id}: ${because}`,
    state: worst === undefined ? "missing" : died.length > 0 ? "exited" : "running",
    // That of a task which ECS ended says nothing of why.
    ...(worst?.exitCode !== undefined && isOwnFault(worst) && { exitCode: worst.exitCode }),
    ...(worst !== undefined && isOutOfMemory(worst) && { outOfMemory: true }),
    probes: seen.length > 0 ? seen : answered,
    listening: [],
    lastLines: lines.map((line) => line.text),
  };
}

async function unhealthy(
  ground: Ground,
  place: Place,
  release: Release,
  { sick, answered }: { sick: { facts: ServiceFacts; because: string }[]; answered: Map<string, string[]> },
): Promise<HealthReport> {
  const evidence = await Promise.all(
    sick.slice(0, EVIDENCE_TASKS).map(({ facts, because }) =>
      evidenceOf(ground, place, release, facts, {
        because,
        answered: answered.get(facts.service.name) ?? [],
      }),
    ),
  );
  return { status: "unhealthy", reason: evidence.map((one) => one.summary).join(" "), evidence };
}

/** So that the pollers of many environments do not all ask in the same moment. */
const jittered = (ms: number) => ms * (0.8 + Math.random() * 0.4);

function progressOf(service: ReleaseService, verdict: Verdict) {
  const healthy = verdict.is === "healthy" ? service.count : verdict.is === "waiting" ? verdict.healthy : 0;
  const detail = verdict.is === "healthy" ? "healthy" : verdict.is === "waiting" ? verdict.detail : verdict.because;
  const isHeldUp = verdict.is === "waiting" && healthy >= service.count;
  return { service: service.name, healthy, wanted: service.count, detail, ...(isHeldUp && { waitsFor: detail }) };
}

function patience(service: ReleaseService): string {
  return `It was given ${formatDurationMs(healthDeadlineMs(service))} beside the start on Fargate; a slower start needs a longer \`grace\` at its \`health\`.`;
}
