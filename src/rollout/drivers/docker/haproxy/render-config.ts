import { createHash } from "node:crypto";
import type { RouterBackend, RouterServer, RouterState } from "../router.ts";

/** Where the router's directory is mounted in the container. */
export const MOUNT = "/router";
export const CONFIG_FILE = "haproxy.cfg";
export const ADMIN_SOCKET = "admin.sock";
export const MASTER_SOCKET = "master.sock";
/** The container's port for traffic from outside; the only one that is published. */
export const OUTSIDE_PORT = 8080;
/** The container's port for calls between services, reachable in the environments' networks only. */
const INTERNAL_PORT = 80;

/**
 * How often a task that has yet to prove itself is checked: while it starts, and once it has answered a first time. The user's
 * `interval` is for steady watching: at one second a deployment would wait seconds for checks that take a millisecond.
 */
const PROOF_EVERY_MS = 50;
const PROOF_AGAIN_MS = 20;
/** How often a task that was found down is looked at again. */
const RECOVERY_EVERY_MS = 200;
/** How long a request waits for a task to accept it. */
const CONNECT_SECONDS = 3;

/**
 * Whether a task that fails its checks could be reached at all: a bare connect, which the kernel answers however starved the
 * task is. HAProxy lets such a check take `inter` at most, so that it waits exactly as long as a request would.
 */
const REACH_CHECK = `check inter ${CONNECT_SECONDS}s fastinter 500ms downinter 500ms rise 1 fall 2`;
/** Idle clients of a worker that was replaced by a reload are gone after this time, or get their next answer with `Connection: close`. */
const KEEP_ALIVE_SECONDS = 10;

/**
 * Idle connections to a task are closed before the task does so itself: a request that crosses its closing is lost, and only
 * one that may be sent twice can be sent again. With HAProxy's own 5 s, 25 of 2,400 requests to a task that closes after 2 s
 * were lost, with this none, at the same throughput. Each period closes about half, so all are gone in some 1.5 s.
 * The first parameter is the default of a `server` line, but `add server` takes 0, which costs half of the throughput.
 */
const IDLE_POOL = "pool-max-conn -1 pool-purge-delay 200ms";

/** What the file holds beside the router's state: the networks the container is to be attached to, with its address in each. */
export type StoredRouter = RouterState & { networks: Record<string, string> };

export type RenderedRouter = {
  config: string;
  /** Map files by name. Their names carry a hash of their content, so the one rename of the configuration switches all. */
  maps: Record<string, string>;
  /** Identifies everything but the servers: what can only change by a reload. The running router tells it as its description. */
  structure: string;
};

/** Each back end of ours is three of HAProxy's. */
export type BackendKind = "serving" | "open" | "proving";

/**
 * The whole configuration. Servers that are `drain` stand, disabled, in a *proving* back end no traffic is routed to: it
 * checks fast and strictly, and a server starts there as down. `ready` servers are served at once by a router that starts.
 *
 * When every server fails its checks, the *open* back end takes over, as an Application Load Balancer does ("fail open",
 * Elastic Load Balancing guide, target group health): overloaded tasks that answer a request late are better than a 503 for
 * everybody. It has the same servers, enabled only where they are `ready`, and skips those whose port accepts nothing.
 */
export function renderConfig(stored: StoredRouter, options: { trustedProxies?: string[] } = {}): RenderedRouter {
  const maps = renderMaps(stored.backends);
  const names = Object.keys(maps);
  const withoutServers = renderFrame(names, options.trustedProxies ?? [], stored.backends, () => []);
  // A server's parameters cannot be changed while it is there either.
  const parameters = stored.backends.flatMap((backend) => KINDS.map((kind) => serverParameters(backend, kind)));
  const structure = hash([renderGlobal(""), withoutServers, ...parameters].join("\n"));
  const config = [
    renderStored(stored),
    renderGlobal(structure),
    renderFrame(names, options.trustedProxies ?? [], stored.backends, (backend, kind) => serverLines(backend, kind)),
  ].join("\n");
  return { config, maps, structure };
}

const KINDS: BackendKind[] = ["serving", "open", "proving"];

/** What HAProxy calls it. No back end of ours has a colon in its name. */
export const haproxyName = (backend: string, kind: BackendKind): string =>
  kind === "serving" ? backend : `${kind}:${backend}`;

