import type Docker from "dockerode";
import { fail } from "../../../shared/errors.ts";
import { type Place, type Release, type ReleaseService, servesTraffic } from "../../release.ts";
import type { TaskVariables } from "../../target.ts";
import { taskOptions } from "./container-options.ts";
import { listContainers, removeContainer, type SeenContainer, sideBySide } from "./containers.ts";
import { askingUnless, isAddressTaken, statusOf, toDockerError } from "./docker-errors.ts";
import type { Ground } from "./ground.ts";
import { backendName, LABEL, prefixed } from "./names.ts";
import type { PlaceNetwork } from "./network.ts";
import type { RouterServer } from "./router.ts";
import { withBackends, withoutTasks, withTasks } from "./traffic.ts";

export type Starter = {
  /** Starts those of `names` that do not run, side by side, and makes all of them known to the router, without traffic. */
  startTasks(
    place: Place,
    release: Release,
    service: ReleaseService,
    variables: TaskVariables,
    names: string[],
  ): Promise<void>;
};

/** A stranger on our network may hold an address that no list shows; a few tries get past it. */
const ADDRESS_TRIES = 4;

export function newStarter({ docker, router, instance, addresses, attachedNetwork }: Ground): Starter {
  async function startTasks(
    place: Place,
    release: Release,
    service: ReleaseService,
    variables: TaskVariables,
    names: string[],
  ): Promise<void> {
    const [{ network, routerAddress }, seen] = await Promise.all([
      attachedNetwork(place),
      listContainers(docker, instance, place),
    ]);
    const existing = new Map(seen.filter((one) => one.role === "task").map((one) => [one.name, one]));
    const missing = names.filter((name) => !isAlive(existing.get(name)));
    const start = (name: string, address: string) =>
      startOne({ place, release, service, variables, name, routerAddress, network, address, left: existing.get(name) });

    await forget(place, service, missing);
    await addresses.lend(place, network, missing.length, async (lent) => {
      const there = names.flatMap((name) => {
        const address = missing.includes(name) ? undefined : existing.get(name)?.address;
        return address === undefined ? [] : [{ name, address }];
      });
      await sideBySide([there, ...missing], async (one) => {
        if (typeof one !== "string") return await tellRouter(place, release, service, routerAddress, one);
        const address = await start(one, lent[missing.indexOf(one)] ?? "");
        // Only now, and at once: a check of an address that nobody has yet waits a second for the network to find it.
        await tellRouter(place, release, service, routerAddress, [{ name: one, address }]);
      });
    });
  }

  /** What a container of the same name earned says nothing about the next one. */
  async function forget(place: Place, service: ReleaseService, names: string[]): Promise<void> {
    if (!servesTraffic(service)) return;
    const gone = new Set(names);
    const keep = new Set([backendName(place, service.name)]);
    await router.update((state) => withoutTasks(state, place, (server) => gone.has(server.name), keep));
  }

  async function tellRouter(
    place: Place,
    release: Release,
    service: ReleaseService,
    routerAddress: string,
    tasks: { name: string; address: string }[],
  ): Promise<void> {
    const { port } = service;
    if (port === undefined || tasks.length === 0) return;
    await router.update((state) => {
      const known = new Map(state.backends.flatMap((backend) => backend.servers.map((one) => [one.name, one])));
      const servers = tasks.map(({ name, address }): RouterServer => {
        return { name, address, port, state: stateOf(known.get(name), address) };
      });
      // The back end went with its last task when that made way for this one.
      const prepared = withBackends(state, place, { ...release, services: [service] }, routerAddress);
      return withTasks(prepared, place, release, service, servers);
    });
  }

  type Starting = {
    place: Place;
    release: Release;
    service: ReleaseService;
    variables: TaskVariables;
    name: string;
    routerAddress: string;
    network: PlaceNetwork;
    address: string;
    /** What an earlier attempt left under this name. */
    left: SeenContainer | undefined;
  };

  /** @returns the address the task really got */
  async function startOne(task: Starting): Promise<string> {
    if (task.left !== undefined) await removeContainer(docker, task.left.id);
    for (let attempt = 1; ; attempt++) {
      const id = await create(task);
      try {
        await askingUnlessStarted(docker, id);
        return task.address;
      } catch (error) {
        await removeContainer(docker, id);
        if (!isAddressTaken(error) || attempt === ADDRESS_TRIES) throw toDockerError(error, `Starting ${task.name}`);
        // The one that is taken stays lent meanwhile, so another is given.
        const [address] = await addresses.lend(task.place, task.network, 1, async (lent) => lent);
        if (address !== undefined) task.address = address;
      }
    }
  }

  async function create(task: Starting): Promise<string> {
    const options = taskOptions({
      ...task,
      instance,
      attachment: { network: task.network.name, address: task.address },
    });
    try {
      return (await docker.createContainer(options)).id;
    } catch (error) {
      if (statusOf(error) !== 409) throw toDockerError(error, `Creating ${task.name}`);
      return await adopt(task, error);
    }
  }

  /** The name is taken: by a repetition of this very call, or by somebody else's container. */
  async function adopt(task: Starting, conflict: unknown): Promise<string> {
    const name = prefixed(instance, task.name);
    const info = await askingUnless([404], `Looking at ${name}`, () => docker.getContainer(name).inspect());
    const labels = info?.Config.Labels ?? {};
    const isOurs =
      labels[LABEL.instance] === instance &&
      labels[LABEL.app] === task.place.app &&
      labels[LABEL.environment] === task.place.environment &&
      labels[LABEL.task] === task.name;
    if (info !== undefined && isOurs) return info.Id;
    throw fail("DOCKER_FAILED", {
      message: `The container name ${name} is taken by a container that is not of this environment.`,
      hint: `Look at it with \`docker inspect ${name}\`, and rename or remove it.`,
      cause: conflict,
    });
  }

  return { startTasks };
}

/** A task that Docker restarts again and again is for the health check to judge. */
function isAlive(seen: SeenContainer | undefined): boolean {
  return seen?.state === "running" || seen?.state === "restarting";
}

/** A task at a new address has everything to prove again. */
function stateOf(known: RouterServer | undefined, address: string): RouterServer["state"] {
  return known !== undefined && known.address === address && known.state !== "maint" ? known.state : "drain";
}

async function askingUnlessStarted(docker: Docker, id: string): Promise<void> {
  try {
    await docker.getContainer(id).start();
  } catch (error) {
    if (statusOf(error) !== 304) throw error;
  }
}
