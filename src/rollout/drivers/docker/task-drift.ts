import type Docker from "dockerode";
import { type Place, type Release, type ReleaseService, servesTraffic, taskNames } from "../../release.ts";
import type { Backing, DesiredState, RunnableRelease, TaskDrift } from "../../target.ts";
import { backingDeclaration } from "./backing.ts";
import { compareContainer, type Declared, type ImageSettings } from "./compare-container.ts";
import { taskOptions } from "./container-options.ts";
import { listContainers, type SeenContainer } from "./containers.ts";
import { asking, askingUnless } from "./docker-errors.ts";
import { backingName, LABEL, networkName, prefixed } from "./names.ts";
import type { Router, ServerStatus } from "./router.ts";
import { backendsOf } from "./traffic.ts";

export type DriftLooker = {
  docker: Docker;
  router: Router;
  instance: string;
  /** Settings of images by their id; an id never means another image. */
  images: Map<string, ImageSettings>;
};

/** Compares what runs in a place with what is declared. It looks and changes nothing. */
export async function lookForDrift(place: Place, desired: DesiredState, looker: DriftLooker): Promise<TaskDrift[]> {
  const { docker, router, instance } = looker;
  const network = networkName(instance, place);
  const [seen, state, attached] = await Promise.all([
    listContainers(docker, instance, place),
    router.current(),
    inNetwork(docker, network),
  ]);
  const backends = backendsOf(state, place).map(({ name }) => name);
  const servers = new Map((backends.length === 0 ? [] : await router.status(backends)).map((one) => [one.name, one]));
  const live = desired.live === undefined ? [] : await liveDrift(place, desired.live, { ...looker, seen, servers });
  const backing = await Promise.all(
    (desired.backing ?? []).map((one) => backingDrift(place, one, { ...looker, seen })),
  );
  const strangers = strangersIn(place, desired, { ...looker, seen, attached });
  return [...live, ...backing.flat(), ...strangers];
}

type Looking = DriftLooker & { seen: SeenContainer[] };

async function liveDrift(
  place: Place,
  live: RunnableRelease,
  looking: Looking & { servers: ReadonlyMap<string, ServerStatus> },
): Promise<TaskDrift[]> {
  const { release } = live;
  const tasks = release.services.flatMap((service) =>
    taskNames(place, release.number, service).map((name) => ({ name, service })),
  );
  const found = await Promise.all(tasks.map((task) => taskDrift(place, live, task, looking)));
  return found.flat();
}

async function taskDrift(
  place: Place,
  { release, variables }: RunnableRelease,
  { name, service }: { name: string; service: ReleaseService },
  looking: Looking & { servers: ReadonlyMap<string, ServerStatus> },
): Promise<TaskDrift[]> {
  const { docker, instance, seen, servers } = looking;
  const own = variables[service.name] ?? { env: {}, secrets: {} };
  const container = seen.find((one) => one.role === "task" && one.name === name);
  const here = { name, what: "task" as const };
  if (container === undefined) return [missing(here, await whoHasName(looking, place, prefixed(instance, name)))];
  const info = await inspect(docker, container);
  if (info === undefined) return [missing(here, undefined)];
  if (isDown(info)) return [stopped(here, info)];
  const network = networkName(instance, place);
  // Neither the router's address nor the task's counts: the loop puts both right.
  const attachment = { network };
  const options = taskOptions({
    ...{ instance, place, release, service, name, variables: own, routerAddress: "", attachment },
  });
  const handedOver = new Set([...Object.keys(own.env), ...Object.keys(own.secrets)]);
  const declared: Declared = {
    ...{ options, network, aliases: [], mountedAt: [] },
    plainVariables: new Set(namesOf(options.Env).filter((one) => !Object.hasOwn(own.secrets, one))),
    movingVariables: handedOver,
  };
  const isAsMade = info.Config.Labels[LABEL.spec] === options.Labels?.[LABEL.spec];
  const { changed, outdated } = compareContainer(declared, info, await imageOf(info, looking), isAsMade);
  const isServed = !servesTraffic(service) || servers.get(name)?.admin === "ready";
  return [
    ...(changed.length > 0 ? [changedDrift(here, changed, redeploy(place))] : []),
    ...(isServed ? [] : [{ ...here, kind: "no-traffic" as const, attributes: [], mendsItself: true }]),
    ...(outdated.length > 0
      ? [{ ...here, kind: "outdated" as const, attributes: outdated, mendsItself: false, remedy: redeploy(place) }]
      : []),
  ];
}

async function backingDrift(place: Place, backing: Backing, looking: Looking): Promise<TaskDrift[]> {
  const { docker, instance, seen } = looking;
  const here = { name: backing.name, what: "backing" as const };
  const container = seen.find((one) => one.role === "backing" && one.service === backing.name);
  if (container === undefined)
    return [missing(here, await whoHasName(looking, place, backingName(instance, place, backing.name)))];
  const info = await inspect(docker, container);
  if (info === undefined) return [missing(here, undefined)];
  if (isDown(info)) return [stopped(here, info)];
  const { options, spec, dataDir } = backingDeclaration(instance, place, backing);
  const declared: Declared = {
    ...{ options, network: networkName(instance, place), aliases: [backing.name], mountedAt: [dataDir] },
    ...{ plainVariables: undefined, movingVariables: new Set<string>() },
  };
  const isAsMade = info.Config.Labels[LABEL.spec] === spec;
  const { changed } = compareContainer(declared, info, await imageOf(info, looking), isAsMade);
  if (changed.length === 0) return [];
  // Made from other settings, or out of reach, it is replaced at the next round; its data stay.
  const isReachable = !changed.some(({ before }) => before === "attached" || before === "set");
  // It is started anew at the next round, and its data stay in their volume.
  const remedy = `docker rm -f ${backingName(instance, place, backing.name)}`;
  return [
    isAsMade && isReachable
      ? changedDrift(here, changed, remedy)
      : { ...here, kind: "changed", attributes: changed, mendsItself: true },
  ];
}

