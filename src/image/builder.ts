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
  /** `sha256:…`: the engine's content id, which tasks are started from; of an image that is in a registry, the digest it has there. */
  digest: string;
  /** `HOST/REPOSITORY@sha256:…` where the image is in a registry rather than in this machine's engine. */
  reference?: string;
  /** True when an image of this name was already there and nothing was built. */
  reused: boolean;
  durationMs: number;
  /** Ports the image declares with EXPOSE, for messages only. */
  exposedPorts: number[];
};

/** As of a built image. */
export type FetchedImage = Pick<BuiltImage, "digest" | "reference">;

/** The user's build failed: a result, not an error. `lastLines` ends with the failing command's own output. */
export type BuildFailure = {
  service: string;
  name: string;
  message: string;
  dockerfileLine?: number;
  lastLines: string[];
};

export type BuildOutcome = { status: "built"; image: BuiltImage } | { status: "failed"; failure: BuildFailure };

/** Builds images. Drivers: docker (BuildKit of the engine), codebuild (AWS), memory. All pass `contract.ts`. */
export interface ImageBuilder {
  /**
   * Builds `plan` unless an image of that name is there, and returns what it is called. Repeating it is a no-op.
   * Output arrives live at `log`. Aborting `signal` stops the build and rejects with its reason.
   * @throws DOCKER_UNREACHABLE, DOCKER_FAILED, DISK_FULL, DOCKERFILE_MISSING; CODEBUILD_FAILED, IMAGE_PUSH_FAILED, AWS_DENIED and other AWS codes
   */
  build(plan: ImagePlan, log: LogSink, signal?: AbortSignal): Promise<BuildOutcome>;
  /**
   * Makes an image that is not built here available (pulled when missing, or pinned by its digest where it is) and returns what it is called.
   * @throws IMAGE_UNAVAILABLE
   */
  fetch(reference: string, log: LogSink, signal?: AbortSignal): Promise<FetchedImage>;
  /** Removes images of `app` whose name is not in `keep`. An image in use is kept. */
  prune(app: string, keep: string[]): Promise<string[]>;
}
