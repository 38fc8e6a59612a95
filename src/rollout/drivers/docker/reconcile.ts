import { assertNever } from "../../../shared/assert-never.ts";
import { sleep } from "../../../shared/until.ts";
import { type Place, type Release, type ReleaseService, taskNames } from "../../release.ts";
import type { DesiredState, RolloutTarget, RunnableRelease } from "../../target.ts";
import { removeContainer, sideBySide } from "./containers.ts";
import { askingUnless } from "./docker-errors.ts";
import type { Ground } from "./ground.ts";
import { judgeNew } from "./health.ts";
import { type MendStep, planReconcile } from "./plan-reconcile.ts";
import { newWatch } from "./proving.ts";
import { parkRelease, stopRelease } from "./shifting.ts";
import type { Starter } from "./start-tasks.ts";
import type { WatchedTask } from "./task-watch.ts";
import { mapServers, serversOf, withoutTasks, withState } from "./traffic.ts";

export type Mender = {
  ground: Ground;
  starter: Starter;
  prepare: RolloutTarget["prepare"];
  /** Somebody changed the place since the desired state was read: what is left to do would undo it. */
  isOutdated: () => boolean;
};

/** A task that is started again usually answers within a second; one that does not is tried again at the next reconciliation. */
const SERVE_DEADLINE_MS = 10_000;
const LOOK_EVERY_MS = 100;

/** Makes a place what it should be, and says in sentences what it mended. */
export async function mend(place: Place, desired: DesiredState, mender: Mender): Promise<string[]> {
  const { ground } = mender;
  const mended = await ground.router.reconcile();
  const [seen, state] = await Promise.all([ground.seen(place), ground.router.current()]);
  const steps = planReconcile({ place, seen, servers: serversOf(state, place), desired });
  for (const step of steps) {
    if (mender.isOutdated()) return [...mended, "A deployment began: the rest is left to it."];
    mended.push(...(await walk(place, desired, mender, step)));
  }
  return mended;
}

async function walk(place: Place, desired: DesiredState, mender: Mender, step: MendStep): Promise<string[]> {
  const { ground } = mender;
  const { docker, router } = ground;
  switch (step.do) {
    case "stop":
      await stopRelease(ground, place, step.release);
      return [`Removed the tasks of r${step.release}, which nobody declares.`];
    case "remove-run":
      await removeContainer(docker, step.containerId);
      return [];
    case "start":
      if (desired.live) await startMissing(place, desired.live, mender, step);
      return [`Started ${step.tasks.join(", ")}, which should run and did not.`];
    case "unpause":
      await sideBySide(await idsOf(ground, place, step.tasks), (id) =>
        askingUnless([404, 409, 500], "Waking a task", () => docker.getContainer(id).unpause()),
      );
      return [`Woke ${step.tasks.join(", ")}, which serve and were paused.`];
    case "readdress":
      await readdress(ground, place, step.tasks);
      return [`Told the router the address of ${step.tasks.join(", ")}.`];
    case "serve":
      return desired.live ? await serve(place, desired.live.release, mender, step.tasks) : [];
    case "park":
      return desired.standby ? said("Parked", await parkRelease(ground, place, desired.standby)) : [];
    case "forget": {
      const gone = new Set(step.tasks);
      await router.update((state) => withoutTasks(state, place, (server) => gone.has(server.name)));
      return [`Took ${step.tasks.join(", ")} out of the router; they are gone.`];
    }
    default:
      return assertNever(step);
  }
}

/** Tasks that still answer a request are not parked yet, and that is nothing to report every round. */
function said(what: string, tasks: string[]): string[] {
  return tasks.length === 0 ? [] : [`${what} ${tasks.join(", ")}, which should be on standby.`];
}

async function startMissing(
  place: Place,
  { release, variables }: RunnableRelease,
  mender: Mender,
  step: MendStep & { do: "start" },
): Promise<void> {
  const service = release.services.find((one) => one.name === step.service);
  if (service === undefined) return;
  await mender.prepare(place, release);
  const own = variables[service.name] ?? { env: {}, secrets: {} };
  await mender.starter.startTasks(place, release, service, own, step.tasks);
}

/** Gives traffic to those of the tasks that prove themselves in time. */
async function serve(place: Place, live: Release, mender: Mender, names: string[]): Promise<string[]> {
  const tasks = await watched(place, live, mender, names);
  const watch = await newWatch(mender.ground, place, tasks);
  const endsAt = Date.now() + SERVE_DEADLINE_MS;
  for (;;) {
    const judged = await watch.look(judgeNew);
    const isOver = Date.now() >= endsAt || judged.every((one) => one.verdict.is !== "waiting");
    if (!isOver) {
      await sleep(LOOK_EVERY_MS);
      continue;
    }
    if (mender.isOutdated()) return [];
    const healthy = new Set(judged.filter((one) => one.verdict.is === "healthy").map((one) => one.task.name));
    if (healthy.size > 0) await mender.ground.router.update((state) => withState(state, place, healthy, "ready"));
    const sick = names.filter((name) => !healthy.has(name));
    return [
      ...(healthy.size > 0 ? [`Gave traffic to ${[...healthy].join(", ")} again.`] : []),
      ...(sick.length > 0 ? [`${sick.join(", ")} should serve and is not healthy yet.`] : []),
    ];
  }
}

async function watched(place: Place, live: Release, mender: Mender, names: string[]): Promise<WatchedTask[]> {
  const seen = new Map((await mender.ground.seen(place)).map((one) => [one.name, one]));
  const wanted = new Set(names);
  const of = (service: ReleaseService) => taskNames(place, live.number, service).filter((name) => wanted.has(name));
  return live.services.flatMap((service) =>
    of(service).map((name) => ({
      name,
      service,
      containerId: seen.get(name)?.id,
      address: seen.get(name)?.address,
      // A task that restarted last week may serve again today.
      restarts: undefined,
    })),
  );
}

/** What the router knew about tasks at another address says nothing about these: they are proved again. */
async function readdress({ seen, router }: Ground, place: Place, names: string[]): Promise<void> {
  const addresses = new Map((await seen(place)).map((one) => [one.name, one.address]));
  const moved = new Set(names);
  await router.update((state) =>
    mapServers(state, place, (server) => {
      const address = addresses.get(server.name);
      return moved.has(server.name) && address !== undefined ? { ...server, address, state: "drain" } : server;
    }),
  );
}

async function idsOf({ seen }: Ground, place: Place, names: string[]): Promise<string[]> {
  const wanted = new Set(names);
  return (await seen(place)).filter((one) => wanted.has(one.name)).map((one) => one.id);
}
