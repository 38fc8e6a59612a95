import type Docker from "dockerode";
import { type Place, requireService, taskNames } from "../../release.ts";
import { MOST_PAST_LINES, type RolloutTarget } from "../../target.ts";
import type { ImageSettings } from "./compare-container.ts";
import { readPastLines } from "./container-logs.ts";
import { removeContainer, type SeenContainer, sideBySide, stopContainer } from "./containers.ts";
import { asking, askingUnless } from "./docker-errors.ts";
import { endExec, notRunning, startExec } from "./exec-session.ts";
import { followTasks } from "./follow-tasks.ts";
import { type Ground, newGround } from "./ground.ts";
import { newKeepingBacking } from "./keeping-backing.ts";
import { newMeasuring } from "./measuring.ts";
import { labelFilter, networkName, placeLabels } from "./names.ts";
import { findNetwork, removeNetwork } from "./network.ts";
import { observedServices } from "./observed-services.ts";
import { newProving } from "./proving.ts";
import { mend } from "./reconcile.ts";
import type { Router } from "./router.ts";
import { runOneOff } from "./run-once.ts";
import { newShifting } from "./shifting.ts";
import { newStarter } from "./start-tasks.ts";
import { lookForDrift } from "./task-drift.ts";
import { serversOf, withBackends, withoutPlace } from "./traffic.ts";
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

/** Tasks as containers of one Docker Engine, traffic through the router. */
export function dockerTarget(options: DockerTargetOptions): RolloutTarget {
  const ground = newGround(options);
  const { docker, router, instance, tasksOf, attachedNetwork, touch } = ground;
  const starter = newStarter(ground);
  const images = new Map<string, ImageSettings>();
  const samples = options.samples ?? newUseSamples({ docker, router, instance });
  const target: RolloutTarget = {
    ...newKeepingBacking(ground),
    ...newProving(ground),
    ...newShifting(ground),
    ...newMeasuring((place) => target.observe(place), { samples, router }),

    async observe(place) {
      const [tasks, state] = await Promise.all([tasksOf(place), router.current()]);
      return observedServices(tasks, serversOf(state, place));
    },

    async prepare(place, release) {
      const tasks = release.services.reduce((total, service) => total + service.count, 0);
      await router.ensure();
      ground.forgetNetwork(place);
      const { routerAddress } = await attachedNetwork(place, tasks);
      await router.update((state) => withBackends(state, place, release, routerAddress));
    },

    // The router, by the extra host that every task gets.
    addressOf: (_place, service) => `http://${service.name}`,

    async runOnce(place, release, run, log, signal) {
      const { network, routerAddress } = await attachedNetwork(place);
      const service = requireService(release, run.service);
      return await runOneOff(
        { ...run, docker, instance, place, release, service, network: network.name, routerAddress },
        log,
        signal,
      );
    },

    async exec(place, task, request) {
      const { id } = await runningContainer(ground, place, task);
      return startExec(docker, id, task, request);
    },

    async endExec(place, task, id) {
      const found = await findExecutable(ground, place, task);
      if (found?.state === "running") await endExec({ docker, instance, toolImage: options.toolImage }, found.id, id);
    },

    async forgetRun(place, key) {
      const seen = await ground.seen(place);
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

    findDrift: (place, desired) => lookForDrift(place, desired, { docker, router, instance, images }),

    async reconcile(place, desired) {
      const startedAt = Date.now();
      if (ground.changedAt(place) > startedAt - (options.quietMs ?? QUIET_MS)) return [];
      const isOutdated = () => ground.changedAt(place) >= startedAt;
      return await mend(place, desired, { ground, starter, prepare: target.prepare, isOutdated });
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

    async halt(place, spared) {
      touch(place);
      const seen = await ground.seen(place);
      const isSpared = ({ role, service }: SeenContainer) => role === "backing" && spared.includes(service);
      await router.update((state) => withoutPlace(state, place));
      await sideBySide(
        seen.filter((one) => !isSpared(one)),
        (one) => stopContainer(docker, one.id),
      );
      if (!seen.some(isSpared)) await leaveNetwork(ground, place);
    },

    async destroy(place, data) {
      touch(place);
      const seen = await ground.seen(place);
      await router.update((state) => withoutPlace(state, place));
      // What keeps its data is ended gracefully.
      await sideBySide(seen, (one) =>
        data === "keep" ? stopContainer(docker, one.id) : removeContainer(docker, one.id),
      );
      await leaveNetwork(ground, place);
      if (data === "remove") await removeVolumes(ground, place);
      return [];
    },
  };
  return target;
}

async function findExecutable(ground: Ground, place: Place, name: string): Promise<SeenContainer | undefined> {
  const seen = await ground.seen(place);
  return seen.find((one) => (one.role === "task" || one.role === "backing") && one.name === name);
}

async function runningContainer(ground: Ground, place: Place, name: string): Promise<SeenContainer> {
  const found = await findExecutable(ground, place, name);
  if (found?.state === "running") return found;
  throw notRunning(name);
}

async function leaveNetwork({ docker, router, instance, forgetNetwork }: Ground, place: Place): Promise<void> {
  const name = networkName(instance, place);
  if ((await findNetwork(docker, name)) !== undefined) {
    await router.detach(name);
    await removeNetwork(docker, name);
  }
  forgetNetwork(place);
}

async function removeVolumes({ docker, instance }: Ground, place: Place): Promise<void> {
  const filters = { label: labelFilter(placeLabels(instance, place)) };
  const { Volumes } = await asking("Listing volumes", () => docker.listVolumes({ filters }));
  await sideBySide(Volumes ?? [], ({ Name }) =>
    askingUnless([404], `Removing volume ${Name}`, () => docker.getVolume(Name).remove()),
  );
}
