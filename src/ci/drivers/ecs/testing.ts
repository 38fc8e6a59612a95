import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import type { AwsOptions } from "../../../aws/calls.ts";
import { type Call, type Fate, newFaultProxy } from "../../../rollout/drivers/ecs/fault-testing.ts";
import type { AwsStage } from "../../../rollout/drivers/ecs/testing.ts";
import { newId } from "../../../shared/new-id.ts";
import type { StepSettings } from "../../../spec/ci-settings.ts";
import type { StepExecutor } from "../../executor.ts";
import type { ContractSubject } from "../contract.ts";
import { newContext, newRepository } from "../docker/docker-subject.ts";
import { openEcsExecutor } from "./ecs-executor.ts";
import type { StepTimes } from "./step-run.ts";

export type EcsSubject = ContractSubject & {
  stage: AwsStage;
  settings: StepSettings;
  install: string;
  repositoryDir: string;
  /** An executor with a way to AWS of its own, whose calls may be meddled with. */
  open(options?: OpenOptions): Promise<StepExecutor>;
};

export type OpenOptions = {
  fateOf?: (call: Call & { n: number }) => Fate;
  attempts?: number;
  times?: Partial<StepTimes>;
  settings?: Partial<StepSettings>;
  onCall?: AwsOptions["onCall"];
  now?: () => number;
};

/** As fast as the stand-in; on AWS seconds are enough. */
const FAST: StepTimes = {
  pollMs: 100,
  logLagMs: 3_000,
  unseenMs: 5_000,
  serviceMs: 60_000,
  capacityMs: 3_000,
  firstPauseMs: 50,
  longestPauseMs: 200,
  refreshMs: 240_000,
};

let bundled: Promise<string> | undefined;

/** The program beside a step in one file, as `npm run build` makes it. */
function bundleAgent(): Promise<string> {
  bundled ??= build({
    entryPoints: [join(import.meta.dirname, "agent/main.ts")],
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    write: false,
  }).then(({ outputFiles }) => outputFiles[0]?.text ?? "");
  return bundled;
}

/** An executor with a bucket, a repository and a name of its own, in an account that others of the same file share. */
export async function openEcsSubject(stage: AwsStage): Promise<EcsSubject> {
  const dir = await mkdtemp(join(tmpdir(), "shipway-ci-ecs-"));
  const install = newId("test").replace("_", "");
  const repositoryDir = join(dir, "repository");
  const commit = await newRepository(repositoryDir);
  const { region, cluster, subnets, securityGroups, executionRole } = stage.settings;
  const settings: StepSettings = {
    region,
    cluster,
    subnets,
    securityGroups,
    executionRole,
    publicIp: false,
    workBucket: `work-${install}`,
    toolImage: "node:20-bookworm-slim",
    architecture: "x86_64",
    storageGiB: 20,
    logRetentionDays: 7,
  };
  const endpoints = await fetch(`${stage.endpoint}/${settings.workBucket}`, { method: "PUT" });
  if (!endpoints.ok) throw new Error(`no bucket: ${await endpoints.text()}`);
  const context = newContext(repositoryDir, commit);
  const ways: { close(): Promise<void> }[] = [];
  const open = async ({
    fateOf = () => "pass",
    attempts = 1,
    times,
    settings: changed,
    onCall,
    now,
  }: OpenOptions = {}) => {
    let n = 0;
    const way = await newFaultProxy(stage.endpoint, (call) => fateOf({ ...call, n: ++n }));
    ways.push(way);
    return openEcsExecutor({
      settings: { ...settings, ...changed },
      install,
      agent: bundleAgent,
      workDir: join(dir, "work"),
      searchPath: process.env.PATH ?? "",
      aws: {
        endpoint: way.endpoint,
        reachedAt: stage.endpointOfTasks ?? stage.endpoint,
        attempts,
        speed: 1_000,
        ...(onCall && { onCall }),
      },
      times: { ...FAST, ...times },
      ...(now && { now }),
    });
  };
  const running = async () => {
    const { taskArns } = await stage.aws.ecs.listTasks({
      cluster,
      startedBy: `shipway/ci/${install}/${context.runId}`,
    });
    if ((taskArns ?? []).length === 0) return [];
    const { tasks } = await stage.aws.ecs.describeTasks({ cluster, tasks: taskArns ?? [] });
    return (tasks ?? []).filter((task) => task.containers?.some(({ lastStatus }) => lastStatus !== "STOPPED"));
  };
  return {
    stage,
    settings,
    install,
    repositoryDir,
    executor: await open(),
    image: "debian:bookworm-slim",
    unreachable: "AWS_UNREACHABLE",
    context,
    open,
    async crash() {
      await ways.at(-1)?.close();
      return open();
    },
    left: async () => (await running()).length,
    async close() {
      for (const { taskArn } of await running())
        await stage.aws.ecs.stopTask({ cluster, task: taskArn ?? "", reason: "the test is over" });
      for (const way of ways) await way.close();
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
