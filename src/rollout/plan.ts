import { fail } from "../shared/errors.ts";
import {
  healthDeadlineMs,
  needsDowntime,
  type Place,
  type Release,
  type ReleaseService,
  servesTraffic,
  taskNames,
} from "./release.ts";
import type { ObservedService } from "./target.ts";

/** One thing to do; every one can be repeated. */
export type RolloutStep =
  /** Backing services answer; network, router and back ends exist. Not needed to wake a standby, which has all of these. */
  | { do: "prepare" }
  | { do: "run-release-command"; service: string; deadlineMs: number }
  /** Stops services that cannot run twice, as the user accepted. */
  | { do: "make-way"; release: number; services: string[] }
  | { do: "start"; services: string[] }
  | { do: "await-healthy"; services: string[]; deadlineMs: number }
  | { do: "wake" }
  | { do: "shift" }
  /** Watches the new tasks while the verify commands run. */
  | { do: "bake"; forMs: number; services: string[] }
  | { do: "drain"; deadlineMs: number }
  | { do: "park"; release: number }
  | { do: "stop"; release: number }
  /** Starts and proves services of the previous release that had to make way. */
  | { do: "restore"; services: string[]; deadlineMs: number }
  | { do: "shift-back" };

export type PhaseName = "release-commands" | "prove" | "shift" | "workers" | "bake" | "settle" | "retreat";

/** What is checkpointed together: after a crash the steps of an unfinished phase are repeated from its first. */
export type RolloutPhase = { name: PhaseName; steps: RolloutStep[] };

export type RolloutPlan =
  | { status: "already-live" }
  | {
      status: "planned";
      /** `wake`: the release is parked and only has to be woken. */
      how: "start" | "wake";
      phases: RolloutPhase[];
      notes: string[];
    };

export type PlanInput = {
  place: Place;
  observed: ObservedService[];
  release: Release;
  /** The release that serves now. */
  previous?: Release;
  kind: "deploy" | "rollback";
  bakeMs: number;
  /** Waking was tried and tasks were missing: start anew. */
  standbyLost?: boolean;
};

/** A migration over a large table takes minutes; one that takes longer should not hold a deployment. */
const RELEASE_COMMAND_DEADLINE_MS = 15 * 60_000;
/** Requests usually end within a second; anything longer is given what the service declared as `stopTimeout`, between these. */
const DRAIN_DEADLINE_MS = { min: 5_000, max: 60_000 };

/**
 * The whole rollout, decided before anything is done: old tasks are untouched until everything new is healthy, traffic moves
 * once, and after success exactly one earlier release is parked. A release that is parked is woken and gets traffic first;
 * its workers follow. Release commands run in deploys only.
 * @throws DOWNTIME_REFUSED when a deployed service cannot be replaced without an interruption that nobody accepted
 */
export function planRollout(input: PlanInput): RolloutPlan {
  const { release, previous, kind } = input;
  if (previous?.number === release.number) return { status: "already-live" };
  if (kind === "deploy") refuseDowntime(release.services);
  const how = kind === "rollback" && canWake(input) ? "wake" : "start";
  const begin = how === "wake" ? wakePhases(input) : startPhases(input);
  return {
    status: "planned",
    how,
    phases: [...begin, bakePhase(input), planSettling(input)],
    notes: notesOf(input, how),
  };
}

