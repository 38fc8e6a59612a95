import { sleep } from "../shared/until.ts";

/** A bucket of tokens: `burst` at once, then `perSecond`. Callers are served in the order they came. */
export function newBucket(
  { burst, perSecond }: { burst: number; perSecond: number },
  clock: { now(): number; sleep(ms: number): Promise<void> } = { now: Date.now, sleep },
): { take(): Promise<void> } {
  let tokens = burst;
  let at = clock.now();
  let queue: Promise<void> = Promise.resolve();
  const refill = () => {
    const now = clock.now();
    tokens = Math.min(burst, tokens + ((now - at) / 1_000) * perSecond);
    at = now;
  };
  const takeOne = async (): Promise<void> => {
    refill();
    while (tokens < 1) {
      await clock.sleep(Math.ceil(((1 - tokens) / perSecond) * 1_000));
      refill();
    }
    tokens -= 1;
  };
  return {
    take() {
      queue = queue.then(takeOne);
      return queue;
    },
  };
}

type Limit = { burst: number; perSecond: number };

/**
 * Per account and Region (Amazon ECS API reference, request throttling). We take half of each bucket, so that other users of a shared
 * account are not throttled by us.
 */
const ECS_LIMITS: [RegExp, string, Limit][] = [
  [/^(Register|Deregister)TaskDefinition$/, "task-definition-write", { burst: 10, perSecond: 0.5 }],
  [/^DeleteTaskDefinitions$/, "task-definition-delete", { burst: 2, perSecond: 0.5 }],
  [/^(Describe|List)TaskDefinitions?$/, "task-definition-read", { burst: 25, perSecond: 10 }],
  [/^(Create|Update|Delete)Service$/, "service-write", { burst: 25, perSecond: 2.5 }],
  [/^(DescribeServices|ListServices)$/, "service-read", { burst: 50, perSecond: 10 }],
  [/^(RunTask|StopTask|ExecuteCommand)$/, "task-write", { burst: 50, perSecond: 10 }],
  [/^(DescribeTasks|ListTasks)$/, "task-read", { burst: 50, perSecond: 10 }],
  [/^(Tag|Untag)Resource$/, "tag-write", { burst: 10, perSecond: 5 }],
];

/** FilterLogEvents is 5 to 25 a second by Region (CloudWatch Logs quotas). */
const LOG_SEARCH_LIMIT: Limit = { burst: 5, perSecond: 2.5 };

/** No figures are published for load balancers and Secrets Manager writes; GetLogEvents is 10 a second and more by Region (CloudWatch Logs quotas). */
const OTHER_LIMIT: Limit = { burst: 20, perSecond: 5 };

/** 3,500 writes a second and prefix (Amazon S3 user guide, performance): this only keeps a loop of ours in bounds. */
const S3_LIMIT: Limit = { burst: 100, perSecond: 100 };

/** Which bucket a command takes from. */
export function limitOf(service: string, command: string): { name: string } & Limit {
  if (service === "s3") return { name: "s3", ...S3_LIMIT };
  if (service === "logs" && command === "FilterLogEvents") return { name: "logs:search", ...LOG_SEARCH_LIMIT };
  const found = service === "ecs" ? ECS_LIMITS.find(([pattern]) => pattern.test(command)) : undefined;
  const [, name, limit] = found ?? [
    undefined,
    /^(Describe|Get|List|Filter)/.test(command) ? "read" : "write",
    OTHER_LIMIT,
  ];
  return { name: `${service}:${name}`, ...limit };
}
