import { addAbortSignal, PassThrough } from "node:stream";
import { fail } from "../../shared/errors.ts";
import type { LogSink } from "../../shared/log-line.ts";
import { Secret } from "../../shared/secret.ts";
import { sleep } from "../../shared/until.ts";
import { type MeasuredService, nothingMeasured } from "../measurement.ts";
import {
  healthDeadlineMs,
  needsDowntime,
  type Place,
  type Release,
  type ReleaseService,
  servesTraffic,
  taskNames,
} from "../release.ts";
import type {
  Backing,
  BackingVariables,
  DesiredState,
  Evidence,
  ExecRequest,
  ExecSession,
  HealthReport,
  ObservedService,
  OneOffResult,
  RolloutTarget,
  TaskDrift,
  TaskVariables,
  TerminalSize,
} from "../target.ts";

/**
 * How a task behaves is told by its image's tag: `broken` never becomes healthy, `exits` ends with code 1 when it starts,
 * `crashes` is healthy until it gets traffic and ends then. Anything else is healthy at once.
 */
type MemoryTask = {
  name: string;
  release: number;
  service: string;
  serves: boolean;
  image: string;
  state: "running" | "paused" | "exited";
  traffic: ObservedService["traffic"];
  variables: TaskVariables;
  restarts: number;
  startedAt: number;
};

export type MemoryTarget = RolloutTarget & {
  /** Every effect in order, repeated calls that found their work done left out: `start shop.prod.web.r1-1`, `shift r1`. */
  effects: string[];
  /** Which release answers a request to the service now. */
  answering(place: Place, service: string): number | undefined;
  /** What somebody else did: removes a task behind Shipway's back. */
  lose(task: string): void;
  /** What somebody else did to the container of a backing service. */
  loseBacking(place: Place, name: string): void;
  stopBacking(place: Place, name: string): void;
  /** What somebody else did: gives a task another image, or puts a task of a release that nobody declares beside the others. */
  change(task: string): void;
  intrude(place: Place, name: string): void;
  /** The variables a task was started with. */
  variablesOf(task: string): TaskVariables | undefined;
};

