import { rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { errorCode, fail } from "../../../../shared/errors.ts";
import { until } from "../../../../shared/until.ts";
import { asking, isAddressTaken } from "../docker-errors.ts";
import type { Router, RouterState, ServerStatus } from "../router.ts";
import { newAnswerCounts } from "./answer-counts.ts";
import { checkRouterState } from "./check-router-state.ts";
import { findComplaints } from "./complaints.ts";
import { type LiveRouter, parseLiveRouter, parseProcesses, parseStat } from "./live-router.ts";
import { isSettled, planHealth, planRouterChange, type RouterChange } from "./plan-router-change.ts";
import { ADMIN_SOCKET, MASTER_SOCKET, type RenderedRouter, renderConfig, type StoredRouter } from "./render-config.ts";
import { routerAddress } from "./router-address.ts";
import {
  attachedNetworks,
  checkConfig,
  connectRouter,
  disconnectRouter,
  ensureContainer,
  isRunning,
  lastLines,
  type RouterContainerOptions,
  removeContainer,
  removeNetwork,
} from "./router-container.ts";
import {
  CANDIDATE_FILE,
  findConfig,
  makeRouterDirectory,
  readStored,
  removeOldMaps,
  writeRendered,
} from "./router-files.ts";
import { askSocket } from "./router-socket.ts";
import { type RouterStats, toServerStatus } from "./server-status.ts";

export type HaproxyRouterOptions = Omit<RouterContainerOptions, "user"> & {
  /** CIDR blocks of proxies before this one whose `X-Forwarded-*` headers are believed. */
  trustedProxies?: string[];
};

/** HAProxy reads a line of commands into one buffer (16 KiB by default); a longer line is cut off. */
const LONGEST_LINE = 12_000;
/** The container's user where the control plane is root: nobody on the machine has this id. */
const ROUTER_USER = { uid: 61_080, gid: 61_080 };

/** HAProxy in a container of its own. It serves on while the control plane is down, and comes back by itself with the same state. */
export function haproxyRouter(options: HaproxyRouterOptions): Router {
  const { dir } = options;
  const container: RouterContainerOptions = { ...options, network: baseNetwork(options.network), user: routerUser() };
  const inTurn = newTurns();
  const inTurnOfCounting = newTurns();
  const answers = newAnswerCounts();
  const render = (stored: StoredRouter) =>
    renderConfig(stored, options.trustedProxies ? { trustedProxies: options.trustedProxies } : {});

  const admin = (line: string) => askSocket(join(dir, ADMIN_SOCKET), line);
  const master = (line: string) => askSocket(join(dir, MASTER_SOCKET), line);
  const readLive = async () => parseLiveRouter(await admin("show info;show servers state"));
  // The master cannot be reached for some milliseconds after a reload. Taken for "no old worker", that would hide their requests.
  const readProcesses = async () =>
    await untilAnswers("the router's master process", async () => parseProcesses(await master("show proc")));

  /** Brings the running router to what the file says already. */
  async function apply(stored: StoredRouter, rendered: RenderedRouter): Promise<RouterChange> {
    const live = await readLive();
    const change = planRouterChange(live, stored, rendered.structure);
    if (change.kind === "runtime" && (await carryOut(change))) return change;
    const reloaded = await reload(live, rendered);
    await tellHealth(reloaded, live);
    const rest = planRouterChange(reloaded, stored, rendered.structure);
    if (rest.kind === "reload" || !(await carryOut(rest))) {
      throw fail("ROUTER_FAILED", { message: "The router refused its servers, also after a reload." });
    }
    return { kind: "reload" };
  }

  /** @returns false when the router refused any of it */
  async function carryOut(change: RouterChange & { kind: "runtime" }): Promise<boolean> {
    for (const line of toLines(change)) {
      if (findComplaints(await admin(line)).length > 0) return false;
    }
    if (change.cleanUp.some((one) => /^del server (?!proving:)/.test(one))) await countLast();
    for (const line of joinUpTo(LONGEST_LINE, change.cleanUp)) await admin(line);
    return true;
  }

  async function tellHealth(now: LiveRouter, before?: LiveRouter): Promise<void> {
    for (const line of joinUpTo(LONGEST_LINE, planHealth(now, before))) await admin(line);
  }

  async function reload(before: LiveRouter, rendered: RenderedRouter): Promise<LiveRouter> {
    const since = Math.floor(Date.now() / 1_000);
    const { failedReloads } = await readProcesses();
    await countLast();
    await master("reload");
    const reloaded = await untilAnswers("the router's new worker", async () => {
      const live = await readLive();
      if (live.pid !== before.pid && live.structure === rendered.structure) return live;
      const processes = await readProcesses();
      if (processes.failedReloads > failedReloads) throw await reloadFailed(since);
      return undefined;
    });
    await removeOldMaps(dir, rendered);
    return reloaded;
  }

  async function reloadFailed(since: number): Promise<Error> {
    const lines = await lastLines(container, since);
    return fail("ROUTER_FAILED", {
      message: `The router could not load its configuration; the previous one still serves:\n${lines.join("\n")}`,
    });
  }

  /** Writes the new state, so that a router that starts now comes up with it. A new structure is judged by HAProxy first. */
  async function write(before: StoredRouter, after: StoredRouter): Promise<RenderedRouter> {
    const rendered = render(after);
    if (render(before).structure !== rendered.structure && (await isRunning(container))) {
      await writeRendered(dir, rendered, CANDIDATE_FILE);
      const complaints = await checkConfig(container, CANDIDATE_FILE);
      await rm(join(dir, CANDIDATE_FILE), { force: true });
      if (complaints.length > 0) {
        throw fail("ROUTER_FAILED", { message: `HAProxy refuses the configuration:\n${complaints.join("\n")}` });
      }
    }
    await writeRendered(dir, rendered);
    return rendered;
  }

  async function ensure(): Promise<"adopted" | "started" | "created"> {
    await makeRouterDirectory(dir, container.user);
    const stored = await readStored(dir);
    const rendered = render(stored);
    if ((await findConfig(dir)) !== rendered.config) await writeRendered(dir, rendered);
    const how = await ensureContainer(container);
    await reattach(stored.networks);
    await untilServing();
    if (how !== "adopted") await tellHealth(await readLive());
    return how;
  }

  /** A network that was removed meanwhile has nobody to route to; its environment's own start attaches it again. */
  async function reattach(networks: StoredRouter["networks"]): Promise<void> {
    const attached = await attachedNetworks(container);
    const missing = Object.entries(networks).filter(([network, address]) => attached[network] !== address);
    if (missing.length === 0) return;
    const existing = await asking("Listing networks", () => options.docker.listNetworks());
    const names = new Set(existing.map(({ Name }) => Name));
    for (const [network, address] of missing) {
      if (names.has(network)) await connectRouter(container, network, address);
    }
  }

  async function untilServing(): Promise<void> {
    const since = Math.floor(Date.now() / 1_000) - 5;
    try {
      await untilAnswers("the router's admin socket", async () => (await readLive()).pid > 0);
    } catch (cause) {
      const lines = await lastLines(container, since);
      throw fail("ROUTER_FAILED", {
        message: `The router ${options.name} does not come up:\n${lines.join("\n")}`,
        cause,
      });
    }
  }

  async function reconcile(): Promise<string[]> {
    const how = await ensure();
    const stored = await readStored(dir);
    const change = await apply(stored, render(stored));
    const container = how === "adopted" ? [] : [`the router's container was missing or stopped, and is ${how} again`];
    return [...container, ...describeChange(change)];
  }

  async function readStats(): Promise<RouterStats> {
    const [answer, { oldWorkers }] = await Promise.all([admin("show stat"), readProcesses()]);
    const old = await Promise.all(oldWorkers.map((pid) => master(`@!${pid} show stat`)));
    return { stat: parseStat(answer), oldWorkers: old.map(parseStat) };
  }

  /** One after another: an older picture after a newer one would look like counters that began anew. */
  const countAnswers = () =>
    inTurnOfCounting(async () => {
      const [answer, { oldWorkers }] = await Promise.all([admin("show info;show stat"), readProcesses()]);
      const { pid } = parseLiveRouter(answer);
      const old = await Promise.all(
        oldWorkers.map(async (one) => ({ pid: one, rows: parseStat(await master(`@!${one} show stat`)) })),
      );
      return answers.add([{ pid, rows: parseStat(answer) }, ...old.filter((one) => one.pid !== pid)]);
    });

  /** A server that goes and a worker that is replaced take their counters along. Figures are not worth failing for. */
  const countLast = () => countAnswers().catch(() => undefined);

  return {
    ensure: () =>
      inTurn(async () => {
        await ensure();
        const stored = await readStored(dir);
        await apply(stored, render(stored));
      }),

    attach: (network) =>
      inTurn(async () => {
        refuseEarlierName(network, container.network);
        const address = await fixedAddress(options, network);
        const stored = await readStored(dir);
        if (stored.networks[network] !== address) {
          await writeRendered(dir, render({ ...stored, networks: { ...stored.networks, [network]: address } }));
        }
        try {
          await connectRouter(container, network, address);
        } catch (error) {
          throw isAddressTaken(error) ? addressTaken(network, address, error) : error;
        }
        return { address };
      }),

    detach: (network) =>
      inTurn(async () => {
        const stored = await readStored(dir);
        const { [network]: _detached, ...networks } = stored.networks;
        if (network in stored.networks) await writeRendered(dir, render({ ...stored, networks }));
        await disconnectRouter(container, network);
      }),

    update: (change) =>
      inTurn(async () => {
        const before = await readStored(dir);
        const { backends } = change({ backends: before.backends });
        if (isDeepStrictEqual(backends, before.backends)) return;
        checkRouterState({ backends });
        const after = { ...before, backends };
        const rendered = await write(before, after);
        await reachable(options.name, () => apply(after, rendered));
      }),

    current: async (): Promise<RouterState> => ({ backends: (await readStored(dir)).backends }),

    status: async (names): Promise<ServerStatus[]> => {
      const { backends } = await readStored(dir);
      const stats = await reachable(options.name, readStats);
      return backends
        .filter(({ name }) => names.includes(name))
        .flatMap((backend) => backend.servers.map((server) => toServerStatus(backend, server, stats)));
    },

    answers: () => reachable(options.name, countAnswers),

    reconcile: () => inTurn(reconcile),

    remove: () =>
      inTurn(async () => {
        await removeContainer(container);
        await removeNetwork(container);
      }),
  };
}

/** One after another, in the order of the calls; a failed one does not stop the next. */
function newTurns(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const mine = last.then(work);
    last = mine.catch(() => undefined);
    return mine;
  };
}

