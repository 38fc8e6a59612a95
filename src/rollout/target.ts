import type { Readable, Writable } from "node:stream";
import type { LogLine, LogSink } from "../shared/log-line.ts";
import type { Secret } from "../shared/secret.ts";
import type { BackingSpec } from "../spec/app-spec.ts";
import type { Measured } from "./measurement.ts";
import type { Place, Release, ReleaseService } from "./release.ts";

/** What can be seen of the tasks of one service of one release. */
export type ObservedService = {
  release: number;
  service: string;
  /** `standby`: parked, ready to serve again. `draining`: out of traffic, still running. */
  traffic: "serving" | "draining" | "standby" | "none";
  /** `paused`: parked where a runtime can pause; one that cannot keeps standby tasks `running`. `starting`: accepted, not yet running. */
  tasks: { name: string; state: "starting" | "running" | "paused" | "exited" }[];
};

/** Why a task is not healthy, in facts; kept with the deployment after the task is gone. */
export type Evidence = {
  task: string;
  service: string;
  /** One sentence: what is wrong and, where it can be told, why. */
  summary: string;
  state: "running" | "exited" | "restarting" | "missing";
  exitCode?: number;
  outOfMemory?: boolean;
  /** What was asked and what came back, oldest first: `GET http://172.18.0.3:3000/ → 500`, `TCP 172.18.0.3:3000 → connection refused`. */
  probes: string[];
  /** Ports the container really listens on. */
  listening: { port: number; address: string; loopbackOnly: boolean }[];
  lastLines: string[];
};

export type HealthReport =
  | { status: "healthy"; notes: string[] }
  | { status: "unhealthy"; reason: string; evidence: Evidence[] };

/** Told while waiting: `web 1/2 healthy`. */
export type HealthProgress = (progress: {
  service: string;
  healthy: number;
  wanted: number;
  detail: string;
  /** All are healthy, and yet this has to come first. */
  waitsFor?: string;
}) => void;

/** A backing service with the address tasks reach it at. */
export type Backing = { name: string; spec: BackingSpec; password: Secret };
/** Variables for tasks: `DB_URL`, `DB_HOST`, `DB_PORT`, and `DB_USER`, `DB_PASSWORD`, `DB_NAME` where the engine has them. */
export type BackingVariables = Record<string, Secret>;

/** What is really there of a backing service. */
export type ObservedBacking = {
  name: string;
  /** `starting`: it runs and answers no query yet. `stopped`: a container that serves nobody, be it stopped, paused or taken off its network. */
  state: "running" | "starting" | "stopped" | "missing";
  /** Version tag of what is there; where nothing is, of what would be started. */
  version: string;
  /** Where tasks reach it. */
  host: string;
  port: number;
  /** Names of the variables that tasks get. */
  variables: string[];
  /** Its name on the engine. */
  container?: string;
  /** True when it was made from other settings than those declared. */
  isChanged: boolean;
};

/**
 * `env` wins over the release's own variables, `secrets` over both, `references` over all: secrets that the runtime reads itself when a task starts, by
 * variable, as its task definitions name them. Only ECS has any.
 */
export type TaskVariables = {
  env: Record<string, string>;
  secrets: Record<string, Secret>;
  references?: Record<string, string>;
};

/** A release with all that its tasks are started with; `variables` is keyed by service. Holds secrets, so it is never stored. */
export type RunnableRelease = { release: Release; variables: Record<string, TaskVariables> };

/** A command that is run to its end in a container of its own. */
export type OneOffRun = {
  key: string;
  service: string;
  command: string[];
  variables: TaskVariables;
  deadlineMs: number;
  /**
   * Set for what a person asked for, beside any deployment. It outlives its release's tasks and is kept until `forgetRun`, and aborting asks it to end
   * (SIGTERM) for the service's stop timeout. It must never run twice: `begin` is awaited when all is ready and before it starts, and with `wasBegun`
   * what cannot be found is not started.
   */
  asked?: { wasBegun: boolean; begin(): Promise<void> };
};

/** `exitCode` is 126 or 127, as a shell has it, when the program could not be started. */
export type OneOffResult = { exitCode: number; outOfMemory: boolean; timedOut: boolean };

export type TerminalSize = { columns: number; rows: number };

/** A command inside a running task. */
export type ExecRequest = {
  /** Unique. */
  id: string;
  command: string[];
  /** With a terminal, stdout and stderr are one, and Ctrl-C is a character of stdin. `type` is that of `TERM`. */
  terminal?: (TerminalSize & { type?: string | undefined }) | undefined;
};

export type ExecSession = {
  /** Ending it is the end of the command's input. */
  stdin: Writable;
  /** A reader that is slow slows the command down. */
  stdout: Readable;
  stderr: Readable;
  resize(size: TerminalSize): Promise<void>;
  /** Its exit code, once it has ended and all of its output was read. */
  ended: Promise<number>;
};

