import type { Bucket } from "../../../aws/bucket.ts";
import type { LogSink } from "../../../shared/log-line.ts";
import type { StepSettings } from "../../../spec/ci-settings.ts";
import type { PipelineContext, StepOptions, StepPlan } from "../../executor.ts";
import type { Account } from "./account.ts";
import type { Attempts } from "./attempts.ts";
import type { newCheckouts } from "./checkouts.ts";
import type { Keys, StepKey } from "./names.ts";

export type StepTimes = {
  /** How often task and lines are looked at. */
  pollMs: number;
  /** How long lines may need to arrive after their container has stopped. */
  logLagMs: number;
  /** How long ECS may not show a task that it has just started. */
  unseenMs: number;
  /** How long a service may take until it answers. */
  serviceMs: number;
  /** How long to go on asking for a place on Fargate, and the first and the longest pause in between. */
  capacityMs: number;
  firstPauseMs: number;
  longestPauseMs: number;
  /** How often signed addresses are given anew. */
  refreshMs: number;
};

export type ExecutorParts = {
  account: Account;
  bucket: Bucket;
  keys: Keys;
  checkouts: ReturnType<typeof newCheckouts>;
  settings: StepSettings;
  install: string;
  /** Key of the program that runs beside a step, stored. */
  agentKey(): Promise<string>;
  times: StepTimes;
  now: () => number;
};

/** One call of `runStep`: what every phase needs. */
export type StepRun = ExecutorParts & {
  key: StepKey;
  context: PipelineContext;
  step: StepPlan;
  environment: Record<string, string>;
  attempts: Attempts;
  options: StepOptions;
  log: LogSink;
  /** A remark of ours in the step's log. */
  remark(text: string): void;
  /** Lines logged so far, those from before a crash included. */
  logged(): number;
};