/** What follows the address in a `server` line and in `add server`, which knows no `default-server`. */
export function serverParameters(backend: RouterBackend, kind: BackendKind): string {
  if (kind === "open") return `${REACH_CHECK} ${IDLE_POOL}`;
  const { interval, healthy, unhealthy } = backend.timing;
  const [proof, again] = [Math.min(interval, PROOF_EVERY_MS), Math.min(interval, PROOF_AGAIN_MS)];
  // `fall 1` while proving: a task must pass `healthy` times in a row, and one failure starts the count anew.
  if (kind === "proving") return `check inter ${proof} fastinter ${again} downinter ${proof} rise ${healthy} fall 1`;
  // No `fastinter`: it would declare a serving task down long before `unhealthy` × `interval` have passed.
  const recovery = Math.min(interval, RECOVERY_EVERY_MS);
  return `check inter ${interval} downinter ${recovery} rise ${healthy} fall ${unhealthy} ${IDLE_POOL}`;
}

const STORED_PREFIX = "#| ";

/** The desired state travels in the file itself, as a comment: there is no moment at which the two could differ. */
function renderStored(stored: StoredRouter): string {
  const json = JSON.stringify({ networks: stored.networks, backends: stored.backends }, null, 1);
  return [
    "# Written by Shipway; changes by hand are lost.",
    ...json.split("\n").map((line) => STORED_PREFIX + line),
  ].join("\n");
}

/** The JSON that `renderConfig` put into the file; undefined when there is none. */
export function findStoredJson(config: string): string | undefined {
  const lines = config.split("\n").filter((line) => line.startsWith(STORED_PREFIX));
  return lines.length === 0 ? undefined : lines.map((line) => line.slice(STORED_PREFIX.length)).join("\n");
}

function renderMaps(backends: RouterBackend[]): Record<string, string> {
  const hosts = backends.flatMap(({ name, hosts }) => hosts.map((host) => `${host} ${name}`)).sort();
  const internal = backends.map((b) => `${b.internalAddress}/${b.internalHost} ${b.name}`).sort();
  const file = (kind: string, lines: string[]): [string, string] => {
    const text = lines.map((line) => `${line}\n`).join("");
    return [`${kind}-${hash(text)}.map`, text];
  };
  return Object.fromEntries([file("hosts", hosts), file("internal", internal)]);
}

function renderGlobal(structure: string): string {
  return `global
  description ${structure}
  log stdout format raw daemon info
  # The connections follow from the engine's limit on files, up to about 10,000: some engines set none, and a table
  # for all of a billion files would take all of the memory.
  fd-hard-limit 20000
  # Old workers serve what they have (a download, a websocket) this long after a reload.
  hard-stop-after 30m
  stats socket ${MOUNT}/${ADMIN_SOCKET} mode 600 level admin
  stats timeout 1m

defaults
  mode http
  log global
  option httplog
  # Only what went wrong: every request would fill the disk.
  option dontlog-normal
  option dontlognull
  timeout connect ${CONNECT_SECONDS}s
  timeout http-request 30s
  timeout http-keep-alive ${KEEP_ALIVE_SECONDS}s
  timeout client 10m
  timeout client-fin 30s
  timeout server 10m
  timeout queue 5s
  timeout tunnel 1h
  option idle-close-on-response
  # A task that dies takes no request with it that may be sent twice: see disable-l7-retry below for those that may not.
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response
  # HAProxy's own 503: no task can be reached, or there is none yet.
  http-error status 503 content-type text/plain string "No task of this service is ready to answer. Try again in a moment.\\n" hdr Retry-After 2 hdr Cache-Control no-store
`;
}

type ServerLines = (backend: RouterBackend, kind: BackendKind) => string[];

function renderFrame(maps: string[], trusted: string[], backends: RouterBackend[], servers: ServerLines): string {
  const [hosts = "", internal = ""] = maps;
  return [
    renderOutside(`${MOUNT}/${hosts}`, trusted),
    renderInternal(`${MOUNT}/${internal}`),
    ...backends.flatMap((backend) => KINDS.map((kind) => renderBackend(backend, kind, servers(backend, kind)))),
  ].join("\n");
}