/** What undoes an unfinished rollout, so that the environment runs what it ran before. */
export function planRetreat(
  input: PlanInput,
  reached: { trafficMoved: boolean; why: "failed" | "canceled" },
): RolloutPhase {
  const { release, previous } = input;
  const displaced = displacedServices(input);
  const restore: RolloutStep[] =
    previous === undefined || displaced.length === 0
      ? []
      : [{ do: "restore", services: displaced, deadlineMs: longestWaitMs(pick(previous, displaced)) }];
  const wasParked = input.kind === "rollback" && canWake(input);
  // A canceled rollback leaves the standby as it was; one that failed proved that the standby is no good.
  const leave: RolloutStep =
    wasParked && reached.why === "canceled"
      ? { do: "park", release: release.number }
      : { do: "stop", release: release.number };
  if (!reached.trafficMoved) {
    const reconnect: RolloutStep[] = restore.length > 0 ? [{ do: "shift-back" }] : [];
    return { name: "retreat", steps: [leave, ...restore, ...reconnect] };
  }
  if (previous === undefined) return { name: "retreat", steps: [leave] };
  const makeWay: RolloutStep[] =
    displaced.length > 0 ? [{ do: "make-way", release: release.number, services: displaced }] : [];
  return { name: "retreat", steps: [...makeWay, ...restore, { do: "shift-back" }, leave] };
}

/** One sentence for each service that cannot be replaced without an interruption and does not accept one. */
export function downtimeProblems(services: ReleaseService[]): string[] {
  return services
    .filter((service) => needsDowntime(service) && !service.acceptsDowntime)
    .map((service) => {
      const owns = [
        ...(service.hostPort === undefined ? [] : [`the host's port ${service.hostPort}`]),
        ...service.volumes.map((volume) => `the volume ${volume.split(":")[0]}`),
      ];
      return `${service.name} owns ${owns.join(" and ")}, which two tasks cannot share`;
    });
}

/** @throws DOWNTIME_REFUSED naming every service concerned */
function refuseDowntime(services: ReleaseService[]): void {
  const problems = downtimeProblems(services);
  if (problems.length === 0) return;
  throw fail("DOWNTIME_REFUSED", {
    message: `A release would interrupt the app: ${problems.join("; ")}.`,
    hint: "Remove `hostPort` and `volumes` (the router carries the traffic, `backing` keeps data), or write `downtime: accept` at the service to have it stopped before its new task starts.",
  });
}

/** How long requests in flight on `release` are waited for. */
function drainDeadlineMs(release: Release): number {
  const declared = release.services.filter(servesTraffic).map((service) => service.stopTimeoutMs);
  return Math.min(DRAIN_DEADLINE_MS.max, Math.max(DRAIN_DEADLINE_MS.min, ...declared));
}

function startPhases(input: PlanInput): RolloutPhase[] {
  const { release, kind } = input;
  const names = release.services.map((service) => service.name);
  const commands = kind === "deploy" ? release.services.filter((service) => service.releaseCommand) : [];
  const runCommands: RolloutStep[] = commands.map(({ name }) => ({
    do: "run-release-command",
    service: name,
    deadlineMs: RELEASE_COMMAND_DEADLINE_MS,
  }));
  const prove: RolloutStep[] = [
    ...leftoverStops(input),
    ...makeWaySteps(input),
    { do: "start", services: names },
    { do: "await-healthy", services: names, deadlineMs: longestWaitMs(release.services) },
  ];
  const phases: RolloutPhase[] =
    runCommands.length > 0
      ? [
          { name: "release-commands", steps: [{ do: "prepare" }, ...runCommands] },
          { name: "prove", steps: prove },
        ]
      : [{ name: "prove", steps: [{ do: "prepare" }, ...prove] }];
  return [...phases, { name: "shift", steps: [{ do: "shift" }] }];
}

/** Traffic first: the people who ask for a rollback wait for it, and jobs can wait a second longer. */
function wakePhases(input: PlanInput): RolloutPhase[] {
  const workers = input.release.services.filter((service) => !servesTraffic(service));
  const shift: RolloutPhase = { name: "shift", steps: [{ do: "wake" }, { do: "shift" }] };
  if (workers.length === 0) return [shift];
  const names = workers.map((service) => service.name);
  const start: RolloutStep[] = [
    ...makeWaySteps(input),
    { do: "start", services: names },
    { do: "await-healthy", services: names, deadlineMs: longestWaitMs(workers) },
  ];
  return [shift, { name: "workers", steps: start }];
}

