import type { AwsOptions } from "../../../aws/calls.ts";
import type { EcsSettings } from "../../runtime.ts";
import type { RolloutTarget } from "../../target.ts";
import { type ClusterReader, newClusterReader } from "./account/cluster-reader.ts";
import { type ListenerReader, newListenerReader } from "./account/listener-reader.ts";
import { newAccountReader } from "./account/read-account.ts";
import { observedOf } from "./account/slots.ts";
import { type AwsClients, openAws } from "./aws-clients.ts";
import { newExec } from "./commands/exec.ts";
import { type EcsTimes, type Ground, newRecall, TIMES } from "./ground.ts";
import { withPublicErrors } from "./public-errors.ts";
import { destroyPlace, haltPlace } from "./removal/destroy.ts";
import { tidyPlace } from "./removal/tidy.ts";
import { newMending } from "./rollout/mending.ts";
import { newProving } from "./rollout/proving.ts";
import { newStarting } from "./rollout/starting.ts";
import { newTraffic } from "./rollout/traffic.ts";
import { newMeasuring } from "./watch/measuring.ts";
import { newTaskOutput } from "./watch/task-output.ts";
import { answersWithoutAws, noBacking } from "./without-aws.ts";

export type EcsDriverOptions = {
  /** Tagged on everything and part of every name: what another installation made is never touched. */
  install: string;
  /** Names a version of a secret by its content; keyed, so that the name says nothing about it. */
  fingerprint(text: string): string;
  aws?: Omit<AwsOptions, "region">;
  times?: Partial<EcsTimes>;
  /** The clock by which figures are asked for. */
  now?: () => number;
};

export type EcsTargetOptions = EcsDriverOptions & { settings: EcsSettings };

export const openEcsTarget = ({ settings, ...options }: EcsTargetOptions): Promise<RolloutTarget> =>
  newEcsDriver(options).open(settings);

/** Targets of one installation: they share clients and rate limits by Region, and what is read by cluster and by listener. */
export function newEcsDriver(options: EcsDriverOptions): { open(settings: EcsSettings): Promise<RolloutTarget> } {
  const { install, fingerprint, now = Date.now } = options;
  const times = { ...TIMES, ...options.times };
  const recall = newRecall();
  const isOurs = (name: string) => name.startsWith(`shipway-${install}_`);
  const clients = new Map<string, Promise<AwsClients>>();
  const clusters = new Map<string, ClusterReader>();
  const listeners = new Map<string, ListenerReader>();
  return {
    async open(settings) {
      const { region, cluster: name, listener: arn } = settings;
      const aws = await getOrMake(clients, region, () =>
        openAws({ ...options.aws, region }).catch((error: unknown) => {
          clients.delete(region);
          throw error;
        }),
      );
      const cluster = getOrMake(clusters, `${region} ${name}`, () =>
        newClusterReader(aws, { cluster: name, isOurs, times }),
      );
      const listener = getOrMake(listeners, arn, () => newListenerReader(aws, arn));
      const reader = newAccountReader(aws, { install, cluster, listener, recall, times });
      return newEcsTarget({ aws, reader, install, settings, times, recall, fingerprint, now });
    },
  };
}

function getOrMake<T>(known: Map<string, T>, key: string, make: () => T): T {
  const found = known.get(key) ?? make();
  known.set(key, found);
  return found;
}

/**
 * Tasks on Amazon ECS with Fargate. Each service has two slots, each an ECS service; a web service's slots have a target group each and one
 * listener rule whose weights are the truth about who is live. Nothing that works is touched by a rollout: the release starts in the other
 * slot, proves itself there, and one write to the rule moves traffic. Workers have slots too, so that a release moves as a whole and the old
 * workers go on until the new ones, and everything else of the release, have proved themselves.
 */
function newEcsTarget(ground: Ground): RolloutTarget {
  const { aws, reader, recall, settings } = ground;
  const starting = newStarting(ground);
  const traffic = newTraffic(ground);
  const target: RolloutTarget = {
    ...answersWithoutAws(settings),
    ...starting,
    ...newProving(ground),
    ...traffic,
    ...newMending(ground, { ...starting, ...traffic }),
    ...newTaskOutput(ground),
    ...newMeasuring(ground),
    ...newExec(ground),

    async observe(place, only) {
      if (only === undefined) return observedOf(place, await reader.views(place));
      const observed = observedOf(place, await reader.standbyViews(place, only));
      return observed.filter((one) => one.release === only.number);
    },

    async observeBacking(place, backing) {
      if (backing.length > 0) throw noBacking(place, backing);
      return [];
    },

    removeBacking: async () => false,

    async ensureBacking(place, backing) {
      if (backing.length > 0) throw noBacking(place, backing);
    },

    // The journal goes with the environment's log group; ECS itself forgets a task an hour after its end.
    forgetRun: async () => undefined,

    tidy: (place, kept, signal) => tidyPlace(ground, place, kept, signal),

    halt: (place) => recall.changing(place, () => haltPlace(ground, place)),

    destroy: (place, data) => recall.changing(place, () => destroyPlace(ground, place, data)),
  };
  return withPublicErrors(aws, target);
}
