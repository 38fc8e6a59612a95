import { fail } from "../../../../shared/errors.ts";
import { sleep } from "../../../../shared/until.ts";
import { type Place, type Release, type ReleaseService, requireService, servesTraffic } from "../../../release.ts";
import type { RolloutTarget, TaskVariables } from "../../../target.ts";
import { findRule } from "../account/read-account.ts";
import { chooseSlot, liveSlot, releaseIn } from "../account/slots.ts";
import { runOneOff } from "../commands/run-once.ts";
import { type Ground, serviceKey } from "../ground.ts";
import { serviceName } from "../names.ts";
import {
  ensureLogGroup,
  ensureRule,
  ensureSecret,
  ensureService,
  ensureTaskDefinition,
  refuseUnfit,
} from "./ensure.ts";
import { countAtStart, suspendScaling } from "./scaling.ts";
import { ensureAttributes, ensureTargetGroups } from "./target-groups.ts";
import { taskDefinitionOf } from "./task-definition.ts";

/** Lays what a release needs and starts its tasks beside whatever works. */
export function newStarting(ground: Ground): Pick<RolloutTarget, "prepare" | "runOnce" | "startService"> {
  const { reader, recall, times } = ground;
  const vpcId = newVpcFinder(ground);
  return {
    async prepare(place, release) {
      refuseUnfit(release);
      await ensureLogGroup(ground, place);
      const web = release.services.filter(servesTraffic);
      if (web.length === 0) return;
      const groups = await ensureTargetGroups(ground, place, web, vpcId);
      const rules = await reader.listenerRules();
      for (const service of web) {
        if (findRule(rules, ground.install, place, service.name) !== undefined) continue;
        // One after the other: each takes the first free number of the listener.
        await ensureRule(ground, place, service, groups.get(service.name) ?? { a: "", b: "" });
      }
    },

    async runOnce(place, release, run, log, signal) {
      const service = requireService(release, run.service);
      const { key, command, variables, deadlineMs, asked } = run;
      await ensureLogGroup(ground, place);
      const taskDefinition = await defineTask(ground, place, release.number, service, variables, command);
      const once = { place, release: release.number, service: service.name, key, taskDefinition, deadlineMs, asked };
      return await runOneOff(ground, once, log, signal);
    },

    startService: (place, release, service, variables) =>
      recall.changing(place, async () => {
        const endsAt = Date.now() + times.readBackMs;
        while (!(await startIn(ground, place, release, service, variables))) {
          if (Date.now() >= endsAt) throw unseen(place, service.name);
          await sleep(LOOK_AGAIN_MS);
        }
      }),
  };
}

const LOOK_AGAIN_MS = 300;

/** @returns false when AWS has not shown what is there: the slot has to be chosen anew */
async function startIn(
  ground: Ground,
  place: Place,
  release: Release,
  service: ReleaseService,
  variables: TaskVariables,
): Promise<boolean> {
  const { reader, recall, settings } = ground;
  const [view] = await reader.views(place, [service.name]);
  const name = view === undefined ? undefined : chooseSlot(view, release.number);
  if (view === undefined || name === undefined) throw slotsTaken(place, service.name);
  const seen = view.slots[name];
  const isServing = releaseIn(seen) === release.number && liveSlot(view) === name;
  // What serves keeps the revision it proved itself with: another one would replace its tasks under traffic.
  const taskDefinition =
    isServing && seen?.primary !== undefined
      ? seen.primary.taskDefinition
      : await defineTask(ground, place, release.number, service, variables);
  recall.startedWith.set(serviceKey(place, release.number, service.name), taskDefinition);
  const targetGroup = view.rule?.groups[name];
  if (servesTraffic(service) && targetGroup === undefined)
    throw new Error(`${service.name} has no listener rule: prepare comes first`);
  if (targetGroup !== undefined) await ensureAttributes(ground, targetGroup);
  const { rule } = view;
  const wanted = { ...service, count: countAtStart(settings, service, view) };
  const isMade = await ensureService(
    ground,
    { place, service: wanted, slot: name, taskDefinition, targetGroup, rule },
    seen,
  );
  await suspendScaling(ground, serviceName(ground.install, place, service.name, name), false);
  return isMade;
}

/** Target groups live in the load balancer's network, which does not change. */
function newVpcFinder({ aws, settings }: Ground): () => Promise<string> {
  const find = async (): Promise<string> => {
    const { Listeners } = await aws.elb.describeListeners({ ListenerArns: [settings.listener] });
    const balancer = Listeners?.[0]?.LoadBalancerArn ?? "";
    const { LoadBalancers } = await aws.elb.describeLoadBalancers({ LoadBalancerArns: [balancer] });
    return LoadBalancers?.[0]?.VpcId ?? "";
  };
  let vpc: Promise<string> | undefined;
  return () => {
    vpc ??= find().catch((error: unknown) => {
      vpc = undefined;
      throw error;
    });
    return vpc;
  };
}

async function defineTask(
  ground: Ground,
  place: Place,
  release: number,
  service: ReleaseService,
  { env, secrets, references }: TaskVariables,
  command?: string[],
): Promise<string> {
  const { install, settings } = ground;
  const secret = await ensureSecret(ground, place, service.name, secrets);
  const definition = taskDefinitionOf({
    install,
    place,
    release,
    service,
    settings,
    env,
    secret,
    references,
    ...(command !== undefined && { run: { command } }),
  });
  return await ensureTaskDefinition(ground, definition);
}

function slotsTaken({ app, environment }: Place, service: string) {
  return fail("AWS_SLOTS_TAKEN", {
    message: `Both slots of ${service} in ${app} ${environment} hold tasks of releases of which none is known to work.`,
    hint: "Wait a minute for the clean-up of an earlier deployment, then deploy again.",
  });
}

function unseen({ app, environment }: Place, service: string) {
  return fail("AWS_UNREACHABLE", {
    message: `AWS says that an ECS service of ${service} in ${app} ${environment} is there already, and does not show it.`,
    hint: "Wait a minute, then deploy again.",
  });
}
