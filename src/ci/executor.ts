import type { LogSink } from "../shared/log-line.ts";
import type { Secret } from "../shared/secret.ts";

/** A container beside a step. `port` known: its readiness is awaited before the script starts. */
export type ServicePlan = {
  name: string;
  image: string;
  variables: Record<string, string>;
  memoryMiB: number;
};

export type CachePlan = { name: string; path: string; keyFiles: string[] };

/** One step, fully resolved: nothing of the YAML has to be looked up again. Plain JSON. */
export type StepPlan = {
  /** Unique in its pipeline run: `1`, `2.1` (first of a parallel group). */
  id: string;
  name: string;
  image: string;
  script: string[];
  afterScript: string[];
  services: ServicePlan[];
  caches: CachePlan[];
  /** Globs of files to keep for later steps. */
  artifacts: string[];
  /** Globs; empty takes none, undefined takes all artifacts of earlier steps. */
  downloadArtifacts?: string[];
  maxTimeMs: number;
  memoryMiB: number;
  clone: { enabled: boolean; depth?: number };
  /** Where in the file the step starts (1-based), for messages. */
  line: number;
};

/** Stages run one after the other; the steps of one stage side by side. */
export type PipelinePlan = {
  /** Which selection of the file matched: `default`, `branches.main`, `tags.v*`. */
  selector: string;
  stages: { steps: StepPlan[]; failFast: boolean }[];
  notes: string[];
};

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
  /** Time of each script line, in order. */
  commands: { command: string; durationMs: number; exitCode: number }[];
  lastLines: string[];
};

/** What a pipeline run needs to know of its change. */
export type PipelineContext = {
  /** Unique; keys containers, artifacts and logs. */
  runId: string;
  app: string;
  repositoryDir: string;
  commit: string;
  refKind: "branch" | "tag";
  refName: string;
  buildNumber: number;
  variables: Record<string, string>;
  secrets: Record<string, Secret>;
};

/** Runs one step. Drivers: docker, ecs, memory; all pass `drivers/contract.ts`. */
export interface StepExecutor {
  /**
   * Runs the step to its end and returns the outcome; a failing script is an outcome. Output arrives live at `log`, timed per command.
   * Keyed by (runId, step.id): when its container still runs after a crash it attaches again from `alreadyLogged` lines on; when it ended it takes its exit code.
   * Aborting `signal` stops the containers, then resolves with `canceled`. Nothing of the step is left when it resolves.
   * @throws DOCKER_UNREACHABLE, DOCKER_FAILED, IMAGE_UNAVAILABLE, DISK_FULL
   */
  runStep(
    context: PipelineContext,
    step: StepPlan,
    log: LogSink,
    options: { alreadyLogged: number; signal?: AbortSignal },
  ): Promise<StepOutcome>;
  /** Removes whatever a run left behind (containers, networks, artifacts). Repeating it is a no-op. */
  cleanUp(runId: string): Promise<void>;
}