/** Rollouts in memory, obeying the whole contract. `onCall` is called before each method with its name and may throw, as an engine that is gone does. */
export function memoryTarget(options: { onCall?: (method: string) => void | Promise<void> } = {}): MemoryTarget {
  const tasks = new Map<string, MemoryTask & { place: string }>();
  const finished = new Map<string, OneOffResult>();
  const execs = new Map<string, AbortController>();
  const prepared = new Set<string>();
  const backings = new Map<string, Backing & { state: "running" | "stopped" }>();
  /** Backing service → the engine that made its data. */
  const volumes = new Map<string, string>();
  const effects: string[] = [];
  const call = async (method: string) => await options.onCall?.(method);
  const inPlace = (place: Place) => [...tasks.values()].filter((task) => task.place === placeKey(place));
  const ofRelease = (place: Place, number: number) => inPlace(place).filter((task) => task.release === number);

  const remove = (task: MemoryTask) => {
    tasks.delete(task.name);
    effects.push(`stop ${task.name}`);
  };
  const shift = (place: Place, number: number) => {
    const moved = ofRelease(place, number).filter((task) => task.serves && task.traffic !== "serving");
    if (moved.length > 0) effects.push(`shift r${number}`);
    for (const task of inPlace(place).filter((one) => one.serves && one.traffic !== "standby")) {
      task.traffic = task.release === number ? "serving" : "draining";
    }
    for (const task of moved) {
      task.traffic = "serving";
      if (tagOf(task.image) === "crashes") task.restarts++;
    }
  };
  const start = (place: Place, release: Release, service: ReleaseService, variables: TaskVariables) => {
    for (const name of taskNames(place, release.number, service)) {
      if (tasks.get(name)?.state === "running") continue;
      const exits = tagOf(service.image) === "exits";
      tasks.set(name, {
        name,
        place: placeKey(place),
        release: release.number,
        service: service.name,
        serves: servesTraffic(service),
        image: service.image,
        state: exits ? "exited" : "running",
        traffic: servesTraffic(service) ? "draining" : "none",
        variables,
        restarts: 0,
        startedAt: Date.now(),
      });
      effects.push(`start ${name}`);
    }
  };
  const sick = (place: Place, release: Release, services: ReleaseService[]): Evidence[] =>
    services.flatMap((service) =>
      taskNames(place, release.number, service).flatMap((name) => {
        const evidence = evidenceOf(name, service, tasks.get(name));
        return evidence === undefined ? [] : [evidence];
      }),
    );

  return {
    effects,
    answering: (place, service) =>
      inPlace(place).find((task) => task.service === service && task.traffic === "serving" && task.state === "running")
        ?.release,
    lose: (task) => void tasks.delete(task),
    loseBacking: (place, name) => void backings.delete(backingKey(place, name)),
    stopBacking(place, name) {
      const found = backings.get(backingKey(place, name));
      if (found) found.state = "stopped";
    },
    change(name) {
      const task = tasks.get(name);
      if (task) task.image = `${task.image}-by-hand`;
    },
    intrude(place, name) {
      const unknown = { release: 0, service: name, serves: false, image: "other:1", traffic: "none" as const };
      const running = {
        state: "running" as const,
        variables: { env: {}, secrets: {} },
        restarts: 0,
        startedAt: Date.now(),
      };
      tasks.set(name, { name, place: placeKey(place), ...unknown, ...running });
    },
    variablesOf: (task) => tasks.get(task)?.variables,

    async observe(place) {
      await call("observe");
      return observed(inPlace(place));
    },
    async prepare(place) {
      await call("prepare");
      if (!prepared.has(placeKey(place))) effects.push(`prepare ${placeKey(place)}`);
      prepared.add(placeKey(place));
    },
    addressOf: (_place, service) => `http://${service.name}`,
    backingVariables(_place, wanted) {
      const variables: BackingVariables = {};
      for (const backing of wanted) {
        const name = variableOf(backing.name);
        variables[name] = new Secret(name, `memory://${backing.name}`);
      }
      return variables;
    },
    async observeBacking(place, wanted) {
      await call("observeBacking");
      return wanted.map(({ name, spec }) => {
        const found = backings.get(backingKey(place, name));
        return {
          name,
          state: found?.state ?? "missing",
          version: versionOf(found?.spec ?? spec),
          host: name,
          port: 1,
          variables: [variableOf(name)],
          ...(found && { container: `${placeKey(place)}.${name}` }),
          isChanged: found !== undefined && versionOf(found.spec) !== versionOf(spec),
        };
      });
    },
    async ensureBacking(place, wanted) {
      await call("ensureBacking");
      for (const backing of wanted) {
        const { name, spec } = backing;
        const key = backingKey(place, name);
        const before = volumes.get(key);
        if (before !== undefined && before !== spec.engine) throw otherEngine(name, before);
        volumes.set(key, spec.engine);
        const found = backings.get(key);
        if (found?.state === "running" && versionOf(found.spec) === versionOf(spec)) continue;
        effects.push(`start backing ${name}`);
        backings.set(key, { ...backing, state: "running" });
      }
    },
    async removeBacking(place, name, data) {
      await call("removeBacking");
      const key = backingKey(place, name);
      const hadContainer = backings.delete(key);
      if (hadContainer) effects.push(`stop backing ${name}`);
      return (data === "remove" && volumes.delete(key)) || hadContainer;
    },
    async runOnce(place, release, run, log, signal) {
      await call("runOnce");
      const key = `${placeKey(place)}/r${release.number}/${run.key}`;
      const before = finished.get(key);
      if (before !== undefined) return before;
      if (run.asked?.wasBegun) throw lostRun(run.service);
      signal?.throwIfAborted();
      await run.asked?.begin();
      const env = environmentOf(release, run);
      const result = await playCommand(run.command, env, run.deadlineMs, log, signal);
      finished.set(key, result);
      effects.push(`run ${run.key}`);
      return result;
    },
    async exec(_place, name, request) {
      await call("exec");
      const isBacking = [...backings.keys()].some((key) => key.endsWith(`/${name}`));
      if (tasks.get(name)?.state !== "running" && !isBacking) throw notRunning(name);
      const stop = new AbortController();
      execs.set(request.id, stop);
      effects.push(`exec ${name}`);
      return playExec(request, stop.signal);
    },
    async endExec(_place, _name, id) {
      await call("endExec");
      const stop = execs.get(id);
      if (stop === undefined || stop.signal.aborted) return;
      stop.abort();
      effects.push(`end exec ${id}`);
    },
    async forgetRun(place, key) {
      await call("forgetRun");
      for (const one of [...finished.keys()])
        if (one.startsWith(`${placeKey(place)}/`) && one.endsWith(`/${key}`)) finished.delete(one);
    },
    async startService(place, release, service, variables) {
      await call("startService");
      start(place, release, service, variables);
    },
    async awaitHealthy(place, release, services, { deadlineMs, onProgress, signal }) {
      await call("awaitHealthy");
      const startedAt = Date.now();
      const isLate = (name: string) => {
        const own = services.filter((service) => service.name === name).map(healthDeadlineMs);
        return Date.now() - startedAt >= Math.min(deadlineMs, ...own);
      };
      for (;;) {
        signal?.throwIfAborted();
        const evidence = sick(place, release, services);
        for (const service of services) {
          const unhealthy = evidence.filter((one) => one.service === service.name).length;
          const healthy = service.count - unhealthy;
          onProgress({ service: service.name, healthy, wanted: service.count, detail: evidence[0]?.summary ?? "ok" });
        }
        if (evidence.length === 0) return { status: "healthy", notes: [] };
        const isFinal = evidence.some((one) => one.state !== "running" || isLate(one.service));
        if (isFinal) return unhealthy(evidence);
        await sleep(5, signal);
      }
    },
    async watchHealth(place, release, services, { forMs, signal }) {
      await call("watchHealth");
      const endsAt = Date.now() + forMs;
      for (;;) {
        signal?.throwIfAborted();
        const evidence = sick(place, release, services);
        if (evidence.length > 0) return unhealthy(evidence);
        if (Date.now() >= endsAt) return { status: "healthy", notes: [] };
        await sleep(Math.min(5, forMs), signal);
      }
    },
    async shiftTraffic(place, release) {
      await call("shiftTraffic");
      shift(place, release.number);
    },
    async awaitDrained() {
      await call("awaitDrained");
      return { stillOpen: 0 };
    },
    async park(place, release) {
      await call("park");
      for (const task of ofRelease(place, release.number)) {
        const service = release.services.find((one) => one.name === task.service);
        if (!task.serves || service === undefined || needsDowntime(service)) remove(task);
        else if (task.state === "running") {
          task.state = "paused";
          task.traffic = "standby";
          effects.push(`park ${task.name}`);
        }
      }
    },
    async wake(place, release) {
      await call("wake");
      const ready: string[] = [];
      const missing: string[] = [];
      for (const service of release.services.filter(servesTraffic)) {
        const names = taskNames(place, release.number, service);
        for (const name of names) {
          const task = tasks.get(name);
          if (task?.state !== "paused") continue;
          task.state = "running";
          effects.push(`wake ${name}`);
        }
        const isThere = names.every((name) => tasks.get(name)?.state === "running");
        (isThere ? ready : missing).push(service.name);
      }
      return { ready, missing };
    },
    async stop(place, number, services) {
      await call("stop");
      for (const task of ofRelease(place, number)) {
        if (services === undefined || services.includes(task.service)) remove(task);
      }
    },
    async findDrift(place, desired) {
      await call("findDrift");
      return driftOf(place, desired);
    },
    async reconcile(place, desired) {
      await call("reconcile");
      const before = effects.length;
      reconcileTasks(place, desired);
      return effects.slice(before);
    },
    async readLogs(place, { release, service }, { sinceMs, follow, signal }, log) {
      await call("readLogs");
      const told = new Set<string>();
      for (;;) {
        const found = ofRelease(place, release).filter((task) => service === undefined || task.service === service);
        for (const task of found.filter(({ name }) => !told.has(name))) {
          told.add(task.name);
          const text = `${task.service} of r${task.release} says hello`;
          if (task.startedAt >= sinceMs) log(task.name, [{ at: task.startedAt, stream: "out", text }]);
        }
        if (!follow || signal.aborted || found.length === 0) return;
        await sleep(5, signal).catch(() => undefined);
      }
    },
    async tidy() {
      await call("tidy");
    },
    async measure(place, releases, { sinceMs }) {
      await call("measure");
      const everyMs = 60_000;
      const services = releases.flatMap(({ number, services: own }) =>
        own.map((service) => measuredService(service, number, ofRelease(place, number), everyMs)),
      );
      return { everyMs, sinceMs, services, notes: ["Figures of a runtime in memory."] };
    },
    async halt(place, spared) {
      await call("halt");
      for (const task of inPlace(place)) remove(task);
      const isSpared = (key: string) => spared.some((name) => key === `${placeKey(place)}/${name}`);
      for (const key of [...backings.keys()].filter((one) => one.startsWith(`${placeKey(place)}/`)))
        if (!isSpared(key)) backings.delete(key);
      if (spared.length === 0) prepared.delete(placeKey(place));
    },
    async destroy(place, data) {
      await call("destroy");
      for (const task of inPlace(place)) remove(task);
      const isHere = (key: string) => key.startsWith(`${placeKey(place)}/`);
      for (const key of [...backings.keys()].filter(isHere)) backings.delete(key);
      if (data === "remove") for (const key of [...volumes.keys()].filter(isHere)) volumes.delete(key);
      prepared.delete(placeKey(place));
      return [];
    },
  };

  function driftOf(place: Place, { live, standby, inProgress, backing = [] }: DesiredState): TaskDrift[] {
    const known = new Set([live?.release.number, standby?.number, ...inProgress]);
    const wanted = (live?.release.services ?? []).flatMap((service) =>
      taskNames(place, live?.release.number ?? 0, service).flatMap((name) => taskDrift(name, service, tasks.get(name))),
    );
    const gone = backing.filter(({ name }) => !backings.has(`${placeKey(place)}/${name}`));
    const strangers = inPlace(place).filter((one) => !known.has(one.release));
    return [
      ...wanted,
      ...gone.map(({ name }) => ({ name, what: "backing" as const, kind: "missing" as const, ...MENDED })),
      ...strangers.map(({ name }) => ({ name, what: "unknown" as const, kind: "unknown" as const, ...MENDED })),
    ];
  }

  function reconcileTasks(place: Place, { live, standby, inProgress }: DesiredState): void {
    const known = new Set([live?.release.number, standby?.number, ...inProgress]);
    for (const task of inPlace(place).filter((one) => !known.has(one.release))) remove(task);
    if (live === undefined) return;
    for (const service of live.release.services) {
      start(place, live.release, service, live.variables[service.name] ?? { env: {}, secrets: {} });
    }
    if (inProgress.length === 0) shift(place, live.release.number);
  }
}

