import type { LogSink } from "../shared/log-line.ts";
import type { Secret } from "../shared/secret.ts";

/** Login for the registry of an image; the values may be `$VARIABLES` of the run. */
export type ImageLogin = { username: string; password: string };

/** A container beside a step. It answers (by its kind's own query, or on its declared ports) before the script starts. */
export type ServicePlan = {
  name: string;
  image: string;
  login?: ImageLogin;
  /** Values may name `$VARIABLES` of the run. */
  variables: Record<string, string>;
  memoryMiB: number;
};

/** `path` may start with `~`, `$HOME` or `$BITBUCKET_CLONE_DIR`; otherwise it is absolute or relative to the checkout. */
export type CachePlan = { name: string; path: string; keyFiles: string[] };

/** One step, fully resolved: nothing of the YAML has to be looked up again. Plain JSON. */
export type StepPlan = {
  /** Unique in its pipeline run: `1`, `2.1` (first of a parallel group). */
  id: string;
  name: string;
  /** Index of its stage: artifacts of lower stages are handed to it, those of its siblings are not. */
  stage: number;
  image: string;
  login?: ImageLogin;
  /** Numeric user; the default is root, as in Bitbucket. */
  runAsUser?: number;
  script: string[];
  afterScript: string[];
  services: ServicePlan[];
  caches: CachePlan[];
  /** Globs of files to keep for later steps. */
  artifacts: string[];
  /** Globs; empty takes none, undefined takes all artifacts of earlier steps. */
  downloadArtifacts?: string[];
  /** Set for this step by the file, over the team's own: BITBUCKET_PARALLEL_STEP and the like. */
  variables: Record<string, string>;
  /** The environment whose pipeline variables and secrets it gets beside those of every step. */
  deployment?: string;
  maxTimeMs: number;
  memoryMiB: number;
  clone: { enabled: boolean; depth?: number };
  /** The step may fail and the pipeline goes on (`on-fail: ignore`). */
  ignoreFailure: boolean;
  /** Why it is not run, one sentence; it ends as `skipped`. */
  skip?: string;
  /** Why it waits, one sentence: a step that is started by hand, or what follows one. It has no outcome yet. */
  held?: string;
  /** Where in the file the step starts (1-based), for messages. */
  line: number;
};

/** Stages run one after the other; the steps of one stage side by side. */
export type PipelinePlan = {
  /** Which selection of the file matched: `default`, `branches.main`, `tags.v*`. */
  selector: string;
  stages: { steps: StepPlan[]; failFast: boolean }[];
  notes: string[];
  /** What can be started by hand now; left out where nothing waits. */
  gates?: Gate[];
};

/** A manual step, or a manual stage: a run pauses before it until somebody starts it. */
export type Gate = { id: string; name: string; deployment?: string };

export type StepOutcome = {
  id: string;
  name: string;
  status: "passed" | "failed" | "canceled" | "skipped";
  exitCode?: number;
  /** Why it did not pass, one sentence: `npm test exited with 1`, `ran longer than 120 min`, `service mysql never answered`. */
  reason?: string;
  /** The script line that failed, as written. */
  failedCommand?: string;
  startedAt: number;
  endedAt: number;
  /** Time of each script line that was started, in order. */
  commands: { command: string; durationMs: number; exitCode: number }[];
  lastLines: string[];
};

/** Variables and secrets of the team. No name is in both. */
export type StepValues = { variables: Record<string, string>; secrets: Record<string, Secret> };

/** What a step needs to know of its run. */
export type PipelineContext = StepValues & {
  /** Unique; keys containers, artifacts and logs. */
  runId: string;
  app: string;
  repositoryDir: string;
  commit: string;
  refKind: "branch" | "tag";
  refName: string;
  buildNumber: number;
};

/** What can be seen of a step while it runs, beside its lines. `index` counts the entries of `script` from 0. */
export type StepProgress =
  | { kind: "serviceReady"; service: string; durationMs: number }
  | { kind: "commandStarted"; index: number; command: string; at: number }
  | { kind: "commandEnded"; index: number; command: string; at: number; durationMs: number; exitCode: number };

export type StepOptions = {
  /** How many lines (of every stream) of this step `log` took before a crash; 0 for a first run. */
  alreadyLogged: number;
  signal?: AbortSignal;
  /** What belongs to lines logged before a crash is not told again. Must not throw. */
  onProgress?: (progress: StepProgress) => void;
};

/** Runs one step. Drivers: docker, ecs, memory; all pass `drivers/contract.ts`. */
export interface StepExecutor {
  /**
   * Runs the step to its end and returns the outcome; a failing script is an outcome. Output arrives live at `log`, timed per command.
   * Keyed by (runId, step.id): when its container still runs after a crash it attaches again from `alreadyLogged` lines on; when it ended it takes its exit code.
   * Aborting `signal` stops the containers, then resolves with `canceled`. No container of the step is left when it resolves; its outcome and
   * artifacts are kept until `cleanUp`, so that repeating an ended step returns the same outcome and runs nothing.
   * When it throws, containers may be left: call it again to go on, or `cleanUp`.
   * @throws DOCKER_UNREACHABLE, DOCKER_FAILED, IMAGE_UNAVAILABLE, DISK_FULL
   */
  runStep(context: PipelineContext, step: StepPlan, log: LogSink, options: StepOptions): Promise<StepOutcome>;
  /** Removes whatever a run left behind (containers, networks, artifacts). Repeating it is a no-op. */
  cleanUp(runId: string): Promise<void>;
  /** Removes what is kept for an app beyond its runs, caches above all. None of them may be running. Repeating it is a no-op. */
  forget(app: string): Promise<void>;
  /** Ids of the runs that have containers, running or ended: what a run that was cut off left is found by them. */
  runs(): Promise<string[]>;
}