/** The change as command lines: one, unless it is longer than a line can be. Then traffic still moves in a line of its own. */
function toLines({ prepare, traffic }: RouterChange & { kind: "runtime" }): string[] {
  const whole = [...prepare, ...traffic];
  if (joinedLength(whole) <= LONGEST_LINE) return joinUpTo(LONGEST_LINE, whole);
  return [...joinUpTo(LONGEST_LINE, prepare), ...joinUpTo(LONGEST_LINE, traffic)];
}

function joinUpTo(longest: number, commands: string[]): string[] {
  const lines: string[] = [];
  for (const command of commands) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + command.length <= longest)
      lines[lines.length - 1] = `${last};${command}`;
    else lines.push(command);
  }
  return lines;
}

const joinedLength = (commands: string[]) => commands.join(";").length;

function describeChange(change: RouterChange): string[] {
  if (change.kind === "reload") return ["the router ran another configuration than declared, and loaded it"];
  if (isSettled(change)) return [];
  return [...change.prepare, ...change.traffic].map((command) => `router: ${command}`);
}

/** The socket of a worker or master that is just being replaced refuses for some milliseconds. An error with a code ends the waiting. */
async function untilAnswers<T>(what: string, probe: () => Promise<T | undefined | false>): Promise<T> {
  const outcome = await until<{ value: T } | { error: unknown }>(
    what,
    async () => {
      try {
        const value = await probe();
        return value === undefined || value === false ? undefined : { value };
      } catch (error) {
        if (errorCode(error) !== undefined) return { error };
        throw error;
      }
    },
    { withinMs: 10_000, everyMs: 10 },
  );
  if ("error" in outcome) throw outcome.error;
  return outcome.value;
}