const MENDED = { attributes: [], mendsItself: true };

function taskDrift(name: string, service: ReleaseService, task: MemoryTask | undefined): TaskDrift[] {
  const here = { name, what: "task" as const };
  if (task === undefined) return [{ ...here, kind: "missing", ...MENDED }];
  if (task.state !== "running") return [{ ...here, kind: "stopped", ...MENDED }];
  const attributes = [{ path: "image", before: service.image, after: task.image }];
  return [
    ...(task.image === service.image
      ? []
      : [{ ...here, kind: "changed" as const, attributes, mendsItself: false, remedy: "start it anew" }]),
    ...(task.serves && task.traffic !== "serving" ? [{ ...here, kind: "no-traffic" as const, ...MENDED }] : []),
  ];
}

/** Each task uses a tenth of what it was given, and answers ten requests a minute while it serves, one of them with 404. */
function measuredService(
  service: ReleaseService,
  release: number,
  tasks: MemoryTask[],
  everyMs: number,
): MeasuredService {
  const own = tasks.filter((task) => task.service === service.name);
  const running = own.filter((task) => task.state === "running");
  const serving = running.filter((task) => task.traffic === "serving").length;
  const at = Math.floor(Date.now() / everyMs) * everyMs - everyMs;
  const used = { ...nothingMeasured(at, everyMs), cpuPercent: 10, memoryPercent: 10 };
  const answered = { requests: serving * 10, answers4xx: serving, answers5xx: 0, meanMs: serving > 0 ? 5 : null };
  const latest = own.length === 0 ? null : { ...used, ...(servesTraffic(service) && answered) };
  return {
    release,
    service: service.name,
    traffic: own[0]?.traffic ?? "none",
    running: running.length,
    healthy: servesTraffic(service) && running.length > 0 ? running.length : null,
    latest,
    points: latest === null ? [] : [latest],
    tasks: own.map(({ name }) => ({ name, cpuPercent: 10, memoryMiB: service.memoryMiB / 10 })),
    unanswered: serving > 0 ? 0 : null,
  };
}

