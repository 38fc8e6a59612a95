import { needsDowntime, type Place, type Release, servesTraffic, taskNames } from "../../release.ts";
import type { DesiredState } from "../../target.ts";
import type { SeenContainer } from "./containers.ts";
import { releaseOfTask } from "./names.ts";
import type { RouterServer } from "./router.ts";

export type MendStep =
  /** A release nobody declared. */
  | { do: "stop"; release: number }
  /** The container of a command that ended. */
  | { do: "remove-run"; containerId: string; name: string }
  /** Tasks that are not there, or that the router does not know. */
  | { do: "start"; service: string; tasks: string[] }
  | { do: "unpause"; tasks: string[] }
  /** Tasks of the live release that get no traffic: proved first. */
  | { do: "serve"; tasks: string[] }
  | { do: "park"; release: number; tasks: string[] }
  /** The router has another address for these tasks. */
  | { do: "readdress"; tasks: string[] }
  /** The router knows tasks that are not there. */
  | { do: "forget"; tasks: string[] };

export type ReconcileInput = {
  place: Place;
  seen: SeenContainer[];
  /** What the router is to serve, by task. */
  servers: ReadonlyMap<string, RouterServer>;
  desired: DesiredState;
};

/**
 * What makes the running things equal to the declared ones; empty when they are. While a deployment is in progress traffic,
 * the standby and services that had to make way are its business.
 */
export function planReconcile(input: ReconcileInput): MendStep[] {
  const { desired } = input;
  const isQuiet = desired.inProgress.length === 0;
  // What should serve comes first: a stranger that is to go may be what answers now.
  return [
    ...(desired.live ? missing(input, desired.live.release, isQuiet) : []),
    ...(desired.live && isQuiet ? outOfTraffic(input, desired.live.release) : []),
    ...(desired.standby && isQuiet ? awake(input, desired.standby) : []),
    ...strangers(input),
    ...endedRuns(input),
    ...(isQuiet ? staleServers(input) : []),
  ];
}

function knownReleases({ desired }: ReconcileInput): Set<number> {
  const declared = [desired.live?.release.number, desired.standby?.number].filter((one) => one !== undefined);
  return new Set([...declared, ...desired.inProgress]);
}

function strangers(input: ReconcileInput): MendStep[] {
  const known = knownReleases(input);
  const seen = input.seen.filter((one) => one.role === "task").flatMap((one) => one.release ?? []);
  return [...new Set(seen)]
    .filter((release) => !known.has(release))
    .sort((a, b) => a - b)
    .map((release) => ({ do: "stop", release }));
}

/** The result of a run is needed by the deployment that asked for it, and by nobody later. */
function endedRuns({ seen, desired }: ReconcileInput): MendStep[] {
  return seen
    .filter((one) => one.role === "oneoff" && (one.state === "exited" || one.state === "dead"))
    .filter((one) => !desired.inProgress.includes(one.release ?? 0))
    .map((one) => ({ do: "remove-run", containerId: one.id, name: one.name }));
}

function missing({ place, seen, servers }: ReconcileInput, live: Release, isQuiet: boolean): MendStep[] {
  const tasks = new Map(seen.filter((one) => one.role === "task").map((one) => [one.name, one]));
  return live.services
    .filter((service) => isQuiet || !needsDowntime(service))
    .map((service) => ({
      service,
      tasks: taskNames(place, live.number, service).filter(
        (name) => !isThere(tasks.get(name)) || (servesTraffic(service) && !servers.has(name)),
      ),
    }))
    .filter(({ tasks }) => tasks.length > 0)
    .map(({ service, tasks }) => ({ do: "start", service: service.name, tasks }));
}

/** `restarting` is Docker's own work; a paused task is woken. */
function isThere(seen: SeenContainer | undefined): boolean {
  return seen?.state === "running" || seen?.state === "restarting" || seen?.state === "paused";
}

function outOfTraffic({ place, seen, servers }: ReconcileInput, live: Release): MendStep[] {
  const containers = new Map(seen.map((one) => [one.name, one]));
  const names = live.services.flatMap((service) => taskNames(place, live.number, service));
  const serving = live.services.filter(servesTraffic).flatMap((service) => taskNames(place, live.number, service));
  const paused = names.filter((name) => containers.get(name)?.state === "paused");
  const moved = serving.filter((name) => {
    const [container, server] = [containers.get(name), servers.get(name)];
    return container?.address !== undefined && server !== undefined && server.address !== container.address;
  });
  // What is missing is started by an earlier step, and has to prove itself like any other.
  const idle = serving.filter((name) => servers.get(name)?.state !== "ready" || !isThere(containers.get(name)));
  return [
    ...step("unpause", paused),
    ...step("readdress", moved),
    // Those that were moved are proved again as well.
    ...step(
      "serve",
      serving.filter((name) => idle.includes(name) || moved.includes(name)),
    ),
  ];
}

function awake({ place, seen }: ReconcileInput, standby: Release): MendStep[] {
  const declared = new Set(standby.services.flatMap((service) => taskNames(place, standby.number, service)));
  const tasks = seen
    .filter((one) => one.role === "task" && one.release === standby.number && declared.has(one.name))
    .filter((one) => one.state === "running" || one.state === "restarting")
    .map((one) => one.name);
  return tasks.length === 0 ? [] : [{ do: "park", release: standby.number, tasks }];
}

function staleServers(input: ReconcileInput): MendStep[] {
  const known = knownReleases(input);
  const there = new Set(input.seen.map((one) => one.name));
  const live = input.desired.live?.release.number;
  const stale = [...input.servers.keys()].filter((name) => {
    const release = releaseOfTask(name) ?? 0;
    // Missing tasks of the live release are started again under the same name.
    return !there.has(name) && release !== live && (known.has(release) || !strangerWillStop(input, release));
  });
  return step("forget", stale);
}

/** Stopping a release takes its tasks out of the router as well. */
function strangerWillStop({ seen }: ReconcileInput, release: number): boolean {
  return seen.some((one) => one.role === "task" && one.release === release);
}

function step<K extends "unpause" | "readdress" | "serve" | "forget">(kind: K, tasks: string[]) {
  return tasks.length === 0 ? [] : [{ do: kind, tasks }];
}