function bakePhase({ release, bakeMs }: PlanInput): RolloutPhase {
  const services = release.services.map((service) => service.name);
  return { name: "bake", steps: [{ do: "bake", forMs: bakeMs, services }] };
}

/** The previous release becomes the one standby; every other one ends. */
export function planSettling({ observed, release, previous }: PlanInput): RolloutPhase {
  const others = releasesOf(observed).filter((number) => number !== release.number && number !== previous?.number);
  const park: RolloutStep[] =
    previous === undefined
      ? []
      : [
          { do: "drain", deadlineMs: drainDeadlineMs(previous) },
          { do: "park", release: previous.number },
        ];
  return { name: "settle", steps: [...park, ...others.map((number) => ({ do: "stop" as const, release: number }))] };
}

/** Woken are only tasks that were parked after having served: each serving service is there in full, and none was started by an unfinished rollout. */
function canWake({ place, observed, release, standbyLost }: PlanInput): boolean {
  const serving = release.services.filter(servesTraffic).filter((service) => service.count > 0);
  if (standbyLost || serving.length === 0 || serving.some(needsDowntime)) return false;
  return serving.every((service) => {
    const seen = observed.find((one) => one.release === release.number && one.service === service.name);
    if (seen === undefined || (seen.traffic !== "standby" && seen.traffic !== "serving")) return false;
    const alive = new Set(seen.tasks.filter((task) => task.state !== "exited").map((task) => task.name));
    return taskNames(place, release.number, service).every((name) => alive.has(name));
  });
}

/** Parked tasks of the very release that is to be started anew (with today's secrets) would pass for started ones. */
function leftoverStops({ observed, release }: PlanInput): RolloutStep[] {
  const parked = observed.some((one) => one.release === release.number && one.traffic === "standby");
  return parked ? [{ do: "stop", release: release.number }] : [];
}

function makeWaySteps(input: PlanInput): RolloutStep[] {
  const services = displacedServices(input);
  if (input.previous === undefined || services.length === 0) return [];
  return [{ do: "make-way", release: input.previous.number, services }];
}

/** Services of the live release whose new tasks need what the old ones own. */
function displacedServices({ release, previous }: PlanInput): string[] {
  const next = release.services.filter((service) => service.count > 0);
  return (previous?.services ?? []).filter((old) => old.count > 0 && isDisplaced(old, next)).map(({ name }) => name);
}

function isDisplaced(old: ReleaseService, next: ReleaseService[]): boolean {
  const volumeNames = (service: ReleaseService) => service.volumes.map((volume) => volume.split(":")[0]);
  const volumes = volumeNames(old);
  return next.some(
    (service) =>
      (old.hostPort !== undefined && service.hostPort === old.hostPort) ||
      volumeNames(service).some((name) => volumes.includes(name)),
  );
}

function notesOf(input: PlanInput, how: "start" | "wake"): string[] {
  const notes: string[] = [];
  const parked = input.kind === "rollback" && how === "start";
  if (parked) notes.push(`r${input.release.number} is not on standby any more, so its tasks are started anew.`);
  for (const name of displacedServices(input)) {
    notes.push(`${name} is stopped before its new task starts, as \`downtime: accept\` allows.`);
  }
  for (const service of input.release.services) {
    if (servesTraffic(service) && isProbedByDefault(service)) {
      notes.push(`${service.name} declares no health check: probing / for any answer below 500.`);
    }
  }
  return notes;
}

function isProbedByDefault({ health }: ReleaseService): boolean {
  return health?.path === undefined && health?.tcp === undefined && health?.command === undefined;
}

function releasesOf(observed: ObservedService[]): number[] {
  return [...new Set(observed.map((one) => one.release))].sort((a, b) => a - b);
}

function longestWaitMs(services: ReleaseService[]): number {
  return Math.max(0, ...services.map(healthDeadlineMs));
}

function pick(release: Release, names: string[]): ReleaseService[] {
  return release.services.filter((service) => names.includes(service.name));
}