function placeKey(place: Place): string {
  return `${place.app}-${place.environment}`;
}

const backingKey = (place: Place, name: string) => `${placeKey(place)}/${name}`;
const variableOf = (name: string) => `${name.toUpperCase().replaceAll("-", "_")}_URL`;
const versionOf = ({ version }: Backing["spec"]) => version ?? "1";

function notRunning(task: string) {
  return fail("TASK_NOT_RUNNING", { message: `${task} does not run now.`, hint: "Look what runs: `shipway status`." });
}

/** As `playCommand`, and `cat` (stdin to stdout), `warn TEXT` (to stderr), `size` (of the terminal, each time it changes, until stdin ends). */
function playExec({ command, terminal }: ExecRequest, signal: AbortSignal): ExecSession {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const line = command.at(-1) ?? "";
  const sizes: TerminalSize[] = terminal ? [terminal] : [];
  const tell = ({ columns, rows }: TerminalSize) => void (line === "size" && stdout.write(`${columns}x${rows}\n`));
  const play = async (): Promise<number> => {
    if (line === "cat") for await (const chunk of addAbortSignal(signal, stdin)) stdout.write(chunk as Buffer);
    if (line === "size") {
      sizes.forEach(tell);
      for await (const _ of addAbortSignal(signal, stdin));
    }
    const [verb, ...words] = line.split(" ");
    if (verb === "warn") stderr.write(`${words.join(" ")}\n`);
    const print: LogSink = (lines) => void lines.forEach(({ text }) => void stdout.write(`${text}\n`));
    return (await playCommand(command, {}, 60_000, print, signal)).exitCode;
  };
  const ended = play()
    .catch(() => 143)
    .finally(() => {
      stdout.end();
      stderr.end();
    });
  return { stdin, stdout, stderr, resize: async (size) => tell(size), ended };
}

