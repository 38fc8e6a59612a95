import { HealthCheck } from "../../../spec/app-spec.ts";
import { type Place, type Release, type ReleaseService, servesTraffic } from "../../release.ts";
import { backendName, placePrefix, provingBackendName, releaseOfTask } from "./names.ts";
import type { RouterBackend, RouterServer, RouterState } from "./router.ts";

/** How the router's desired state changes in a rollout: pure functions from state to state. */

/** Back ends for new services. What serves keeps hosts and health check until traffic moves. */
export function withBackends(state: RouterState, place: Place, release: Release, routerAddress: string): RouterState {
  const missing = release.services
    .filter(servesTraffic)
    .filter((service) => state.backends.every((backend) => backend.name !== backendName(place, service.name)))
    .map((service) => newBackend(place, service, routerAddress));
  const hosts = new Set(state.backends.flatMap((backend) => backend.hosts));
  // A host that still belongs to another service moves with the traffic, not before.
  const added = missing.map((backend) => ({ ...backend, hosts: backend.hosts.filter((host) => !hosts.has(host)) }));
  return added.length === 0 ? state : { backends: [...state.backends, ...added] };
}

/**
 * Adds tasks that are checked but get no traffic. The check belongs to a back end as a whole, so tasks that are to be checked
 * otherwise than those that serve are proved in a back end of their own: a new health path must not fail the old release.
 */
export function withTasks(
  state: RouterState,
  place: Place,
  release: Release,
  service: ReleaseService,
  servers: RouterServer[],
): RouterState {
  const main = findBackend(state, backendName(place, service.name));
  const names = new Set(servers.map((server) => server.name));
  const own = newBackend(place, service, main.internalAddress);
  const others = main.servers.filter((server) => !names.has(server.name));
  if (others.length === 0) return replace(state, { ...main, check: own.check, timing: own.timing, servers });
  if (isSameCheck(main, own)) return replace(state, { ...main, servers: [...others, ...servers] });
  const name = provingBackendName(place, service.name, release.number);
  const rest = state.backends.filter((backend) => backend.name !== name);
  const before = state.backends.find((backend) => backend.name === name)?.servers ?? [];
  const proving: RouterBackend = {
    ...own,
    name,
    hosts: [],
    internalHost: `${service.name}.r${release.number}`,
    servers: [...before.filter((server) => !names.has(server.name)), ...servers],
  };
  return { backends: [...rest.map((backend) => (backend === main ? { ...main, servers: others } : backend)), proving] };
}

/** Tasks of `release` get all new requests; the check and the hosts are the release's from here on. Parked tasks stay parked. */
export function shiftedTo(state: RouterState, place: Place, release: Release): RouterState {
  const serving = new Map(release.services.filter(servesTraffic).map((one) => [backendName(place, one.name), one]));
  const claimed = new Set([...serving.values()].flatMap((service) => service.hosts));
  const proving = new Map(
    [...serving].map(([name, service]) => [name, provingBackendName(place, service.name, release.number)]),
  );
  const provingNames = new Set(proving.values());
  const backends = state.backends
    .filter((backend) => !provingNames.has(backend.name))
    .map((backend) => {
      if (!backend.name.startsWith(placePrefix(place))) return backend;
      const service = serving.get(backend.name);
      const proved = state.backends.find((one) => one.name === proving.get(backend.name))?.servers ?? [];
      const servers = [...backend.servers, ...proved].map((server) => ({
        ...server,
        state: stateAfterShift(server, release),
      }));
      if (service === undefined)
        return { ...backend, hosts: backend.hosts.filter((host) => !claimed.has(host)), servers };
      return { ...newBackend(place, service, backend.internalAddress), servers };
    });
  return { backends };
}

/** Sets the state of these tasks wherever they are. */
export function withState(
  state: RouterState,
  place: Place,
  tasks: ReadonlySet<string>,
  next: RouterServer["state"],
): RouterState {
  return mapServers(state, place, (server) => (tasks.has(server.name) ? { ...server, state: next } : server));
}

/** Without these tasks; back ends that are empty then go too, unless `keep` names their service. */
export function withoutTasks(
  state: RouterState,
  place: Place,
  isGone: (server: RouterServer) => boolean,
  keep: ReadonlySet<string> = new Set(),
): RouterState {
  const backends = mapServers(state, place, (server) => (isGone(server) ? undefined : server)).backends.filter(
    (backend) =>
      backend.servers.length > 0 ||
      !backend.name.startsWith(placePrefix(place)) ||
      // It was empty before: made for tasks that are about to come.
      state.backends.some((before) => before.name === backend.name && before.servers.length === 0) ||
      keep.has(backend.name),
  );
  return { backends };
}

/** Without anything of the place. */
export function withoutPlace(state: RouterState, place: Place): RouterState {
  return { backends: state.backends.filter((backend) => !backend.name.startsWith(placePrefix(place))) };
}

/** The back ends of a place, those for proving included. */
export function backendsOf(state: RouterState, place: Place): RouterBackend[] {
  return state.backends.filter((backend) => backend.name.startsWith(placePrefix(place)));
}

/** Every task the router knows in a place, with its state. */
export function serversOf(state: RouterState, place: Place): Map<string, RouterServer> {
  return new Map(backendsOf(state, place).flatMap((backend) => backend.servers.map((server) => [server.name, server])));
}

function stateAfterShift(server: RouterServer, release: Release): RouterServer["state"] {
  if (releaseOfTask(server.name) === release.number) return "ready";
  return server.state === "maint" ? "maint" : "drain";
}

export function checkOf(service: ReleaseService): RouterBackend["check"] {
  const { health } = service;
  if (health?.tcp || (health?.command && health.path === undefined)) return { kind: "tcp" };
  return { kind: "http", path: health?.path ?? "/", declared: health?.path !== undefined };
}

const DEFAULT_HEALTH = HealthCheck.parse({});

function newBackend(place: Place, service: ReleaseService, routerAddress: string): RouterBackend {
  const { interval, timeout, healthy, unhealthy } = service.health ?? DEFAULT_HEALTH;
  return {
    name: backendName(place, service.name),
    hosts: service.hosts,
    internalAddress: routerAddress,
    internalHost: service.name,
    check: checkOf(service),
    timing: { interval, timeout, healthy, unhealthy },
    servers: [],
  };
}

function findBackend(state: RouterState, name: string): RouterBackend {
  const backend = state.backends.find((one) => one.name === name);
  if (backend === undefined) throw new Error(`the router has no back end ${name}: the rollout was not prepared`);
  return backend;
}

function isSameCheck(one: RouterBackend, other: RouterBackend): boolean {
  return JSON.stringify([one.check, one.timing]) === JSON.stringify([other.check, other.timing]);
}

function replace(state: RouterState, changed: RouterBackend): RouterState {
  return { backends: state.backends.map((backend) => (backend.name === changed.name ? changed : backend)) };
}

/** Every server of the place as `change` says; without those it gives nothing for. */
export function mapServers(
  state: RouterState,
  place: Place,
  change: (server: RouterServer) => RouterServer | undefined,
): RouterState {
  return {
    backends: state.backends.map((backend) =>
      backend.name.startsWith(placePrefix(place))
        ? { ...backend, servers: backend.servers.flatMap((server) => change(server) ?? []) }
        : backend,
    ),
  };
}
