import type { AwsOptions } from "../../../aws/calls.ts";
import { fail } from "../../../shared/errors.ts";
import type { EcsSettings } from "../../runtime.ts";
import type { RolloutTarget } from "../../target.ts";
import { openAws } from "./aws-clients.ts";
import { destroyPlace } from "./destroy.ts";
import { type EcsTimes, type Ground, newRecall, TIMES } from "./ground.ts";
import { newMending } from "./mending.ts";
import { newProving } from "./proving.ts";
import { withPublicErrors } from "./public-errors.ts";
import { newAccountReader } from "./read-account.ts";
import { observedOf } from "./slots.ts";
import { newStarting } from "./starting.ts";
import { newTaskOutput } from "./task-output.ts";
import { newTraffic } from "./traffic.ts";
import { answersWithoutAws, noBacking } from "./without-aws.ts";

export type EcsTargetOptions = {
  settings: EcsSettings;
  /** Tagged on everything and part of every name: what another installation made is never touched. */
  install: string;
  /** Names a version of a secret by its content; keyed, so that the name says nothing about it. */
  fingerprint(text: string): string;
  aws?: Omit<AwsOptions, "region">;
  times?: Partial<EcsTimes>;
};

/**
 * Tasks on Amazon ECS with Fargate. Each service has two slots, each an ECS service; a web service's slots have a target group each and one
 * listener rule whose weights are the truth about who is live. Nothing that works is touched by a rollout: the release starts in the other
 * slot, proves itself there, and one write to the rule moves traffic. Workers have slots too, so that a release moves as a whole and the old
 * workers go on until the new ones, and everything else of the release, have proved themselves.
 */
export async function openEcsTarget(options: EcsTargetOptions): Promise<RolloutTarget> {
  const { install, settings } = options;
  const times = { ...TIMES, ...options.times };
  const aws = await openAws({ ...options.aws, region: settings.region });
  const { cluster, listener } = settings;
  const reader = newAccountReader(aws, { install, cluster, listener, namesFreshMs: times.namesFreshMs });
  const ground: Ground = {
    aws,
    reader,
    install,
    settings,
    times,
    recall: newRecall(),
    fingerprint: options.fingerprint,
  };
  const starting = newStarting(ground);
  const traffic = newTraffic(ground);
  const target: RolloutTarget = {
    ...answersWithoutAws(settings),
    ...starting,
    ...newProving(ground),
    ...traffic,
    ...newMending(ground, { ...starting, ...traffic }),
    ...newTaskOutput(ground),

    async observe(place) {
      return observedOf(place, await reader.views(place));
    },

    async observeBacking(place, backing) {
      if (backing.length > 0) throw noBacking(place, backing);
      return [];
    },

    removeBacking: async () => false,

    async ensureBacking(place, backing) {
      if (backing.length > 0) throw noBacking(place, backing);
    },

    async exec(place, task) {
      throw fail("EXEC_NOT_ON_ECS", {
        message: `${place.app} ${place.environment} runs on ECS: commands inside a running task go through ECS Exec there, which Shipway does not do yet.`,
        hint: `Run it in a task of its own (\`shipway run\`), or turn ECS Exec on for the service and use the AWS CLI: \`aws ecs execute-command --cluster ${settings.cluster} --task ${task} --interactive --command sh\`.`,
      });
    },

    endExec: async () => undefined,

    // The journal goes with the environment's log group; ECS itself forgets a task an hour after its end.
    forgetRun: async () => undefined,

    async destroy(place, data) {
      ground.recall.touch(place);
      const remarks = await destroyPlace(ground, place, data);
      reader.forgetNames();
      return remarks;
    },
  };
  return withPublicErrors(aws, target);
}
