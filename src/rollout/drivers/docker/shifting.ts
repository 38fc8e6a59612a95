import type Docker from "dockerode";
import { sleep } from "../../../shared/until.ts";
import {
  needsDowntime,
  type Place,
  type Release,
  type ReleaseService,
  servesTraffic,
  taskNames,
} from "../../release.ts";
import type { RolloutTarget } from "../../target.ts";
import { pauseContainer, removeContainer, type SeenContainer, sideBySide, stopContainer } from "./containers.ts";
import { askingUnless } from "./docker-errors.ts";
import type { Ground } from "./ground.ts";
import { backendName, prefixed, releaseOfTask } from "./names.ts";
import { backendsOf, serversOf, shiftedTo, withoutTasks, withState } from "./traffic.ts";

const DRAIN_LOOK_EVERY_MS = 25;
/** For a task that answers nobody: a program that ignores SIGTERM would otherwise hold up the deployment for all of its `stopTimeout`. */
const IDLE_STOP_S = 2;

/** Moves traffic between releases that run, and parks, wakes and ends those that do not serve. */
export function newShifting(
  ground: Ground,
): Pick<RolloutTarget, "shiftTraffic" | "awaitDrained" | "park" | "wake" | "stop"> {
  const { router, touch } = ground;
  return {
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
          .filter((one) => one.admin === "drain" && releaseOfTask(one.name) !== serving)
          .reduce((total, one) => total + one.inFlight, 0);
        if (open === 0 || Date.now() >= endsAt) return { stillOpen: open };
        await sleep(DRAIN_LOOK_EVERY_MS);
      }
    },

    async park(place, release) {
      touch(place);
      await parkRelease(ground, place, release);
    },

    async wake(place, release) {
      touch(place);
      const services = release.services.filter(servesTraffic);
      const awake = await Promise.all(services.map((service) => wakeService(ground, place, release, service)));
      return {
        ready: services.filter((_, index) => awake[index]).map((service) => service.name),
        missing: services.filter((_, index) => !awake[index]).map((service) => service.name),
      };
    },

    async stop(place, release, services) {
      touch(place);
      await stopRelease(ground, place, release, services);
    },
  };
}

function servingTasks(place: Place, release: Release): string[] {
  return release.services.filter(servesTraffic).flatMap((service) => taskNames(place, release.number, service));
}

/** @returns the tasks that were paused */
export async function parkRelease(ground: Ground, place: Place, release: Release): Promise<string[]> {
  const { docker, router } = ground;
  const pausable = new Set(
    release.services
      .filter((service) => servesTraffic(service) && !needsDowntime(service))
      .flatMap((service) => taskNames(place, release.number, service)),
  );
  const tasks = (await ground.tasksOf(place)).filter((one) => one.release === release.number);
  await router.update((state) => withState(state, place, pausable, "maint"));
  // A paused task would leave its clients (a download, a websocket) hanging: it runs on, and reconciliation parks it later.
  const busy = await busyTasks(ground, place);
  const idle = tasks.filter((one) => pausable.has(one.name) && one.state !== "paused" && !busy.has(one.name));
  const others = tasks.filter((one) => !pausable.has(one.name));
  await Promise.all([sideBySide(idle, (one) => pauseContainer(docker, one.id)), stopTasks(ground, place, others)]);
  return [...idle, ...others].map((one) => one.name);
}

async function busyTasks({ router }: Ground, place: Place): Promise<Set<string>> {
  const backends = backendsOf(await router.current(), place).map((backend) => backend.name);
  const statuses = backends.length === 0 ? [] : await router.status(backends);
  return new Set(statuses.filter((one) => one.inFlight > 0).map((one) => one.name));
}

export async function stopRelease(ground: Ground, place: Place, release: number, services?: string[]): Promise<void> {
  const { docker, router } = ground;
  const seen = (await ground.seen(place)).filter((one) => one.release === release);
  const tasks = seen.filter((one) => one.role === "task");
  if (services !== undefined) {
    // Their back ends stay: what makes way is followed by the tasks it made way for.
    const keep = new Set(services.map((service) => backendName(place, service)));
    const chosen = tasks.filter((one) => services.includes(one.service));
    return await stopTasks(ground, place, chosen, keep);
  }
  const runs = seen.filter((one) => one.role === "oneoff");
  await Promise.all([stopTasks(ground, place, tasks), sideBySide(runs, (one) => removeContainer(docker, one.id))]);
  // Tasks that were gone before may still be known there.
  await router.update((state) => withoutTasks(state, place, (server) => releaseOfTask(server.name) === release));
}

/** Wakes side by side; false when a task is gone or does not run. */
async function wakeService(
  { docker, instance }: Ground,
  place: Place,
  release: Release,
  service: ReleaseService,
): Promise<boolean> {
  const names = taskNames(place, release.number, service).map((name) => prefixed(instance, name));
  const awake = await Promise.all(names.map((name) => wakeTask(docker, name)));
  return awake.every(Boolean);
}

async function wakeTask(docker: Docker, containerName: string): Promise<boolean> {
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
async function stopTasks(
  ground: Ground,
  place: Place,
  tasks: SeenContainer[],
  keep?: ReadonlySet<string>,
): Promise<void> {
  const { docker, router, provedWith } = ground;
  const names = new Set(tasks.map((one) => one.name));
  if (names.size === 0) return;
  const idle = await findIdle(ground, place, names);
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
async function findIdle({ router }: Ground, place: Place, names: ReadonlySet<string>): Promise<Set<string>> {
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
