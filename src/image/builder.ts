import type { LogSink } from "../shared/log-line.ts";

/** What an image is built from; everything that names it. */
export type ImagePlan = {
  app: string;
  service: string;
  /** `NAMESPACE/APP/SERVICE:HASH`; the hash covers the context's git tree, the Dockerfile, target and args. */
  name: string;
  /** The bare or normal repository on disk. */
  repositoryDir: string;
  commit: string;
  /** Relative to the repository root; `.` is the root. */
  context: string;
  /** Relative to the context. */
  dockerfile: string;
  target?: string;
  args: Record<string, string>;
};

export type BuiltImage = {
  service: string;
  name: string;
  /** The engine's content id, `sha256:…`; what tasks are started from. */
  digest: string;
  /** True when an image of this name was already there and nothing was built. */
  reused: boolean;
  durationMs: number;
  /** Ports the image declares with EXPOSE, for messages only. */
  exposedPorts: number[];
};

/** The user's build failed: a result, not an error. `lastLines` ends with the failing command's own output. */
export type BuildFailure = {
  service: string;
  name: string;
  message: string;
  dockerfileLine?: number;
  lastLines: string[];
};

export type BuildOutcome = { status: "built"; image: BuiltImage } | { status: "failed"; failure: BuildFailure };

/** Builds images. Drivers: docker (BuildKit of the engine), memory. Both pass `contract.ts`. */
export interface ImageBuilder {
  /**
   * Builds `plan` unless an image of that name is there, and returns its content id. Repeating it is a no-op.
   * Output arrives live at `log`. Aborting `signal` stops the build and rejects with its reason.
   * @throws DOCKER_UNREACHABLE, DOCKER_FAILED, DISK_FULL, DOCKERFILE_MISSING
   */
  build(plan: ImagePlan, log: LogSink, signal?: AbortSignal): Promise<BuildOutcome>;
  /**
   * Makes an image that is not built here available (pulled when missing) and returns its content id.
   * @throws IMAGE_UNAVAILABLE
   */
  fetch(reference: string, log: LogSink, signal?: AbortSignal): Promise<{ digest: string }>;
  /** Removes images of `app` whose name is not in `keep`. An image in use is kept. */
  prune(app: string, keep: string[]): Promise<string[]>;
}
