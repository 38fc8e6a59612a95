import type { RouterBackend, RouterServer, RouterState } from "../router.ts";
import type { LiveRouter, LiveServer } from "./live-router.ts";
import { provingName, serverParameters } from "./render-config.ts";

export type RouterChange =
  /** Back ends, host names or checks differ: only a new worker can have them. */
  | { kind: "reload" }
  /**
   * `prepare` moves no traffic; `traffic` moves all of it, new servers before old ones; `cleanUp` may be refused (a server
   * with connections cannot be deleted yet) and is planned again next time.
   */
  | { kind: "runtime"; prepare: string[]; traffic: string[]; cleanUp: string[] };

type Wanted = { backend: RouterBackend; server: RouterServer; live: LiveServer | undefined };

/**
 * The least that turns what the router runs into what it should run. It reads the router rather than our memory of it, so
 * an update, a restart of the control plane and a mending are the same plan.
 *
 * A `drain` server that never served this worker is proved in the proving back end; one that served stays where its
 * connections are.
 */
export function planRouterChange(live: LiveRouter, desired: RouterState, structure: string): RouterChange {
  if (live.structure !== structure) return { kind: "reload" };
  const index = new Map(live.servers.map((server) => [`${server.backend}/${server.name}`, server]));
  const wanted = desired.backends.flatMap((backend) =>
    backend.servers.map((server) => ({ backend, server, live: index.get(`${backend.name}/${server.name}`) })),
  );
  const ready = wanted.filter(({ server }) => server.state === "ready");
  const maint = wanted.filter(({ server }) => server.state === "maint");
  const drain = wanted.filter(({ server }) => server.state === "drain");
  const draining = drain.filter(({ live }) => live !== undefined && live.admin !== "maint");
  const proving = drain
    .filter((one) => !draining.includes(one))
    .map((one) => ({ ...one, live: index.get(`${provingName(one.backend.name)}/${one.server.name}`) }));

  const kept = new Set(
    [...ready, ...maint, ...draining, ...proving, ...drain].map(({ live }) => live).filter((one) => one !== undefined),
  );
  const unwanted = live.servers.filter((server) => !kept.has(server));
  return {
    kind: "runtime",
    prepare: [...[...ready, ...maint].flatMap(addServing), ...ready.flatMap(readdress), ...proving.flatMap(prove)],
    traffic: [
      ...ready.filter(({ live }) => live?.admin !== "ready").flatMap(enable),
      ...draining.filter(({ live }) => live?.admin === "ready").map((one) => `set server ${path(one)} state drain`),
      ...maint.filter(({ live }) => live && live.admin !== "maint").map((one) => `set server ${path(one)} state maint`),
      ...unwanted.filter(({ admin }) => admin !== "maint").map((one) => `set server ${livePath(one)} state maint`),
    ],
    cleanUp: [...maint.flatMap(readdress), ...unwanted.map((one) => `del server ${livePath(one)}`)],
  };
}

/** True when the router already runs what it should. */
export function isSettled(change: RouterChange): boolean {
  return change.kind === "runtime" && change.prepare.length === 0 && change.traffic.length === 0;
}

const path = ({ backend, server }: Wanted) => `${backend.name}/${server.name}`;
const livePath = ({ backend, name }: LiveServer) => `${backend}/${name}`;

/** A server added at run time begins in maintenance. */
function addServing({ backend, server, live }: Wanted): string[] {
  if (live !== undefined) return [];
  const name = `${backend.name}/${server.name}`;
  return [
    `add server ${name} ${server.address}:${server.port} ${serverParameters(backend, "serving")}`,
    `enable health ${name}`,
  ];
}

/** A task that came back may have another address; what was known about its health is then checked anew, while it serves. */
function readdress({ backend, server, live }: Wanted): string[] {
  if (live === undefined || (live.address === server.address && live.port === server.port)) return [];
  return [`set server ${backend.name}/${server.name} addr ${server.address} port ${server.port}`];
}

/** Leaving maintenance makes a server up by itself; one that was draining and failed a check meanwhile is believed now. */
function enable(one: Wanted): string[] {
  return [`set server ${path(one)} state ready`, `set server ${path(one)} health up`];
}

/**
 * Makes a server earn its health from nothing. Leaving maintenance counts as healthy for HAProxy, and so does what an
 * earlier occupant of the name earned: `health down` comes last.
 */
function prove({ backend, server, live }: Wanted): string[] {
  const name = `${provingName(backend.name)}/${server.name}`;
  const address = `${server.address}:${server.port}`;
  const afresh = [`set server ${name} state drain`, `set server ${name} health down`];
  if (live === undefined) {
    return [
      `add server ${name} ${address} ${serverParameters(backend, "proving")}`,
      `enable health ${name}`,
      ...afresh,
    ];
  }
  const moved = readdress({ backend: { ...backend, name: provingName(backend.name) }, server, live });
  if (moved.length > 0) return [`set server ${name} state maint`, ...moved, ...afresh];
  return live.admin === "drain" ? [] : afresh;
}