/** Whose output: the tasks of a release, or only those of one of its services. */
export type LogSource = { release: number; service?: string | undefined };

/** Takes lines of one task, in their order. Never throws and never blocks the producer. */
export type TaskLogSink = (task: string, lines: LogLine[]) => void;

/**
 * Where tasks run and traffic moves. Drivers: docker, ecs, memory; all must pass `drivers/contract.ts`.
 * Every call is idempotent and keyed by (place, release, service): repeating it finds the work done.
 * All may throw DOCKER_UNREACHABLE, AWS_UNREACHABLE or another upstream code; what the user's own app does wrong is a returned report.
 * A runtime may hold two releases of a service at a time; starting a third takes the place of the one on standby, never of the one that serves.
 */
export interface RolloutTarget {
  /**
   * All tasks of the place, of every release, whatever their state; oldest release first. Reads only. With `only`, those of another release may be left
   * out where that saves a call: enough to say whether `only` can be woken.
   */
  observe(place: Place, only?: Release): Promise<ObservedService[]>;

  /** Network, router and back ends for the release exist after this. Traffic does not change. */
  prepare(place: Place, release: Release): Promise<void>;

  /** Where a task of the place reaches this service, which has a port: `http://web`, or the address from outside where a runtime has no other. */
  addressOf(place: Place, service: ReleaseService): string;

  /** What tasks reach these backing services by; known whether or not they run. @throws BACKING_NOT_ON_ECS where they come from elsewhere */
  backingVariables(place: Place, backing: Backing[]): BackingVariables;

  /** What is there of each of these, in their order. Reads only: a query to a running one is all it does. */
  observeBacking(place: Place, backing: Backing[]): Promise<ObservedBacking[]>;

  /**
   * Starts what is missing or stopped, replaces what was made from other settings, keeps data across both, and waits until each answers a real query.
   * The place needs nothing before: its network is made when it is not there. Calls for the same service wait for each other.
   * @throws BACKING_REFUSED when kept data were made by another engine
   */
  ensureBacking(place: Place, backing: Backing[], log: LogSink, signal?: AbortSignal): Promise<void>;

  /** Stops and removes a backing service, its data only where asked. True when any of it was there; what is gone is no error. */
  removeBacking(place: Place, name: string, data: KeptData): Promise<boolean>;

  /**
   * Runs `command` once in a container of the service's image in the place's network; `key` makes it repeatable: a finished run of that
   * key returns its result again, one that still runs is attached to. Aborting stops it and rejects with the signal's reason.
   * @throws RUN_OUTCOME_UNKNOWN when it was begun and nothing can be found of it any more
   */
  runOnce(place: Place, release: Release, run: OneOffRun, log: LogSink, signal?: AbortSignal): Promise<OneOffResult>;

  /**
   * Starts a command inside a running task, or a backing service, with streams to it. Resolves once it was started; a program that is not there ends with 126
   * or 127. Nothing of it is kept.
   * @throws TASK_NOT_RUNNING; on ECS also EXEC_NOT_ENABLED, EXEC_AGENT_DOWN, EXEC_NO_SHELL, EXEC_ENCRYPTED. `ended` rejects with EXEC_CUT_OFF when AWS ends it
   */
  exec(place: Place, task: string, request: ExecRequest): Promise<ExecSession>;

  /**
   * Ends all that is left of an exec of that id and of what it started: asked first, then killed. For connections that broke, also those of an earlier process.
   * Where nothing is left, that is no error.
   */
  endExec(place: Place, task: string, id: string): Promise<void>;

  /** Removes what is kept to remember a run by its key. Only once its end is recorded; what is gone is no error. */
  forgetRun(place: Place, key: string): Promise<void>;

  /** Creates and starts the `count` tasks of a service, beside whatever runs. Returns once started, not once healthy. They get no traffic. */
  startService(place: Place, release: Release, service: ReleaseService, variables: TaskVariables): Promise<void>;

  /**
   * Waits until every task of these services is healthy, or one cannot become so, or a deadline passed: each service has its own
   * (`healthDeadlineMs`), `deadlineMs` caps them all. Aborting rejects with the signal's reason. Never judges by "it is running" alone when
   * there is a port.
   */
  awaitHealthy(
    place: Place,
    release: Release,
    services: ReleaseService[],
    options: { deadlineMs: number; onProgress: HealthProgress; signal?: AbortSignal },
  ): Promise<HealthReport>;

  /**
   * Looks at the tasks of these services for `forMs`, after they were healthy once. Ends at once when one exits, restarts or fails its
   * check, with the evidence. Aborting rejects with the signal's reason.
   */
  watchHealth(
    place: Place,
    release: Release,
    services: ReleaseService[],
    options: { forMs: number; signal?: AbortSignal },
  ): Promise<HealthReport>;

  /** One write a service at most, right after each other: tasks of `release` get all new requests, every other task gets none, the parked ones stay parked. Returns when new requests are answered by `release`. */
  shiftTraffic(place: Place, release: Release): Promise<void>;

