import type Docker from "dockerode";
import { formatDurationMs } from "../../../shared/duration.ts";
import { fail } from "../../../shared/errors.ts";
import { newKeyedLock } from "../../../shared/keyed-lock.ts";
import { sleep } from "../../../shared/until.ts";
import {
  healthDeadlineMs,
  needsDowntime,
  type Place,
  type Release,
  type ReleaseService,
  servesTraffic,
  taskNames,
} from "../../release.ts";
import { type HealthReport, MOST_PAST_LINES, type ObservedService, type RolloutTarget } from "../../target.ts";
import { newAddressPool } from "./address-pool.ts";
import {
  type BackingProofs,
  backingVariables,
  ensureBackingService,
  observeBackingService,
  removeBackingService,
} from "./backing.ts";
import type { ImageSettings } from "./compare-container.ts";
import { readPastLines } from "./container-logs.ts";
import {
  listContainers,
  pauseContainer,
  removeContainer,
  type SeenContainer,
  sideBySide,
  stopContainer,
} from "./containers.ts";
import { asking, askingUnless } from "./docker-errors.ts";
import { endExec, notRunning, startExec } from "./exec-session.ts";
import { followTasks } from "./follow-tasks.ts";
import { healthNotes, judgeNew, judgeProved, type TaskFacts } from "./health.ts";
import { newMeasuring } from "./measuring.ts";
import { backendName, backingName, labelFilter, networkName, placeLabels, prefixed, releaseOfTask } from "./names.ts";
import { ensureNetwork, findNetwork, type PlaceNetwork, removeNetwork } from "./network.ts";
import { mend } from "./reconcile.ts";
import type { Router, RouterServer } from "./router.ts";
import { runOneOff } from "./run-once.ts";
import { newStarter } from "./start-tasks.ts";
import { prefixFor } from "./subnet.ts";
import { lookForDrift } from "./task-drift.ts";
import { type Judged, newTaskWatch, type WatchedTask } from "./task-watch.ts";
import { backendsOf, serversOf, shiftedTo, withBackends, withoutPlace, withoutTasks, withState } from "./traffic.ts";
import { newUseSamples, type UseSamples } from "./use-samples.ts";

export type DockerTargetOptions = {
  docker: Docker;
  router: Router;
  /** Keeps two Shipways on one engine apart; `default` adds no prefix to names. */
  instance: string;
  /** The block that environments' networks are cut from: `10.213.0.0/16`. */
  subnetPool: string;
  log?: { debug(fields: object, message: string): void };
  /** An image with `sh`, `grep` and `kill`, for helpers: the router's has them, and is there. */
  toolImage: string;
  /** A place that was changed this recently is not reconciled. */
  quietMs?: number;
  /** What tasks used lately; without, it is looked at only when somebody asks. */
  samples?: UseSamples;
};

/** Whoever reconciles may have read what is desired just before a deployment began; the next round comes soon enough. */
const QUIET_MS = 5_000;

/** A network that is made for a backing service, before any release is known, has room for the tasks of most. */
const TASKS_TO_COME = 25;

/** How often the router is asked while a task proves itself: a command on a local socket. One that takes long is worth fewer looks. */
const LOOK_EVERY_MS = { first: 15, later: 100 };
const FIRST_LOOKS_MS = 3_000;
/** Steady watching has time: the router's own checks decide. */
const WATCH_EVERY_MS = 200;
const DRAIN_LOOK_EVERY_MS = 25;
/** For a task that answers nobody: a program that ignores SIGTERM would otherwise hold up the deployment for all of its `stopTimeout`. */
const IDLE_STOP_S = 2;
/** Whoever reads the failure looks at the first few tasks; fifty times the same evidence helps nobody. */
const EVIDENCE_TASKS = 5;