/** Containers in the place that nobody declares. Backing services whose declaration is gone keep their data and are no strangers. */
function strangersIn(
  place: Place,
  desired: DesiredState,
  { instance, seen, attached }: Looking & { attached: Docker.ContainerInfo[] },
): TaskDrift[] {
  const network = networkName(instance, place);
  const own = new Set(seen.map(({ id }) => id));
  const known = new Set([desired.live?.release.number, desired.standby?.number, ...desired.inProgress]);
  const declared = new Set(
    [desired.live?.release, desired.standby].flatMap((release) => (release ? declaredTasks(place, release) : [])),
  );
  const tasks = seen
    .filter((one) => one.role === "task" && !declared.has(one.name) && !desired.inProgress.includes(one.release ?? 0))
    .map((one) =>
      stranger(one.containerName, known.has(one.release) ? `docker rm -f ${one.containerName}` : undefined),
    );
  // The router has the installation's label and no app's.
  const isRouter = ({ Labels }: Docker.ContainerInfo) =>
    Labels[LABEL.instance] === instance && Labels[LABEL.app] === undefined;
  const others = attached
    .filter((one) => !own.has(one.Id) && !isRouter(one))
    .map((one) => {
      const name = (one.Names[0] ?? one.Id).replace(/^\//, "");
      return stranger(name, `docker network disconnect -f ${network} ${name}`);
    });
  return [...tasks, ...others].sort((a, b) => a.name.localeCompare(b.name));
}

const declaredTasks = (place: Place, release: Release) =>
  release.services.flatMap((service) => taskNames(place, release.number, service));

/** Without a remedy it is one that the loop removes. */
function stranger(name: string, remedy: string | undefined): TaskDrift {
  const found = { name, what: "unknown" as const, kind: "unknown" as const, attributes: [] };
  return remedy === undefined ? { ...found, mendsItself: true } : { ...found, mendsItself: false, remedy };
}

type Here = Pick<TaskDrift, "name" | "what">;

/** Whoever has taken the name keeps the loop from starting it. */
function missing(here: Here, holder: string | undefined): TaskDrift {
  if (holder === undefined) return { ...here, kind: "missing", attributes: [], mendsItself: true };
  const attributes = [
    { path: "container name", before: "its own", after: "taken by a container that Shipway did not make" },
  ];
  return { ...here, kind: "missing", attributes, mendsItself: false, remedy: `docker rm -f ${holder}` };
}

function stopped(here: Here, { State }: Docker.ContainerInspectInfo): TaskDrift {
  const attributes = [{ path: "state", before: "running", after: State.Status }];
  return { ...here, kind: "stopped", attributes, mendsItself: true };
}

function changedDrift(here: Here, attributes: TaskDrift["attributes"], remedy: string): TaskDrift {
  return { ...here, kind: "changed", attributes, mendsItself: false, remedy };
}

/** `restarting` is Docker's own work, and how a task fails is for its health check to say. */
const isDown = ({ State }: Docker.ContainerInspectInfo) => State.Paused || !(State.Running || State.Restarting);

/** A new release starts new tasks beside these and interrupts nobody; removing one of them by hand would. */
const redeploy = ({ app, environment }: Place) => `shipway deploy --app ${app} --env ${environment}`;

const namesOf = (env: string[] | undefined) => (env ?? []).map((one) => one.slice(0, one.indexOf("=")));

async function inNetwork(docker: Docker, network: string): Promise<Docker.ContainerInfo[]> {
  const filters = { network: [network] };
  return await asking("Listing containers", () => docker.listContainers({ all: true, filters }));
}

async function inspect(docker: Docker, { id }: SeenContainer): Promise<Docker.ContainerInspectInfo | undefined> {
  return await askingUnless([404], "Looking at a container", () => docker.getContainer(id).inspect());
}

/** A container of somebody else under a name that is ours; one of ours was made since we looked. */
async function whoHasName(
  { docker, instance }: DriftLooker,
  { app, environment }: Place,
  name: string,
): Promise<string | undefined> {
  const info = await askingUnless([404], `Looking at ${name}`, () => docker.getContainer(name).inspect());
  const labels = info?.Config.Labels ?? {};
  const isOurs =
    labels[LABEL.instance] === instance && labels[LABEL.app] === app && labels[LABEL.environment] === environment;
  return isOurs ? undefined : info?.Name.replace(/^\//, "");
}

async function imageOf(
  { Image: id }: Docker.ContainerInspectInfo,
  { docker, images }: DriftLooker,
): Promise<ImageSettings | undefined> {
  const known = images.get(id);
  if (known !== undefined) return known;
  const info = await askingUnless([404], "Looking at an image", () => docker.getImage(id).inspect());
  if (info === undefined) return undefined;
  images.set(id, info.Config as ImageSettings);
  return info.Config as ImageSettings;
}
