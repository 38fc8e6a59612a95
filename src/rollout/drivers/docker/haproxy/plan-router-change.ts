import type { RouterBackend, RouterServer, RouterState } from "../router.ts";
import type { LiveRouter, LiveServer } from "./live-router.ts";
import { type BackendKind, haproxyName, serverParameters } from "./render-config.ts";

export type RouterChange =
  /** Back ends, host names or checks differ: only a new worker can have them. */
  | { kind: "reload" }
  /**
   * `prepare` moves no traffic; `traffic` moves all of it, new servers before old ones; `cleanUp` may be refused (a server
   * with connections cannot be deleted yet) and is planned again next time.
   */
  | { kind: "runtime"; prepare: string[]; traffic: string[]; cleanUp: string[] };

type Wanted = { backend: RouterBackend; kind: BackendKind; server: RouterServer; live: LiveServer | undefined };

/**
 * The least that turns what the router runs into what it should run. It reads the router rather than our memory of it, so
 * an update, a restart of the control plane and a mending are the same plan.
 *
 * A `drain` server that never served this worker is proved in the proving back end; one that served stays where its
 * connections are. A `ready` server is enabled in the open back end too, and disabled there when it is anything else.
 */
export function planRouterChange(live: LiveRouter, desired: RouterState, structure: string): RouterChange {
  if (live.structure !== structure) return { kind: "reload" };
  const index = new Map(live.servers.map((server) => [`${server.backend}/${server.name}`, server]));
  const want = (backend: RouterBackend, kind: BackendKind, server: RouterServer): Wanted => ({
    backend,
    kind,
    server,
    live: index.get(`${haproxyName(backend.name, kind)}/${server.name}`),
  });
  const wanted = desired.backends.flatMap((backend) =>
    backend.servers.map((server) => want(backend, "serving", server)),
  );
  const ready = wanted.filter(({ server }) => server.state === "ready");
  const maint = wanted.filter(({ server }) => server.state === "maint");
  const drain = wanted.filter(({ server }) => server.state === "drain");
  const draining = drain.filter(({ live }) => live !== undefined && live.admin !== "maint");
  const proving = drain
    .filter((one) => !draining.includes(one))
    .map(({ backend, server }) => want(backend, "proving", server));
  const opened = ready.map(({ backend, server }) => want(backend, "open", server));
  const closed = [...draining, ...maint].map(({ backend, server }) => want(backend, "open", server));

  const kept = new Set(
    [...ready, ...maint, ...draining, ...proving, ...drain, ...opened, ...closed]
      .map(({ live }) => live)
      .filter((one) => one !== undefined),
  );
  const unwanted = live.servers.filter((server) => !kept.has(server));
  return {
    kind: "runtime",
    prepare: [
      ...[...ready, ...maint, ...opened].flatMap(add),
      ...[...ready, ...opened].flatMap(readdress),
      ...proving.flatMap(prove),
    ],
    traffic: [
      ...[...ready, ...opened].filter(({ live }) => live?.admin !== "ready").flatMap(enable),
      ...draining.filter(({ live }) => live?.admin === "ready").map((one) => `set server ${path(one)} state drain`),
      ...[...maint, ...closed]
        .filter(({ live }) => live && live.admin !== "maint")
        .map((one) => `set server ${path(one)} state maint`),
      ...unwanted.filter(({ admin }) => admin !== "maint").map((one) => `set server ${livePath(one)} state maint`),
    ],
    cleanUp: [...maint.flatMap(readdress), ...unwanted.map((one) => `del server ${livePath(one)}`)],
  };
}

/** True when the router already runs what it should. */
export function isSettled(change: RouterChange): boolean {
  return change.kind === "runtime" && change.prepare.length === 0 && change.traffic.length === 0;
}

/**
 * What a new worker has to be told about the servers in traffic. For HAProxy they have just started: one failed check and
 * they are down, and one that was down gets requests again. They keep what the worker before knew, and otherwise have all
 * of their `unhealthy` failures to go.
 */
export function planHealth(now: LiveRouter, before: LiveRouter | undefined): string[] {
  const key = (one: LiveServer) => `${livePath(one)} ${one.address}:${one.port}`;
  const wereDown = new Set(before?.servers.filter(({ admin, up }) => admin === "ready" && !up).map(key));
  return now.servers
    .filter(({ admin }) => admin === "ready")
    .map((one) => `set server ${livePath(one)} health ${wereDown.has(key(one)) ? "down" : "up"}`);
}

const path = ({ backend, kind, server }: Wanted) => `${haproxyName(backend.name, kind)}/${server.name}`;
const livePath = ({ backend, name }: LiveServer) => `${backend}/${name}`;

/** A server added at run time begins in maintenance. */
function add(one: Wanted): string[] {
  const { backend, kind, server, live } = one;
  if (live !== undefined) return [];
  return [
    `add server ${path(one)} ${server.address}:${server.port} ${serverParameters(backend, kind)}`,
    `enable health ${path(one)}`,
  ];
}

/** A task that came back may have another address; what was known about its health is then checked anew, while it serves. */
function readdress(one: Wanted): string[] {
  const { server, live } = one;
  if (live === undefined || (live.address === server.address && live.port === server.port)) return [];
  return [`set server ${path(one)} addr ${server.address} port ${server.port}`];
}

/**
 * Leaving maintenance makes a server up by itself; one that was draining and failed a check meanwhile is believed now.
 * `health up` also gives it all of its `unhealthy` failures, where HAProxy would let the first one take it down.
 */
function enable(one: Wanted): string[] {
  return [`set server ${path(one)} state ready`, `set server ${path(one)} health up`];
}

/**
 * Makes a server earn its health from nothing. Leaving maintenance counts as healthy for HAProxy, and so does what an
 * earlier occupant of the name earned: `health down` comes last.
 */
function prove(one: Wanted): string[] {
  const afresh = [`set server ${path(one)} state drain`, `set server ${path(one)} health down`];
  if (one.live === undefined) return [...add(one), ...afresh];
  const moved = readdress(one);
  if (moved.length > 0) return [`set server ${path(one)} state maint`, ...moved, ...afresh];
  return one.live.admin === "drain" ? [] : afresh;
}
