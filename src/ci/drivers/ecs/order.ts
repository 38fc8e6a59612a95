import type { StepPlan } from "../../executor.ts";

/** Where things stand in the containers of a step's task, beside the checkout. */
export const TASK_DIRS = {
  /** Mounted into ours and into the step: checkout, scripts, what the two hand each other. */
  work: "/opt/atlassian/pipelines/agent",
  /** Only in ours. */
  own: "/shipway",
  /** In the first container each cache that the step gets mounted. */
  mounts: "/shipway-mounts",
} as const;

/** Below the work directory: the pipes that the script's output goes through, its exit code, and caches that the step leaves there. */
export const PIPES_DIR = `${TASK_DIRS.work}/pipes`;
export const KEPT_DIR = `${TASK_DIRS.work}/kept`;

/** Signed addresses for what the task leaves. They live shorter than a step may run, so they are given anew by the object that `again` names. */
export type Addresses = { artifacts: string | null; caches: Record<string, string>; result: string; again: string };

/** What the first container is told, by one object of S3. Plain JSON; it holds secrets, so it is removed with its run. */
export type Order = {
  /** The program that runs in the first and in the last container. */
  program: string;
  /** As a remark says it: `main at 0123456789`. */
  checkout: { address: string; what: string } | null;
  /** What earlier steps kept, by `STAGE.STEP`. */
  artifacts: { name: string; address: string }[];
  step: Pick<StepPlan, "stage" | "downloadArtifacts" | "artifacts" | "maxTimeMs">;
  /** What is kept of the step's caches: in the checkout, or mounted. */
  caches: {
    name: string;
    address: string;
    into: { kind: "checkout"; path: string } | { kind: "mount"; mount: string };
  }[];
  /** Caches to be kept after a script that passed: of the checkout, or what the script leaves in the directory for them. */
  cachesToKeep: { name: string; from: { kind: "checkout"; path: string } | { kind: "kept"; dir: string } }[];
  /** Remarks about what the step does not get. */
  remarks: string[];
  /** Files beside the checkout, by name. */
  scripts: Record<string, string>;
  /** The step's user is not root: it must be able to write everywhere. */
  openToAll: boolean;
  /** Values that no line may show. */
  secrets: string[];
  addresses: Addresses;
  /** How long the script may take to begin: its services have to answer. */
  beginWithinMs: number;
};
