import { rm } from "node:fs/promises";
import { join } from "node:path";
import { openBucket } from "../../../aws/bucket.ts";
import type { AwsOptions } from "../../../aws/calls.ts";
import type { StepSettings } from "../../../spec/ci-settings.ts";
import type { StepExecutor } from "../../executor.ts";
import { newAccount } from "./account.ts";
import { openStepAws } from "./aws-clients.ts";
import { newCheckouts } from "./checkouts.ts";
import { familyOf, hexHash, newKeys, startedByOf } from "./names.ts";
import { runStep } from "./run-step.ts";
import type { StepTimes } from "./step-run.ts";
import { removeTemporary } from "./temporary.ts";

export type EcsExecutorOptions = {
  settings: StepSettings;
  /** Keeps what several Shipways make in one account apart. */
  install: string;
  /** The program that runs beside a step, as text: `agent/main.ts` in one file. */
  agent(): Promise<string>;
  /** For checkouts while they are stored. */
  workDir: string;
  /** A PATH in which git and tar are found. */
  searchPath: string;
  aws?: Partial<AwsOptions> & { reachedAt?: string | undefined };
  times?: Partial<StepTimes>;
  now?: () => number;
};

const TIMES: StepTimes = {
  pollMs: 1_000,
  logLagMs: 15_000,
  unseenMs: 60_000,
  serviceMs: 120_000,
  capacityMs: 10 * 60_000,
  firstPauseMs: 5_000,
  longestPauseMs: 60_000,
  refreshMs: 240_000,
};

/**
 * Steps as tasks of Fargate, each with its services beside it. What they need and leave goes through a bucket, by signed addresses; the journal is there, too.
 * They outlive a restart of Shipway, which follows them on.
 */
export async function openEcsExecutor(options: EcsExecutorOptions): Promise<StepExecutor> {
  const { settings, install, searchPath, now = Date.now } = options;
  const awsOptions = { ...options.aws, region: settings.region };
  const workDir = join(options.workDir, hexHash(JSON.stringify(settings), 12));
  const [aws, bucket] = await Promise.all([
    openStepAws(awsOptions),
    openBucket({ ...awsOptions, bucket: settings.workBucket }),
    // A checkout that a crash left half stored.
    rm(workDir, { recursive: true, force: true }),
  ]);
  const account = newAccount(aws, install, settings);
  const keys = newKeys(install);
  /** Looked for each time: somebody may have emptied the bucket. */
  const agentKey = async (): Promise<string> => {
    const text = await options.agent();
    const key = keys.agent(hexHash(text, 16));
    if ((await bucket.find(key)) === undefined) await bucket.put(key, text);
    return key;
  };
  const parts = {
    account,
    bucket,
    keys,
    checkouts: newCheckouts({ bucket, keys, workDir, searchPath }),
    settings,
    install,
    agentKey,
    times: { ...TIMES, ...options.times },
    now,
  };
  const told = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw aws.toPublic(error);
    }
  };

  return {
    runStep: (context, step, log, stepOptions) => told(() => runStep(parts, context, step, log, stepOptions)),

    cleanUp: (runId) =>
      told(async () => {
        const left = await account.startedTasks(startedByOf(install, runId));
        await Promise.all(left.map((arn) => account.stopTask(arn, "Shipway: the pipeline is over")));
        const objects = await bucket.list(keys.run(runId));
        await removeTemporary(bucket, account, objects);
        // Last: they say what else there is.
        await bucket.remove(objects.map(({ key }) => key));
      }),

    forget: (app) =>
      told(async () => {
        await account.removeDefinitions(familyOf(install, app, ""));
        await account.removeLogGroup(app);
        await bucket.remove((await bucket.list(keys.caches(app))).map(({ key }) => key));
      }),

    runs: () => bucket.listNames(keys.runs),
  };
}
