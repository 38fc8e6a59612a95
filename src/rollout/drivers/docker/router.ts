import type { HealthCheck } from "../../../spec/app-spec.ts";

/** One task behind a back end. `drain` is health-checked but gets no new request; `ready` gets traffic; `maint` is left alone (a paused task). */
export type RouterServer = { name: string; address: string; port: number; state: "ready" | "drain" | "maint" };

/** One service with a port in one environment. */
export type RouterBackend = {
  /** `APP.ENV.SERVICE`. */
  name: string;
  /** Host names from outside. */
  hosts: string[];
  /** The router's own address in the environment's network; `http://SERVICE` from a task arrives there. */
  internalAddress: string;
  /** The service's name, which is its host name inside the environment. */
  internalHost: string;
  /** HTTP `path` (any answer below 500 is healthy when the user declared none: `path: "/"`, `declared: false`) or a TCP connect. */
  check: { kind: "http"; path: string; declared: boolean } | { kind: "tcp" };
  timing: Pick<HealthCheck, "interval" | "timeout" | "healthy" | "unhealthy">;
  servers: RouterServer[];
};

/** The whole desired state. The file on disk always equals it. */
export type RouterState = { backends: RouterBackend[] };

export type ServerStatus = {
  backend: string;
  name: string;
  address: string;
  operational: "up" | "down" | "starting" | "maint";
  admin: "ready" | "drain" | "maint";
  /** The last check as a sentence fragment: `HTTP 500`, `connection refused`, `timed out after 2 s`. */
  lastCheck: string;
  lastCheckMs: number;
  /** Requests or connections in flight. */
  inFlight: number;
  totalRequests: number;
};

/** What a task answered. */
export type Answers = { requests: number; answers4xx: number; answers5xx: number };

export type RouterAnswers = {
  /** By task, with the mean time that its last answers took. */
  tasks: Map<string, Answers & { meanMs: number }>;
  /** By back end: requests that the router answered itself, with an error, since no task did. */
  unanswered: Map<string, number>;
};

/** What carries traffic to tasks on Docker. Changes are serialised: callers need no lock. */
export interface Router {
  /** Image present, directory and configuration written, container running and its admin socket answering. Adopts a running one. */
  ensure(): Promise<void>;
  /** Gives the router a fixed address in an environment's network and returns it. Repeating it is a no-op. */
  attach(network: string): Promise<{ address: string }>;
  detach(network: string): Promise<void>;
  /**
   * Makes `change(current)` the desired state: the file is written first, then only what differs is applied: servers
   * through the runtime API in one command, back ends and hosts by a reload that cuts nothing. Returns when it is in effect.
   */
  update(change: (current: RouterState) => RouterState): Promise<void>;
  /** The desired state as stored (survives a restart of the control plane). */
  current(): Promise<RouterState>;
  /** Live status of all servers of these back ends, from the router itself. */
  status(backends: string[]): Promise<ServerStatus[]>;
  /** What every task answered since this was asked first. It goes on over reloads. A task that is added again begins anew. */
  answers(): Promise<RouterAnswers>;
  /** Compares what the router runs with the desired state and puts it right; says what differed. */
  reconcile(): Promise<string[]>;
  /** Stops and removes the container. */
  remove(): Promise<void>;
}