async function reachable<T>(name: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (cause) {
    if (
      cause instanceof Error &&
      "code" in cause &&
      ["ENOENT", "ECONNREFUSED", "ECONNRESET"].includes(String(cause.code))
    )
      throw fail("ROUTER_FAILED", {
        message: `The router ${name} does not answer on its admin socket.`,
        hint: `See \`docker logs ${name}\`. Its state is written: it comes up with it when it starts.`,
        cause,
      });
    throw cause;
  }
}

/**
 * Docker leads a container's published ports over the network whose name sorts first (libnetwork, `epHeap.Less`). Attaching
 * one that sorts before the base network moves the port: connections to it were refused for 0.6 s (seen). So the base
 * network gets a name that sorts before any other of ours.
 */
function baseNetwork(name: string): string {
  return `0-${name}`;
}

function refuseEarlierName(network: string, base: string): void {
  if (network > base) return;
  throw new Error(
    `network ${network} sorts before the router's base network ${base}: attaching it would cut all traffic`,
  );
}

async function fixedAddress({ docker }: HaproxyRouterOptions, network: string): Promise<string> {
  const { IPAM } = await asking(`Reading network ${network}`, () => docker.getNetwork(network).inspect());
  const address = (IPAM?.Config ?? []).map(routerAddress).find((one) => one !== undefined);
  if (address !== undefined) return address;
  throw fail("ROUTER_FAILED", { message: `Network ${network} has no IPv4 subnet to give the router an address in.` });
}

function addressTaken(network: string, address: string, cause: unknown): Error {
  return fail("ROUTER_FAILED", {
    message: `The router cannot have ${address} in ${network}: another container does.`,
    hint: `Disconnect it: \`docker network inspect ${network}\` tells which one it is.`,
    cause,
  });
}

function routerUser(): { uid: number; gid: number } {
  const uid = process.getuid?.() ?? 0;
  return uid === 0 ? ROUTER_USER : { uid, gid: process.getgid?.() ?? uid };
}
