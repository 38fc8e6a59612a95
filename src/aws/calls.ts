import type { ECSClientConfig } from "@aws-sdk/client-ecs";
import type { InitializeMiddleware, MiddlewareStack } from "@smithy/types";
import { sleep } from "../shared/until.ts";
import { type Asked, kindOf } from "./aws-errors.ts";
import { limitOf, newBucket } from "./rate-limit.ts";

export type AwsOptions = {
  region: string;
  /** Of an emulator; undefined for AWS itself. */
  endpoint?: string | undefined;
  /** How often one call is tried at most. */
  attempts?: number;
  /** How many times faster than AWS allows, pauses between attempts included: an emulator has no limits. */
  speed?: number;
  /** How long an answer is waited for. */
  answerMs?: number;
  /** What answers in place of the network: for figures. */
  requestHandler?: NonNullable<ECSClientConfig["requestHandler"]>;
  /** Told of each call, before it is made: for figures and recordings. */
  onCall?: (call: { service: string; command: string; input: unknown }) => void;
};

const ATTEMPTS = 6;
const CONNECT_MS = 5_000;
const ANSWER_MS = 30_000;

/** What every client is made with. Credentials come from the SDK's default chain. */
export const clientConfig = ({ region, endpoint, answerMs = ANSWER_MS, requestHandler }: AwsOptions) => ({
  region,
  ...(endpoint !== undefined && { endpoint }),
  // Ours below knows what may be repeated; the SDK's repeats everything.
  maxAttempts: 1,
  // Without the last of these, an answer that takes too long is only warned of.
  requestHandler: requestHandler ?? {
    connectionTimeout: CONNECT_MS,
    requestTimeout: answerMs,
    throwOnRequestTimeout: true,
  },
  userAgentAppId: "shipway",
});

/** Where in a client's stack the guard stands: outside of everything, so that each attempt is signed anew. */
const GUARD_AT = { step: "initialize", name: "shipwayCalls" } as const;

const BACK_OFF_MS = { first: 200, most: 10_000 };

/** Repeated blindly they would leave a second revision or a second rule: their callers look first what is there. */
const NOT_REPEATABLE = /^(RegisterTaskDefinition|CreateRule)$/;

type Config = ReturnType<typeof clientConfig>;

export type AwsCalls = {
  /** A client whose calls are guarded; `service` is the name by which policies call it. */
  open<Client, Input extends object, Output extends object>(
    Client: new (config: Config) => Client & { middlewareStack: MiddlewareStack<Input, Output> },
    service: string,
    changes?: object,
  ): Client;
  /** What was being asked when this error came. */
  askedOf(error: unknown): Asked | undefined;
};

/**
 * Opens the clients of one Region. Each call waits for its rate limit and is tried again, with a random and growing pause, when AWS throttled it or did not answer; never one
 * whose repetition would do its effect twice.
 */
export function newAwsCalls(options: AwsOptions): AwsCalls {
  const asked = new WeakMap<object, Asked>();
  const buckets = new Map<string, ReturnType<typeof newBucket>>();
  const bucketOf = (service: string, command: string) => {
    const { name, burst, perSecond } = limitOf(service, command);
    const bucket = buckets.get(name) ?? newBucket({ burst, perSecond: perSecond * (options.speed ?? 1) });
    buckets.set(name, bucket);
    return bucket;
  };
  const guardOf =
    <Input extends object, Output extends object>(service: string): InitializeMiddleware<Input, Output> =>
    (next, context) =>
    async (args) => {
      const command = String(context.commandName ?? "").replace(/Command$/, "");
      for (let attempt = 1; ; attempt++) {
        await bucketOf(service, command).take();
        options.onCall?.({ service, command, input: args.input });
        try {
          return await next(args);
        } catch (error) {
          const action = `${service}:${service === "s3" ? (S3_ACTIONS[command] ?? command) : command}`;
          if (typeof error === "object" && error !== null)
            asked.set(error, { action, region: options.region, subject: subjectOf(args.input, options.region) });
          if (attempt >= (options.attempts ?? ATTEMPTS) || !isRepeatable(command, error)) throw error;
          await sleep(pauseMs(attempt) / (options.speed ?? 1));
        }
      }
    };
  return {
    open: (Client, service, changes = {}) => {
      const client = new Client({ ...clientConfig(options), ...changes });
      client.middlewareStack.add(guardOf(service), GUARD_AT);
      return client;
    },
    askedOf: (error) => (typeof error === "object" && error !== null ? asked.get(error) : undefined),
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

/** Calls to S3 that are allowed under another name than their own (service authorization reference, Amazon S3). */
export const S3_ACTIONS: Record<string, string> = {
  HeadBucket: "ListBucket",
  GetPublicAccessBlock: "GetBucketPublicAccessBlock",
  GetBucketLifecycleConfiguration: "GetLifecycleConfiguration",
  HeadObject: "GetObject",
  ListObjectsV2: "ListBucket",
  DeleteObjects: "DeleteObject",
  CopyObject: "PutObject",
  CreateMultipartUpload: "PutObject",
  UploadPart: "PutObject",
  CompleteMultipartUpload: "PutObject",
};

const SUBJECTS = [
  "repositoryName",
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
function subjectOf(input: object, region: string): string | undefined {
  const members = input as Record<string, unknown>;
  // Not the one object: a policy that allows it alone would deny the next one.
  const objects = "Key" in members || "Delete" in members ? "/*" : "";
  if (typeof members.Bucket === "string") return bucketArn(region, `${members.Bucket}${objects}`);
  const found = SUBJECTS.map((name) => members[name]).find((value) => typeof value === "string");
  return typeof found === "string" ? found : undefined;
}

/** The partition of a Region, by its name (AWS general reference, ARN). */
export function partitionOf(region: string): string {
  if (region.startsWith("cn-")) return "aws-cn";
  return region.startsWith("us-gov-") ? "aws-us-gov" : "aws";
}

/** Of a bucket, or of what is in it. */
export const bucketArn = (region: string, what: string): string => `arn:${partitionOf(region)}:s3:::${what}`;
