import type { CloudWatchLogs } from "@aws-sdk/client-cloudwatch-logs";
import type { ECS } from "@aws-sdk/client-ecs";
import type { ElasticLoadBalancingV2 } from "@aws-sdk/client-elastic-load-balancing-v2";
import type { SecretsManager } from "@aws-sdk/client-secrets-manager";
import type { InitializeMiddleware } from "@smithy/types";
import { sleep } from "../../../shared/until.ts";
import { type Asked, kindOf } from "./aws-errors.ts";
import { limitOf, newBucket } from "./rate-limit.ts";

export type AwsClients = {
  ecs: ECS;
  elb: ElasticLoadBalancingV2;
  logs: CloudWatchLogs;
  secrets: SecretsManager;
  /** What was being asked when this error came. */
  askedOf(error: unknown): Asked | undefined;
};

export type AwsOptions = {
  region: string;
  /** Of an emulator; undefined for AWS itself. */
  endpoint?: string | undefined;
  /** How often one call is tried at most. */
  attempts?: number;
  /** How many times faster than AWS allows: an emulator has no limits. */
  speed?: number;
  /** Told of each call, before it is made: for figures and recordings. */
  onCall?: (call: { service: string; command: string; input: unknown }) => void;
};

const ATTEMPTS = 6;
const TIMEOUTS_MS = { connectionTimeout: 5_000, requestTimeout: 30_000 };
const BACK_OFF_MS = { first: 200, most: 10_000 };

/** Repeated blindly they would leave a second revision or a second rule: their callers look first what is there. */
const NOT_REPEATABLE = /^(RegisterTaskDefinition|CreateRule)$/;

/**
 * Clients of one Region. Each call waits for its rate limit and is tried again, with a random and growing pause, when AWS throttled it or
 * did not answer; never one whose repetition would do its effect twice. Credentials come from the SDK's default chain.
 * The SDK is loaded by the first call of this, not before: on Docker nobody needs it.
 */
export async function openAws(options: AwsOptions): Promise<AwsClients> {
  const [{ ECS }, { ElasticLoadBalancingV2 }, { CloudWatchLogs }, { SecretsManager }] = await Promise.all([
    import("@aws-sdk/client-ecs"),
    import("@aws-sdk/client-elastic-load-balancing-v2"),
    import("@aws-sdk/client-cloudwatch-logs"),
    import("@aws-sdk/client-secrets-manager"),
  ]);
  const config = {
    region: options.region,
    ...(options.endpoint !== undefined && { endpoint: options.endpoint }),
    // Ours below knows what may be repeated; the SDK's repeats everything.
    maxAttempts: 1,
    requestHandler: TIMEOUTS_MS,
    userAgentAppId: "shipway",
  };
  const asked = new WeakMap<object, Asked>();
  const guard = newGuard(options, asked);
  const clients = {
    ecs: new ECS(config),
    elb: new ElasticLoadBalancingV2(config),
    logs: new CloudWatchLogs(config),
    secrets: new SecretsManager(config),
  };
  const at = { step: "initialize", name: "shipwayCalls" } as const;
  clients.ecs.middlewareStack.add(guard("ecs"), at);
  clients.elb.middlewareStack.add(guard("elasticloadbalancing"), at);
  clients.logs.middlewareStack.add(guard("logs"), at);
  clients.secrets.middlewareStack.add(guard("secretsmanager"), at);
  return {
    ...clients,
    askedOf: (error) => (typeof error === "object" && error !== null ? asked.get(error) : undefined),
  };
}

function newGuard(options: AwsOptions, asked: WeakMap<object, Asked>) {
  const buckets = new Map<string, ReturnType<typeof newBucket>>();
  const bucketOf = (service: string, command: string) => {
    const { name, burst, perSecond } = limitOf(service, command);
    const bucket = buckets.get(name) ?? newBucket({ burst, perSecond: perSecond * (options.speed ?? 1) });
    buckets.set(name, bucket);
    return bucket;
  };
  return <Input extends object, Output extends object>(service: string): InitializeMiddleware<Input, Output> =>
    (next, context) =>
    async (args) => {
      const command = String(context.commandName ?? "").replace(/Command$/, "");
      for (let attempt = 1; ; attempt++) {
        await bucketOf(service, command).take();
        options.onCall?.({ service, command, input: args.input });
        try {
          return await next(args);
        } catch (error) {
          const action = `${service}:${command}`;
          if (typeof error === "object" && error !== null)
            asked.set(error, { action, region: options.region, subject: subjectOf(args.input) });
          if (attempt >= (options.attempts ?? ATTEMPTS) || !isRepeatable(command, error)) throw error;
          await sleep(pauseMs(attempt));
        }
      }
    };
}

function isRepeatable(command: string, error: unknown): boolean {
  const kind = kindOf(error);
  // What was throttled or never reached was not done.
  if (kind === "throttle" || kind === "unreachable") return true;
  return kind === "transient" && !NOT_REPEATABLE.test(command);
}

/** Full jitter: anything between nothing and a bound that doubles. */
function pauseMs(attempt: number): number {
  return Math.random() * Math.min(BACK_OFF_MS.most, BACK_OFF_MS.first * 2 ** attempt);
}

const SUBJECTS = [
  "service",
  "serviceName",
  "taskDefinition",
  "family",
  "RuleArn",
  "ListenerArn",
  "TargetGroupArn",
  "Name",
  "logGroupName",
  "SecretId",
  "cluster",
];

/** What a call was about, for a message and a policy: the first of its members that names something. */
function subjectOf(input: object): string | undefined {
  const members = input as Record<string, unknown>;
  const found = SUBJECTS.map((name) => members[name]).find((value) => typeof value === "string");
  return typeof found === "string" ? found : undefined;
}
