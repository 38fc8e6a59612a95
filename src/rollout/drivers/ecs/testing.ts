import { createHmac } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { startStandIn } from "../../../aws/stand-in.ts";
import { hasMoto } from "../../../aws/testing.ts";
import type { Place, ReleaseService } from "../../release.ts";
import type { EcsSettings } from "../../runtime.ts";
import { newService } from "../../testing.ts";
import type { Behaviour } from "../contract.ts";
import { type AwsClients, openAws } from "./aws-clients.ts";
import type { EcsTargetOptions } from "./ecs-target.ts";
import type { EcsTimes } from "./ground.ts";

/** Where the emulator is missing its tests are skipped, and say so. */
export { hasMoto };

if (!hasMoto)
  console.warn("SKIPPED: tests of the ECS driver. They need the AWS emulator: pip install 'moto[server]==5.2.1'");

const ENGINE = "/var/run/docker.sock";

/** Whether tasks can be real containers here. */
export const hasEngine = hasMoto && existsSync(ENGINE);
if (hasMoto && !hasEngine) console.warn("SKIPPED: tests with tasks as real containers. They need a Docker Engine.");

/** moto with the scheduler of `test/aws/scheduler.py`: what moto answers is an independent opinion, what the scheduler does is our belief. */
export type AwsStage = {
  endpoint: string;
  /** Where containers of tasks reach `endpoint`; undefined when tasks are played. */
  endpointOfTasks: string | undefined;
  settings: EcsSettings;
  /** Clients of somebody else in the same account. */
  aws: AwsClients;
  answering(host: string): Promise<number | undefined>;
  /** The load balancer's address: what it answers comes from the targets, by their Host header. Only with real containers. */
  balancer(): Promise<string>;
  /** Tasks started, services made and task definitions registered so far. */
  stats(): Promise<{ started: number; created: number; definitions: number }>;
  /** Changes how agents for ECS Exec are from now on (`test/aws/exec_service.py`). What clients sent them that AWS's own would not. */
  exec(behaviour?: ExecBehaviour): Promise<string[]>;
  cleanUp(): Promise<void>;
};

export type ExecBehaviour = {
  agent?: "RUNNING" | "PENDING" | "STOPPED";
  reason?: string | null;
  connected?: boolean;
  /** Those of `test/aws/exec_agent.py`. */
  faults?: Record<string, number | true>;
};

/** The credentials of no account: an emulator wants some, and AWS takes none of these. */
export const TEST_CREDENTIALS = { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" };

export type AwsStageOptions = {
  /** Tasks start only from images that are there. */
  registry?: string;
  /** `docker`: tasks are real containers of the local engine. Otherwise they are played by the tag of their image. */
  containers?: "docker";
  /** AWS's own waits are shorter by this factor, with real containers. */
  pace?: number;
  /** Until a line of a real container is in CloudWatch Logs. */
  logDelayMs?: number;
};

export async function newAwsStage({ containers, ...options }: AwsStageOptions = {}): Promise<AwsStage> {
  Object.assign(process.env, TEST_CREDENTIALS);
  const standIn = await startStandIn({
    projectDir: join(import.meta.dirname, "../../../.."),
    environment: process.env,
    ...(containers === "docker" && { containers: ENGINE, pace: 20 }),
    ...options,
  });
  const { endpoint, endpointOfTasks, ask, listen, close } = standIn;
  try {
    const settings = await ask<EcsSettings>("/ground");
    return {
      endpoint,
      endpointOfTasks,
      settings,
      aws: await openAws({ region: settings.region, endpoint, attempts: 1 }),
      answering: async (host) => (await ask<{ release?: number }>(`/answering?host=${host}`)).release,
      balancer: async () => `http://127.0.0.1:${await listen(settings.listener, 0)}`,
      stats: () => ask("/stats"),
      exec: async (behaviour = {}) =>
        (await ask<{ complaints: string[] }>(`/exec?behaviour=${encodeURIComponent(JSON.stringify(behaviour))}`))
          .complaints,
      cleanUp: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** As fast as the scheduler; on AWS seconds are enough. */
const FAST: EcsTimes = {
  pollMs: 40,
  feed: { quickMs: 30, slowMs: 60, overlapMs: 15_000 },
  goneMs: 100,
  logLagMs: 150,
  unseenMs: 5_000,
  watchMs: 40,
  startAllowanceMs: 0,
  quietMs: 0,
  execAgentMs: 10_000,
  namesFreshMs: 0,
  sweepMs: 10_000,
  tidyGapMs: 0,
  lookMs: 2_000,
  readBackMs: 5_000,
  steadyMs: 0,
  walkGapMs: 0,
};

export function targetOptions(stage: AwsStage, changes: Partial<EcsTargetOptions> = {}): EcsTargetOptions {
  return {
    settings: stage.settings,
    install: "test",
    fingerprint: (text) => createHmac("sha256", "test").update(text).digest("hex"),
    aws: { endpoint: stage.endpoint, attempts: 1, speed: 1_000 },
    times: FAST,
    ...changes,
  };
}

/** Settings of an environment that lets commands into its tasks. */
export const withExec = (settings: EcsSettings): EcsSettings => ({
  ...settings,
  exec: true,
  taskRole: "arn:aws:iam::123456789012:role/shipway-task-test",
});

const TAGS: Record<Behaviour, string> = {
  web: "1",
  "web-broken": "broken",
  "web-exits": "exits",
  "web-crashes": "crashes",
  worker: "1",
  "worker-exits": "exits",
};

export function ecsService(
  place: Place,
  name: string,
  behaviour: Behaviour,
  changes: Partial<ReleaseService> = {},
): ReleaseService {
  const image = `shop:${TAGS[behaviour]}`;
  if (behaviour.startsWith("worker")) return newService(name, { image, port: undefined, ...changes });
  const grace = behaviour === "web-broken" ? 1_500 : 10_000;
  const health = { interval: 1_000, timeout: 1_000, healthy: 1, unhealthy: 1, grace };
  return newService(name, { image, health, hosts: [hostOf(place, name)], ...changes });
}

export const hostOf = ({ app, environment }: Place, service: string): string =>
  `${service}.${environment}.${app}.example.com`;
