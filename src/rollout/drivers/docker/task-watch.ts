import type Docker from "dockerode";
import type { ReleaseService } from "../../release.ts";
import type { Evidence } from "../../target.ts";
import { askingUnless } from "./docker-errors.ts";
import { collectEvidence } from "./evidence.ts";
import { execIn } from "./exec.ts";
import type { TaskFacts, Verdict } from "./health.ts";
import type { Router, ServerStatus } from "./router.ts";

/** One task to look at. */
export type WatchedTask = {
  name: string;
  service: ReleaseService;
  /** undefined when there is no such container. */
  containerId: string | undefined;
  address: string | undefined;
  /** Restarts it may have behind it: 0 for one that was just started. undefined takes what the first look finds. */
  restarts: number | undefined;
};

export type Judged = { task: WatchedTask; facts: TaskFacts; verdict: Verdict };
export type Judge = (service: ReleaseService, facts: TaskFacts) => Verdict;

/** How often the engine is asked whether a task still runs: an exit is seen a quarter of a second late at worst. */
const INSPECT_EVERY_MS = 250;
/** How often a health command is run while a task is proved; the declared interval is for steady watching. */
const COMMAND_EVERY_MS = 250;
/** Probe results kept for the evidence: what changed, not every repetition. */
const PROBES_KEPT = 10;

type Memory = {
  restarts: number | undefined;
  inspectedAt: number;
  container: Pick<TaskFacts, "container" | "imageHealth"> & { startedAt: number };
  command: TaskFacts["command"];
  commandRunning: boolean;
  commandAt: number;
  probes: string[];
};

export type TaskWatch = ReturnType<typeof newTaskWatch>;

/** Looks at tasks again and again: the router's checks each time, the engine and health commands at their own pace. */
export function newTaskWatch(docker: Docker, router: Router, backends: string[], tasks: WatchedTask[]) {
  const memories = new Map(tasks.map((task) => [task.name, newMemory(task)]));
  const memoryOf = (task: WatchedTask): Memory => memories.get(task.name) ?? newMemory(task);

  async function look(judge: Judge): Promise<Judged[]> {
    const servers = await statuses();
    return await Promise.all(
      tasks.map(async (task) => {
        const memory = memoryOf(task);
        await inspect(docker, task, memory, false);
        runCommand(docker, task, memory);
        const first = {
          task,
          facts: factsOf(task, memory, servers),
          verdict: judge(task.service, factsOf(task, memory, servers)),
        };
        if (first.verdict.is !== "healthy") return first;
        // It may have exited since the engine was asked last.
        await inspect(docker, task, memory, true);
        const facts = factsOf(task, memory, servers);
        return { task, facts, verdict: judge(task.service, facts) };
      }),
    );
  }

  async function statuses(): Promise<Map<string, ServerStatus>> {
    if (backends.length === 0) return new Map();
    const all = await router.status(backends);
    const found = new Map(all.map((status) => [status.name, status]));
    for (const task of tasks) rememberProbe(memoryOf(task), task, found.get(task.name));
    return found;
  }

  return {
    look,
    restartsOf: (task: WatchedTask) => memoryOf(task).restarts,
    evidence: (task: WatchedTask, because: string): Promise<Evidence> =>
      collectEvidence(docker, {
        task: task.name,
        containerId: task.containerId,
        service: task.service,
        address: task.address,
        probes: memoryOf(task).probes,
        because,
      }),
  };
}

function newMemory(task: WatchedTask): Memory {
  return {
    restarts: task.restarts,
    inspectedAt: 0,
    container: { container: "running", imageHealth: "none", startedAt: Date.now() },
    command: task.service.health?.command === undefined ? undefined : { passed: 0, failed: 0, last: "" },
    commandRunning: false,
    commandAt: 0,
    probes: [],
  };
}

function factsOf(task: WatchedTask, memory: Memory, servers: Map<string, ServerStatus>): TaskFacts {
  const { startedAt, ...container } = memory.container;
  return { ...container, upMs: Date.now() - startedAt, server: servers.get(task.name), command: memory.command };
}

async function inspect(docker: Docker, task: WatchedTask, memory: Memory, isDue: boolean): Promise<void> {
  const id = task.containerId;
  if (!isDue && Date.now() - memory.inspectedAt < INSPECT_EVERY_MS) return;
  memory.inspectedAt = Date.now();
  const info =
    id === undefined
      ? undefined
      : await askingUnless([404], "Looking at a task", () => docker.getContainer(id).inspect());
  if (info === undefined) {
    memory.container = { container: "missing", imageHealth: "none", startedAt: 0 };
    return;
  }
  const restarts = (info as { RestartCount?: number }).RestartCount ?? 0;
  memory.restarts ??= restarts;
  const hasEnded = !info.State.Running || info.State.Restarting || restarts > memory.restarts;
  memory.container = {
    container: hasEnded ? "ended" : "running",
    imageHealth: imageHealthOf(info.State.Health?.Status),
    startedAt: Date.parse(info.State.StartedAt),
  };
}

function imageHealthOf(status: string | undefined): TaskFacts["imageHealth"] {
  return status === "starting" || status === "healthy" || status === "unhealthy" ? status : "none";
}

/** Starts the health command when it is due; its result counts at the next look, so a slow one holds nobody up. */
function runCommand(docker: Docker, task: WatchedTask, memory: Memory): void {
  const { health } = task.service;
  const id = task.containerId;
  if (health?.command === undefined || id === undefined || memory.commandRunning) return;
  if (Date.now() - memory.commandAt < Math.min(COMMAND_EVERY_MS, health.interval)) return;
  memory.commandAt = Date.now();
  memory.commandRunning = true;
  execIn(docker, id, health.command, { timeoutMs: health.timeout })
    .then(({ exitCode, output }) => {
      const before = memory.command ?? { passed: 0, failed: 0, last: "" };
      const last = `health command exited with ${exitCode}${output === "" ? "" : `: ${output.split("\n").at(-1)}`}`;
      memory.command =
        exitCode === 0
          ? { passed: before.passed + 1, failed: 0, last }
          : { passed: 0, failed: before.failed + 1, last };
      remember(memory, last);
    })
    // The engine is gone: the next look finds out and says so.
    .catch(() => undefined)
    .finally(() => {
      memory.commandRunning = false;
    });
}

function rememberProbe(memory: Memory, task: WatchedTask, status: ServerStatus | undefined): void {
  if (status === undefined || status.lastCheck === "") return;
  remember(
    memory,
    `router check of ${task.address ?? status.address}:${task.service.port ?? "?"} → ${status.lastCheck}`,
  );
}

function remember(memory: Memory, probe: string): void {
  if (memory.probes.at(-1) === probe) return;
  memory.probes.push(probe);
  memory.probes.splice(0, memory.probes.length - PROBES_KEPT);
}
