import type { Place } from "../../release.ts";
import type { EcsSettings } from "../../runtime.ts";
import type { AccountReader } from "./account/read-account.ts";
import type { AwsClients } from "./aws-clients.ts";
import type { FeedTimes } from "./watch/log-feed.ts";

/** Where things are made, and with what: all that the parts of the driver share. */
export type Ground = {
  aws: AwsClients;
  reader: AccountReader;
  install: string;
  settings: EcsSettings;
  times: EcsTimes;
  recall: Recall;
  /** Names a version of a secret by its content; keyed, so that the name says nothing about it. */
  fingerprint(text: string): string;
  now(): number;
};

export type EcsTimes = {
  /** Between two looks at a task that runs a command, and at its output. */
  pollMs: number;
  /** Of the poller that reads a log group for all who watch it. */
  feed: FeedTimes;
  /** Between two looks whether a release whose output is followed still has tasks. */
  goneMs: number;
  /** How long after its end a task's last lines may still come (Amazon CloudWatch Logs gives no bound; 5 to 10 s were seen). */
  logLagMs: number;
  /** A task that was just started may not be seen yet (Amazon ECS API, RunTask: eventual consistency). */
  unseenMs: number;
  /** Between two looks while something is waited for. */
  watchMs: number;
  /** What Fargate itself may take (address, image, start), beside what the service was given to become healthy. */
  startAllowanceMs: number;
  /** A place that was changed this recently is not reconciled. */
  quietMs: number;
  /** How long AWS's agent in a task may take until a command can be run there: it starts beside the task. */
  execAgentMs: number;
  /** How long the list of ECS services is used: names come and go with releases, not within seconds, and what this process makes it knows at once. */
  namesFreshMs: number;
  /** How long a removal waits for what is ending: a load balancer lets requests finish for 30 s, a container has up to 120 s to stop. */
  sweepMs: number;
  /** Between two things that are tidied away: AWS lets an account register and deregister one task definition a second, deployments included. */
  tidyGapMs: number;
  /** For so long what a rollback saw of its standby is true: it is seen, found warm and given traffic within one look. */
  lookMs: number;
  /** How long a rule that was written may be read as it was before. */
  readBackMs: number;
  /** How old what is known of a place may be while nothing changes it. */
  steadyMs: number;
  /** Between two calls of a walk through the cluster: together a quarter of what ECS allows to an account. */
  walkGapMs: number;
};

export const TIMES: EcsTimes = {
  pollMs: 2_000,
  // The log driver sends what a task printed every few seconds, each task at its own moment.
  feed: { quickMs: 1_500, slowMs: 6_000, overlapMs: 15_000 },
  goneMs: 15_000,
  logLagMs: 8_000,
  unseenMs: 60_000,
  watchMs: 3_000,
  // 57 s were measured for a 413 MB image; a large one over a slow link takes minutes (reference figures in docs/aws.md).
  startAllowanceMs: 240_000,
  quietMs: 5_000,
  execAgentMs: 60_000,
  namesFreshMs: 5_000,
  sweepMs: 200_000,
  tidyGapMs: 5_000,
  lookMs: 2_000,
  readBackMs: 10_000,
  steadyMs: 60_000,
  walkGapMs: 200,
};

/** What this process remembers of its own work. Nothing rests on it: the next process works without. */
export type Recall = {
  /** The task definition a service of a release was started with, so that somebody else's deployment is not taken for ours. */
  startedWith: Map<string, string>;
  /** Does work that changes a place: what was read of it before the work's end is out of date. */
  changing<T>(place: Place, work: () => Promise<T>): Promise<T>;
  /** When a place was changed last; 0 when it was not. */
  changedAt(place: Place): number;
};

export function newRecall(): Recall {
  const changedAt = new Map<string, number>();
  const touch = (place: Place) => void changedAt.set(placeKey(place), Date.now());
  return {
    startedWith: new Map(),
    async changing(place, work) {
      touch(place);
      try {
        return await work();
      } finally {
        touch(place);
      }
    },
    changedAt: (place) => changedAt.get(placeKey(place)) ?? 0,
  };
}

const placeKey = ({ app, environment }: Place) => `${app}/${environment}`;

export const serviceKey = (place: Place, release: number, service: string): string =>
  `${placeKey(place)}/r${release}/${service}`;