/** Tasks as containers of one Docker Engine, traffic through the router. */
export function dockerTarget(options: DockerTargetOptions): RolloutTarget {
  const { docker, router, instance } = options;
  const addresses = newAddressPool(docker, instance);
  const routerAddresses = new Map<string, string>();
  /** Restarts that tasks had behind them when they were found healthy, so that one between two watches is not overlooked. */
  const provedWith = new Map<string, number | undefined>();
  /** When a place was changed last, so that a reconciliation notices that its picture is out of date. */
  const changedAt = new Map<string, number>();
  const proofs: BackingProofs = new Map();
  /** The API, a rollout and a reconciliation may all want the same backing service at once. */
  const lockBacking = newKeyedLock();
  const lockNetwork = newKeyedLock();

  const imageSettings = new Map<string, ImageSettings>();

  const keyOf = (place: Place) => networkName(instance, place);
  const touch = (place: Place) => changedAt.set(keyOf(place), Date.now());
  const tasksOf = async (place: Place) =>
    (await listContainers(docker, instance, place)).filter((one) => one.role === "task");

  type AttachedNetwork = { network: PlaceNetwork; routerAddress: string };
  /** One at a time: the engine lets two who look and find no network of that name make one each, and then refuses the name as ambiguous. */
  const attachedNetwork = (place: Place, tasks = 1): Promise<AttachedNetwork> =>
    lockNetwork(keyOf(place), () => attachNetwork(place, tasks));

  async function attachNetwork(place: Place, tasks: number): Promise<AttachedNetwork> {
    const network = await ensureNetwork(docker, {
      instance,
      place,
      pool: options.subnetPool,
      prefix: prefixFor(tasks),
    });
    const known = routerAddresses.get(network.name);
    if (known !== undefined) return { network, routerAddress: known };
    const { address } = await router.attach(network.name);
    routerAddresses.set(network.name, address);
    return { network, routerAddress: address };
  }

  const starter = newStarter({ docker, router, instance, addresses, attachedNetwork });

  async function watchedTasks(
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

  async function newWatch(place: Place, tasks: WatchedTask[]) {
    const names = new Set(tasks.map((task) => task.name));
    const backends = backendsOf(await router.current(), place)
      .filter((backend) => backend.servers.some((server) => names.has(server.name)))
      .map((backend) => backend.name);
    return newTaskWatch(docker, router, backends, tasks);
  }

  async function unhealthy(
    watch: Awaited<ReturnType<typeof newWatch>>,
    sick: Judged[],
    late: Judged[] = [],
  ): Promise<HealthReport> {
    const evidence = await Promise.all(
      sick.slice(0, EVIDENCE_TASKS).map(async (one) => {
        const found = await watch.evidence(one.task, becauseOf(one.verdict));
        return late.includes(one) ? { ...found, summary: `${found.summary} ${patience(one.task.service)}` } : found;
      }),
    );
    const more =
      sick.length > EVIDENCE_TASKS ? ` ${sick.length - EVIDENCE_TASKS} more tasks are not healthy either.` : "";
    return { status: "unhealthy", reason: evidence.map((one) => one.summary).join(" ") + more, evidence };
  }

  const samples = options.samples ?? newUseSamples({ docker, router, instance });
  const target: RolloutTarget = {
    ...newMeasuring((place) => target.observe(place), { samples, router }),

    async observe(place) {
      const [tasks, state] = await Promise.all([tasksOf(place), router.current()]);
      return observedServices(tasks, serversOf(state, place));
    },

    async prepare(place, release) {
      const tasks = release.services.reduce((total, service) => total + service.count, 0);
      await router.ensure();
      routerAddresses.delete(networkName(instance, place));
      const { routerAddress } = await attachedNetwork(place, tasks);
      await router.update((state) => withBackends(state, place, release, routerAddress));
    },

    // The router, by the extra host that every task gets.
    addressOf: (_place, service) => `http://${service.name}`,

    backingVariables: (place, backing) => Object.assign({}, ...backing.map((one) => backingVariables(place, one))),

    async observeBacking(place, backing) {
      const seeing = { docker, instance, place, network: keyOf(place), proofs };
      return Promise.all(backing.map((one) => observeBackingService(seeing, one)));
    },

    async ensureBacking(place, backing, log, signal) {
      if (backing.length === 0) return;
      const { network } = await attachedNetwork(place, TASKS_TO_COME);
      await sideBySide(backing, (one) =>
        lockBacking(backingName(instance, place, one.name), () =>
          ensureBackingService(
            {
              docker,
              instance,
              place,
              network: network.name,
              lendAddress: (use) => addresses.lend(place, network, 1, ([address = ""]) => use(address)),
              log,
              signal,
              proofs,
            },
            one,
          ),
        ),
      );
    },

    removeBacking: (place, name, data) =>
      lockBacking(backingName(instance, place, name), () =>
        removeBackingService({ docker, instance, place, proofs }, name, data),
      ),

    async runOnce(place, release, run, log, signal) {
      const { network, routerAddress } = await attachedNetwork(place);
      const service = serviceOf(release, run.service);
      return await runOneOff(
        { ...run, docker, instance, place, release, service, network: network.name, routerAddress },
        log,
        signal,
      );
    },

    async exec(place, task, request) {
      const { id } = await runningContainer(place, task);
      return startExec(docker, id, task, request);
    },

    async endExec(place, task, id) {
      const found = await findExecutable(place, task);
      if (found?.state === "running") await endExec({ docker, instance, toolImage: options.toolImage }, found.id, id);
    },

    async forgetRun(place, key) {
      const seen = await listContainers(docker, instance, place);
      const runs = seen.filter((one) => (one.role === "run" || one.role === "oneoff") && one.name === key);
      await sideBySide(runs, (one) => removeContainer(docker, one.id));
    },

    async startService(place, release, service, variables) {
      touch(place);
      const startedAt = Date.now();
      await starter.startTasks(place, release, service, variables, taskNames(place, release.number, service));
      options.log?.debug(
        { service: service.name, release: release.number, ms: Date.now() - startedAt },
        "tasks started",
      );
    },

    async awaitHealthy(place, release, services, { deadlineMs, onProgress, signal }) {
      const tasks = await watchedTasks(place, release, services, () => 0);
      const watch = await newWatch(place, tasks);
      const startedAt = Date.now();
      const isLate = ({ task }: Judged) =>
        Date.now() - startedAt >= Math.min(deadlineMs, healthDeadlineMs(task.service));
      for (;;) {
        signal?.throwIfAborted();
        const judged = await watch.look(judgeNew);
        for (const service of services) onProgress(progressOf(service, judged));
        const late = judged.filter((one) => one.verdict.is === "waiting" && isLate(one));
        const sick = judged.filter((one) => one.verdict.is === "failed" || late.includes(one));
        if (sick.length > 0) return await unhealthy(watch, sick, late);
        if (judged.every((one) => one.verdict.is === "healthy")) {
          for (const { task } of judged) provedWith.set(task.name, watch.restartsOf(task));
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
      const tasks = await watchedTasks(place, release, services, (name) => provedWith.get(name));
      const watch = await newWatch(place, tasks);
      const endsAt = Date.now() + forMs;
      for (;;) {
        signal?.throwIfAborted();
        const judged = await watch.look(judgeProved);
        const sick = judged.filter((one) => one.verdict.is === "failed");
        if (sick.length > 0) return await unhealthy(watch, sick);
        const leftMs = endsAt - Date.now();
        if (leftMs <= 0) return { status: "healthy", notes: [] };
        await sleep(Math.min(leftMs, WATCH_EVERY_MS), signal);
      }
    },

    async shiftTraffic(place, release) {
      touch(place);
      await router.update((state) => {
        const known = serversOf(state, place);
        const missing = servingTasks(place, release).filter((name) => !known.has(name));
        if (missing.length > 0)
          throw new Error(`the router does not know ${missing.join(", ")}: traffic stays where it is`);
        return shiftedTo(state, place, release);
      });
    },

    async awaitDrained(place, serving, deadlineMs) {
      const backends = backendsOf(await router.current(), place).map((backend) => backend.name);
      const endsAt = Date.now() + deadlineMs;
      for (;;) {
        const statuses = backends.length === 0 ? [] : await router.status(backends);
        const open = statuses
          .filter((one) => one.admin === "drain" && !one.name.includes(`-r${serving}-`))
          .reduce((total, one) => total + one.inFlight, 0);
        if (open === 0 || Date.now() >= endsAt) return { stillOpen: open };
        await sleep(DRAIN_LOOK_EVERY_MS);
      }
    },

    async park(place, release) {
      touch(place);
      await parkRelease(place, release);
    },

    async wake(place, release) {
      touch(place);
      const services = release.services.filter(servesTraffic);
      const awake = await Promise.all(services.map((service) => wakeService(place, release, service)));
      return {
        ready: services.filter((_, index) => awake[index]).map((service) => service.name),
        missing: services.filter((_, index) => !awake[index]).map((service) => service.name),
      };
    },

    async stop(place, release, services) {
      touch(place);
      await stopRelease(place, release, services);
    },

    findDrift: (place, desired) => lookForDrift(place, desired, { docker, router, instance, images: imageSettings }),

    async reconcile(place, desired) {
      const startedAt = Date.now();
      const changed = () => changedAt.get(keyOf(place)) ?? 0;
      if (changed() > startedAt - (options.quietMs ?? QUIET_MS)) return [];
      return await mend(place, desired, {
        docker,
        router,
        starter,
        prepare: target.prepare,
        stopRelease,
        parkRelease,
        seen: () => listContainers(docker, instance, place),
        isOutdated: () => changed() >= startedAt,
        newWatch,
      });
    },

    async readLogs(place, { release, service }, { sinceMs, follow, signal }, log) {
      const list = async () =>
        (await tasksOf(place)).filter(
          (one) => one.release === release && (service === undefined || one.service === service),
        );
      const following = { sinceMs, signal };
      if (follow) return await followTasks(docker, list, following, log);
      const reading = { ...following, atMost: MOST_PAST_LINES };
      for (const { id, name } of await list()) await readPastLines(docker, id, reading, (lines) => log(name, lines));
    },

    // Nothing of a release that is stopped stays here but its image, which the builder prunes.
    tidy: async () => undefined,
    async destroy(place, data) {
      touch(place);
      const seen = await listContainers(docker, instance, place);
      await router.update((state) => withoutPlace(state, place));
      // What keeps its data is ended gracefully.
      await sideBySide(seen, (one) =>
        data === "keep" ? stopContainer(docker, one.id) : removeContainer(docker, one.id),
      );
      const name = networkName(instance, place);
      if ((await findNetwork(docker, name)) !== undefined) {
        await router.detach(name);
        await removeNetwork(docker, name);
      }
      routerAddresses.delete(name);
      if (data === "remove") await removeVolumes(place);
      return [];
    },
  };
  return target;

  async function findExecutable(place: Place, name: string): Promise<SeenContainer | undefined> {
    const seen = await listContainers(docker, instance, place);
    return seen.find((one) => (one.role === "task" || one.role === "backing") && one.name === name);
  }

  async function runningContainer(place: Place, name: string): Promise<SeenContainer> {
    const found = await findExecutable(place, name);
    if (found?.state === "running") return found;
    throw notRunning(name);
  }

  /** @returns the tasks that were paused */
  async function parkRelease(place: Place, release: Release): Promise<string[]> {
    const pausable = new Set(
      release.services
        .filter((service) => servesTraffic(service) && !needsDowntime(service))
        .flatMap((service) => taskNames(place, release.number, service)),
    );
    const tasks = (await tasksOf(place)).filter((one) => one.release === release.number);
    await router.update((state) => withState(state, place, pausable, "maint"));
    // A paused task would leave its clients (a download, a websocket) hanging: it runs on, and reconciliation parks it later.
    const busy = await busyTasks(place);
    const idle = tasks.filter((one) => pausable.has(one.name) && one.state !== "paused" && !busy.has(one.name));
    const others = tasks.filter((one) => !pausable.has(one.name));
    await Promise.all([sideBySide(idle, (one) => pauseContainer(docker, one.id)), stopTasks(place, others)]);
    return [...idle, ...others].map((one) => one.name);
  }

  async function busyTasks(place: Place): Promise<Set<string>> {
    const backends = backendsOf(await router.current(), place).map((backend) => backend.name);
    const statuses = backends.length === 0 ? [] : await router.status(backends);
    return new Set(statuses.filter((one) => one.inFlight > 0).map((one) => one.name));
  }

  async function stopRelease(place: Place, release: number, services?: string[]): Promise<void> {
    const seen = (await listContainers(docker, instance, place)).filter((one) => one.release === release);
    const tasks = seen.filter((one) => one.role === "task");
    if (services !== undefined) {
      // Their back ends stay: what makes way is followed by the tasks it made way for.
      const keep = new Set(services.map((service) => backendName(place, service)));
      const chosen = tasks.filter((one) => services.includes(one.service));
      return await stopTasks(place, chosen, keep);
    }
    const runs = seen.filter((one) => one.role === "oneoff");
    await Promise.all([stopTasks(place, tasks), sideBySide(runs, (one) => removeContainer(docker, one.id))]);
    // Tasks that were gone before may still be known there.
    await router.update((state) => withoutTasks(state, place, (server) => releaseOfTask(server.name) === release));
  }

  /** Wakes side by side; false when a task is gone or does not run. */
  async function wakeService(place: Place, release: Release, service: ReleaseService): Promise<boolean> {
    const names = taskNames(place, release.number, service).map((name) => prefixed(instance, name));
    const awake = await Promise.all(names.map((name) => wakeTask(name)));
    return awake.every(Boolean);
  }

  async function wakeTask(containerName: string): Promise<boolean> {
    const container = docker.getContainer(containerName);
    // Straight away: looking first would double the time to a rollback. 409 or 500: it was not paused.
    const woken = await askingUnless([404, 409, 500], "Waking a task", async () => {
      await container.unpause();
      return true;
    });
    if (woken) return true;
    const info = await askingUnless([404], "Looking at a task", () => container.inspect());
    return info?.State.Running === true && !info.State.Paused && !info.State.Restarting;
  }

  /** Out of traffic, ended gracefully, removed, forgotten by the router: in this order, so requests in flight can end. */
  async function stopTasks(place: Place, tasks: SeenContainer[], keep?: ReadonlySet<string>): Promise<void> {
    const names = new Set(tasks.map((one) => one.name));
    if (names.size === 0) return;
    const idle = await findIdle(place, names);
    await router.update((state) =>
      [...serversOf(state, place).values()].some((server) => names.has(server.name) && server.state === "ready")
        ? withState(state, place, names, "drain")
        : state,
    );
    await sideBySide(tasks, (one) => stopContainer(docker, one.id, idle.has(one.name) ? IDLE_STOP_S : undefined));
    await router.update((state) => withoutTasks(state, place, (server) => names.has(server.name), keep));
    for (const name of names) provedWith.delete(name);
  }

  /** Tasks behind the router that answer nobody: neither serving nor finishing a request. */
  async function findIdle(place: Place, names: ReadonlySet<string>): Promise<Set<string>> {
    const state = await router.current();
    const servers = [...serversOf(state, place).values()].filter((server) => names.has(server.name));
    const backends = state.backends.filter((one) => one.servers.some((server) => names.has(server.name)));
    const busy = (await router.status(backends.map((one) => one.name))).filter((one) => one.inFlight > 0);
    return new Set(
      servers
        .filter((server) => server.state !== "ready" && !busy.some((one) => one.name === server.name))
        .map((server) => server.name),
    );
  }

  async function removeVolumes(place: Place): Promise<void> {
    const filters = { label: labelFilter(placeLabels(instance, place)) };
    const { Volumes } = await asking("Listing volumes", () => docker.listVolumes({ filters }));
    await sideBySide(Volumes ?? [], ({ Name }) =>
      askingUnless([404], `Removing volume ${Name}`, () => docker.getVolume(Name).remove()),
    );
  }
}

function servingTasks(place: Place, release: Release): string[] {
  return release.services.filter(servesTraffic).flatMap((service) => taskNames(place, release.number, service));
}

function observedServices(tasks: SeenContainer[], servers: ReadonlyMap<string, RouterServer>): ObservedService[] {
  const groups = new Map<string, SeenContainer[]>();
  for (const task of tasks) {
    const key = `${task.release}/${task.service}`;
    groups.set(key, [...(groups.get(key) ?? []), task]);
  }
  return [...groups.values()]
    .flatMap((group) => {
      const [first] = group;
      if (first?.release === undefined) return [];
      return {
        release: first.release,
        service: first.service,
        traffic: trafficOf(group, servers),
        tasks: group
          .map(({ name, state }) => ({ name, state: taskState(state) }))
          .sort((a, b) => a.name.localeCompare(b.name)),
      };
    })
    .sort((a, b) => a.release - b.release || a.service.localeCompare(b.service));
}

/** `maint` is a parked task, also in the moment between its waking and the shift. */
function trafficOf(group: SeenContainer[], servers: ReadonlyMap<string, RouterServer>): ObservedService["traffic"] {
  const states = new Set(group.flatMap((task) => servers.get(task.name)?.state ?? []));
  if (states.has("ready")) return "serving";
  if (states.has("maint")) return "standby";
  return states.has("drain") ? "draining" : "none";
}

function taskState(state: SeenContainer["state"]): "running" | "paused" | "exited" {
  if (state === "running" || state === "paused") return state;
  return "exited";
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

function serviceOf(release: Release, name: string): ReleaseService {
  const service = release.services.find((one) => one.name === name);
  if (service !== undefined) return service;
  throw fail("REQUEST_INVALID", {
    message: `r${release.number} has no service ${name}.`,
    hint: `Its services are ${release.services.map((one) => one.name).join(", ")}.`,
  });
}
