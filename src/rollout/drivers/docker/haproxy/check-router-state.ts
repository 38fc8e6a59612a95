import { isIPv4 } from "node:net";
import { fail } from "../../../../shared/errors.ts";
import type { RouterBackend, RouterState } from "../router.ts";

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;
const HOST = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
/** Half a character, which has no form in a URL. */
const LONE_SURROGATE = /\p{Surrogate}/u;
/** The longest a HAProxy timer may be is about 24 days; a day is more than any check needs. */
const LONGEST_MS = 86_400_000;

/**
 * Refuses a state the router could not serve as meant. Everything that enters the configuration passes here first, so a
 * name can never become a directive.
 * @throws REQUEST_INVALID with every problem found.
 */
export function checkRouterState(state: RouterState): void {
  const problems = [
    ...repeated(state.backends.map(({ name }) => name)).map((name) => `back end ${name} is declared twice`),
    ...claimedTwice(state.backends),
    ...state.backends.flatMap(problemsOf),
  ];
  if (problems.length === 0) return;
  throw fail("REQUEST_INVALID", {
    message: `The router cannot serve this: ${problems.join("; ")}.`,
    hint: "Give each service host names of its own (`domains` in shipway.yml), then deploy again.",
  });
}

function problemsOf(backend: RouterBackend): string[] {
  const { name, hosts, internalAddress, internalHost, check, timing, servers } = backend;
  return [
    ...(NAME.test(name) ? [] : [`${show(name)} is no name for a back end`]),
    ...hosts.filter((host) => !HOST.test(host)).map((host) => `${show(host)} is no host name`),
    ...(HOST.test(internalHost) ? [] : [`${show(internalHost)} is no host name`]),
    ...(isIPv4(internalAddress) ? [] : [`${show(internalAddress)} is no IPv4 address`]),
    ...(check.kind === "tcp" || isPath(check.path) ? [] : [`the health path of ${name} is no path`]),
    ...Object.entries(timing).flatMap(([key, value]) => (isTimer(value) ? [] : [`${key} of ${name} is ${value}`])),
    ...repeated(servers.map((server) => server.name)).map((server) => `${name} has server ${server} twice`),
    ...servers.filter((server) => !NAME.test(server.name)).map((server) => `${show(server.name)} is no server name`),
    ...servers.filter(({ address }) => !isIPv4(address)).map(({ address }) => `${show(address)} is no IPv4 address`),
    ...servers.filter(({ port }) => !isPort(port)).map(({ port }) => `${port} is no port`),
  ];
}

/** A host name answers for one back end only, and so does an internal name at one address: whoever came last would win silently. */
function claimedTwice(backends: RouterBackend[]): string[] {
  const owners = new Map<string, string>();
  const problems: string[] = [];
  for (const backend of backends) {
    const keys = [...backend.hosts, `${backend.internalHost} at ${backend.internalAddress}`];
    for (const key of new Set(keys)) {
      const owner = owners.get(key);
      if (owner !== undefined) problems.push(`${key} belongs to ${owner} and cannot also lead to ${backend.name}`);
      owners.set(key, backend.name);
    }
  }
  return problems;
}

function repeated(names: string[]): string[] {
  return [...new Set(names.filter((name, index) => names.indexOf(name) !== index))];
}

const isTimer = (value: number) => Number.isInteger(value) && value >= 1 && value <= LONGEST_MS;
const isPort = (port: number) => Number.isInteger(port) && port >= 1 && port <= 65_535;
const isPath = (path: string) => path.startsWith("/") && !LONE_SURROGATE.test(path) && path.length <= 1_000;
const show = (value: string) => JSON.stringify(value.slice(0, 80));