function lostRun(service: string) {
  return fail("RUN_OUTCOME_UNKNOWN", {
    message: `The command of ${service} was begun, and nothing can be found of it any more.`,
    hint: "Look whether its work is done, then run it again if it is not.",
  });
}

function otherEngine(name: string, before: string) {
  return fail("BACKING_REFUSED", {
    message: `The data of ${name} were made by ${before}.`,
    hint: "Remove them, or take another name.",
  });
}

function tagOf(image: string): string | undefined {
  return image.split(":").at(-1);
}

function observed(tasks: MemoryTask[]): ObservedService[] {
  const groups = new Map<string, ObservedService>();
  for (const task of tasks.sort((a, b) => a.release - b.release)) {
    const key = `${task.release}/${task.service}`;
    const group = groups.get(key) ?? { release: task.release, service: task.service, traffic: task.traffic, tasks: [] };
    group.tasks.push({ name: task.name, state: task.state });
    groups.set(key, group);
  }
  return [...groups.values()];
}

function evidenceOf(name: string, service: ReleaseService, task: MemoryTask | undefined): Evidence | undefined {
  const facts = { task: name, service: service.name, probes: [], listening: [], lastLines: [] };
  if (task === undefined) return { ...facts, state: "missing", summary: `${name} is gone.` };
  if (task.state === "exited") return { ...facts, state: "exited", exitCode: 1, summary: `${name} exited with 1.` };
  if (task.restarts > 0) {
    return { ...facts, state: "restarting", exitCode: 1, summary: `${name} exited with 1 after it got traffic.` };
  }
  if (tagOf(task.image) !== "broken") return undefined;
  const probe = `GET http://${name}/ → 500`;
  return { ...facts, state: "running", probes: [probe], summary: `${name} answers 500.` };
}

function unhealthy(evidence: Evidence[]): HealthReport {
  return { status: "unhealthy", reason: evidence.map((one) => one.summary).join(" "), evidence };
}

function environmentOf(release: Release, run: { service: string; variables: TaskVariables }): Record<string, string> {
  const service = release.services.find(({ name }) => name === run.service);
  const secrets = Object.entries(run.variables.secrets).map(([name, secret]) => [name, secret.reveal()]);
  return { ...service?.env, ...run.variables.env, ...Object.fromEntries(secrets) };
}

/** Plays the few shell lines that tests use: `echo TEXT` (a word `$NAME` is that variable), `sleep SECONDS`, `exit CODE`, joined by `;`. */
async function playCommand(
  command: string[],
  env: Record<string, string>,
  deadlineMs: number,
  log: LogSink,
  signal: AbortSignal | undefined,
): Promise<OneOffResult> {
  const endsAt = Date.now() + deadlineMs;
  for (const part of (command.at(-1) ?? "").split(";")) {
    signal?.throwIfAborted();
    const [verb, ...rest] = part.trim().split(" ");
    const words = rest.map((word) => (word.startsWith("$") ? (env[word.slice(1)] ?? "") : word));
    if (verb === "echo") log([{ at: Date.now(), stream: "out", text: words.join(" ") }]);
    if (verb === "exit") return { exitCode: Number(rest[0]), outOfMemory: false, timedOut: false };
    if (verb !== "sleep") continue;
    const wantedMs = Number(rest[0]) * 1_000;
    const leftMs = endsAt - Date.now();
    await sleep(Math.min(wantedMs, leftMs), signal);
    if (wantedMs > leftMs) return { exitCode: 137, outOfMemory: false, timedOut: true };
  }
  return { exitCode: 0, outOfMemory: false, timedOut: false };
}