/** What a client may not set itself: a header that names it, unless a proxy we were told to trust stands before us. */
function renderOutside(map: string, trusted: string[]): string {
  return `frontend outside
  bind :${OUTSIDE_PORT}
  acl trusted src ${trusted.length === 0 ? "0.0.0.0/32" : trusted.join(" ")}
  http-request del-header X-Forwarded-For unless trusted
  option forwardfor
  http-request set-header X-Forwarded-Proto http unless trusted { req.hdr(X-Forwarded-Proto) -m found }
  http-request set-header X-Forwarded-Host %[req.hdr(host)] unless trusted { req.hdr(X-Forwarded-Host) -m found }
${COMMON}
  http-request set-var(txn.host) req.hdr(host),host_only,lower,regsub(\\.$,)
  http-request set-var(txn.backend) var(txn.host),map_str(${map})
  http-request set-var(txn.shown) str("this host name")
  http-request set-var(txn.shown) var(txn.host) if { var(txn.host) -m reg ^[a-z0-9._-]{1,253}$ }
  http-request return status 404 content-type text/plain hdr X-Content-Type-Options nosniff hdr Cache-Control no-store lf-string "No app answers at %[var(txn.shown)].\\nThe host name must be SERVICE.ENVIRONMENT.APP.localhost or one of the service's domains in shipway.yml; it answers after the first deployment.\\n" unless { var(txn.backend) -m found }
${CHOICE}
`;
}

/** Chosen by where the call arrived as well as by name: two environments may both have an \`api\`. */
function renderInternal(map: string): string {
  return `frontend internal
  bind :${INTERNAL_PORT}
  option forwardfor
  http-request set-header X-Forwarded-Proto http unless { req.hdr(X-Forwarded-Proto) -m found }
  http-request set-header X-Forwarded-Host %[req.hdr(host)] unless { req.hdr(X-Forwarded-Host) -m found }
${COMMON}
  http-request set-var-fmt(txn.key) "%[dst]/%[req.hdr(host),host_only,lower]"
  http-request set-var(txn.backend) var(txn.key),map_str(${map})
  http-request return status 404 content-type text/plain hdr X-Content-Type-Options nosniff hdr Cache-Control no-store string "No service of this environment has that name.\\n" unless { var(txn.backend) -m found }
${CHOICE}
`;
}

// Keep-Alive is a header between neighbours: the task's own says when *it* would close, and a client that believes it
// would send a request into a connection this router has just closed.
const COMMON = `  http-request del-header Proxy
  http-request del-header X-Request-Id unless { req.hdr(X-Request-Id) -m reg ^[A-Za-z0-9._-]{1,128}$ }
  http-request set-header X-Request-Id %[uuid()] unless { req.hdr(X-Request-Id) -m found }
  http-request disable-l7-retry unless { method GET HEAD OPTIONS }
  http-response set-header Keep-Alive timeout=${KEEP_ALIVE_SECONDS}`;

// Servers in drain or maintenance are none that count here.
const CHOICE = `  use_backend ${haproxyName("%[var(txn.backend)]", "open")} if { var(txn.backend),nbsrv eq 0 }
  use_backend %[var(txn.backend)]`;

function renderBackend(backend: RouterBackend, kind: BackendKind, servers: string[]): string {
  const checks = kind === "open" ? [] : [...checkLines(backend), `timeout check ${backend.timing.timeout}`];
  const lines = ["balance leastconn", ...checks, ...servers];
  return [`backend ${haproxyName(backend.name, kind)}`, ...lines.map((line) => `  ${line}`), ""].join("\n");
}

function checkLines({ check, hosts, internalHost }: RouterBackend): string[] {
  if (check.kind === "tcp") return [];
  // Frameworks that only answer to names they know (Django, Rails) would refuse an address.
  const host = hosts[0] ?? internalHost;
  const expected = check.declared ? "200-399" : "200-499";
  return [
    "option httpchk",
    `http-check send meth GET uri '${encodePath(check.path)}' ver HTTP/1.1 hdr Host ${host} hdr User-Agent Shipway-Health hdr Accept */*`,
    `http-check expect status ${expected}`,
  ];
}

/** As it must stand in a request line; nothing in it can then end the quotes it is written in. */
function encodePath(path: string): string {
  return encodeURI(path).replaceAll("%25", "%").replaceAll("'", "%27").replaceAll("#", "%23");
}

function serverLines(backend: RouterBackend, kind: BackendKind): string[] {
  const parameters = serverParameters(backend, kind);
  const isProving = ({ state }: RouterServer) => state === "drain";
  return backend.servers
    .filter((server) => isProving(server) === (kind === "proving"))
    .map(({ name, address, port, state }) => {
      const disabled = state === "ready" ? "" : " disabled";
      return `server ${name} ${address}:${port} ${parameters}${disabled}`;
    });
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}