  /** Waits until tasks of other releases than `serving` have no request in flight. `stillOpen` counts those that had one at the deadline, by request. */
  awaitDrained(place: Place, serving: number, deadlineMs: number): Promise<{ stillOpen: number }>;

  /**
   * Tasks of services that serve traffic are kept as standby, paused where that is possible (they answer within milliseconds of `wake`). Workers are stopped and removed, since a
   * paused one could hold a lock or a job; so is what owns a host port or a volume, since the next release needs it.
   * A task with a request still open gets no new one and runs on; `reconcile` parks it when the request has ended.
   */
  park(place: Place, release: Release): Promise<void>;

  /** Unpauses the parked tasks of a release, and says which services have all of their tasks running. */
  wake(place: Place, release: Release): Promise<{ ready: string[]; missing: string[] }>;

  /** Stops and removes the tasks of a release (or only those of `services`), gracefully; tasks on their way out are not observed any more. Tasks that are gone are no error. */
  stop(place: Place, release: number, services?: string[]): Promise<void>;

  /**
   * How what runs differs from what is declared, whoever changed it, looked at now, or with `mayBeOldMs` as it was seen so long ago. Reads only. Tasks of a release in progress and of the standby
   * are no drift, nor is a task that is merely unhealthy. Empty when nothing differs; in the order of the release's services.
   */
  findDrift(place: Place, desired: DesiredState, options?: { mayBeOldMs: number }): Promise<TaskDrift[]>;

  /** Makes the running things equal to what is declared: missing tasks started, unknown ones removed, router put right. Says what it mended. */
  reconcile(place: Place, desired: DesiredState): Promise<string[]>;

  /**
   * What tasks print, each task's lines in their order, from `sinceMs` (ms since 1970) on. With `follow` it goes on as lines come, also those of tasks that
   * are started meanwhile, and ends when the signal aborts or none of these tasks is left; without, it ends with what was printed by now, of which it gives
   * the last `MOST_PAST_LINES` at least. Lines of tasks that are gone are given where the runtime still has them.
   */
  readLogs(
    place: Place,
    source: LogSource,
    options: { sinceMs: number; follow: boolean; signal: AbortSignal },
    log: TaskLogSink,
  ): Promise<void>;

  /**
   * Removes what only releases other than `kept` needed, slowly, so that nobody waits for it. Each of `kept` starts afterwards as before, and what runs or
   * stands by is not touched. Ends when the signal aborts, and by itself when the place is changed meanwhile: the next call goes on.
   */
  tidy(place: Place, kept: Release[], signal: AbortSignal): Promise<void>;

  /**
   * What the tasks of these releases use and answer: now, and since `sinceMs`, or as far back as anybody has kept it. Reads only. There is an entry for each of
   * their services, in their order, whether or not it has tasks.
   */
  measure(place: Place, releases: Release[], options: { sinceMs: number }): Promise<Measured>;

  /**
   * Takes away all of the place that runs or carries traffic, of every release, and waits until it has ended: what lies beneath it (a cluster, a load
   * balancer) can go after this. Data, secrets and logs stay for a later start, as do the backing services named in `spared`, and their network.
   * @throws AWS_LEFTOVERS
   */
  halt(place: Place, spared: readonly string[]): Promise<void>;

  /**
   * Removes everything of the place; the data of backing services and volumes only where asked. Where a runtime can tell, it looks whether anything is left.
   * @returns what is still there and is not ours to remove, in sentences
   * @throws AWS_LEFTOVERS
   */
  destroy(place: Place, data: KeptData): Promise<string[]>;
}

/** Whether data outlive what made them. */
export type KeptData = "keep" | "remove";

/** How much past output one reading gives: a service that prints much may keep gigabytes. */
export const MOST_PAST_LINES = 10_000;

/** One thing that runs otherwise than declared. */
export type TaskDrift = {
  /** The task or the backing service; of what is neither, its name where it runs. */
  name: string;
  what: "task" | "backing" | "unknown";
  /**
   * `missing`: not there. `stopped`: there, and not running. `changed`: it runs otherwise than it was made. `no-traffic`: it should serve and the router
   * gives it nothing. `unknown`: nobody declares it. `outdated`: as it was made, but variables were declared anew since; the next deployment takes them over.
   */
  kind: "missing" | "stopped" | "changed" | "no-traffic" | "unknown" | "outdated";
  /** What differs: as declared (`before`) and as it is (`after`). Values of secrets, and of variables that nobody declared, are not shown. */
  attributes: { path: string; before: string; after: string }[];
  /** True when `reconcile` puts it right. */
  mendsItself: boolean;
  /** Where it does not: what a person does to put it right, as a command where there is one. */
  remedy?: string;
};

/** What should run in a place. `inProgress` releases belong to a running deployment and are left alone. */
export type DesiredState = {
  live?: RunnableRelease;
  standby?: Release;
  backing?: Backing[];
  inProgress: number[];
};
