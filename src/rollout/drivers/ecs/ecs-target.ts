import { toAwsError } from "../../../aws/aws-errors.ts";
import type { AwsOptions } from "../../../aws/calls.ts";
import { formatDurationMs } from "../../../shared/duration.ts";
import { fail } from "../../../shared/errors.ts";
import { sleep } from "../../../shared/until.ts";
import {
  healthDeadlineMs,
  type Place,
  type Release,
  type ReleaseService,
  servesTraffic,
  taskName,
} from "../../release.ts";
import type { EcsSettings } from "../../runtime.ts";
import {
  type Evidence,
  type HealthReport,
  MOST_PAST_LINES,
  type RolloutTarget,
  type TaskVariables,
} from "../../target.ts";
import { openAws } from "./aws-clients.ts";
import { destroyPlace } from "./destroy.ts";
import {
  ensureLogGroup,
  ensureRule,
  ensureSecret,
  ensureService,
  ensureTargetGroups,
  ensureTaskDefinition,
  forwardTo,
  type Ground,
  hostCondition,
  refuseUnfit,
} from "./ensure.ts";
import {
  isOutOfMemory,
  isWanted,
  judgeNew,
  judgeProved,
  type SeenTask,
  type ServiceFacts,
  targetText,
  type Verdict,
} from "./judge.ts";
import { logGroupName, logStreamName, otherSlot, SLOTS, taskIdOf } from "./names.ts";
import { newAccountReader } from "./read-account.ts";
import { type RunTimes, runOneOff } from "./run-once.ts";
import {
  chooseSlot,
  driftOf,
  liveSlot,
  observedOf,
  planMending,
  releaseIn,
  type ServiceView,
  type Slot,
  slotOf,
} from "./slots.ts";
import { lowerTags, ROLE_TAG } from "./tags.ts";
import { taskDefinitionOf } from "./task-definition.ts";
import { followLog, lastLines, newLogReader } from "./task-logs.ts";
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

export type EcsTimes = RunTimes & {
  /** Between two looks while something is waited for. */
  watchMs: number;
  /** What Fargate itself may take (address, image, start), beside what the service was given to become healthy. */
  startAllowanceMs: number;
  /** A place that was changed this recently is not reconciled. */
  quietMs: number;
  /** How long the list of ECS services is used: names come and go with releases, not within seconds, and what this process makes it knows at once. */
  namesFreshMs: number;
};

const TIMES: EcsTimes = {
  pollMs: 2_000,
  logLagMs: 8_000,
  unseenMs: 60_000,
  watchMs: 3_000,
  // 57 s were measured for a 413 MB image; a large one over a slow link takes minutes (reference figures in docs/aws.md).
  startAllowanceMs: 240_000,
  quietMs: 5_000,
  namesFreshMs: 5_000,
};

/** As many as fit one screen below the sentence that explains them. */
const EVIDENCE_LINES = 50;
/** Whoever reads the failure looks at the first few tasks. */
const EVIDENCE_TASKS = 5;

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
  const ground: Ground = { aws, reader, install, settings, fingerprint: options.fingerprint };
  /** The task definition a service of a release was started with, so that somebody else's deployment is not taken for ours. */
  const startedWith = new Map<string, string>();
  /** Tasks that had stopped before the release was found healthy. */
  const stoppedBefore = new Map<string, Set<string>>();
  const changedAt = new Map<string, number>();
  let vpc: Promise<string> | undefined;

  const placeKey = ({ app, environment }: Place) => `${app}/${environment}`;
  const touch = (place: Place) => changedAt.set(placeKey(place), Date.now());
  const serviceKey = (place: Place, release: number, service: string) => `${placeKey(place)}/r${release}/${service}`;
  const viewsOf = (place: Place, services: ReleaseService[]) =>
    reader.views(
      place,
      services.map((one) => one.name),
    );

  /** Target groups live in the load balancer's network. */
  function vpcId(): Promise<string> {
    vpc ??= findVpc().catch((error: unknown) => {
      vpc = undefined;
      throw error;
    });
    return vpc;
  }

  async function findVpc(): Promise<string> {
    const { Listeners } = await aws.elb.describeListeners({ ListenerArns: [settings.listener] });
    const balancer = Listeners?.[0]?.LoadBalancerArn ?? "";
    const { LoadBalancers } = await aws.elb.describeLoadBalancers({ LoadBalancerArns: [balancer] });
    return LoadBalancers?.[0]?.VpcId ?? "";
  }

  async function factsOf(place: Place, release: Release, services: ReleaseService[]): Promise<ServiceFacts[]> {
    const slots = await reader.slotsOf(
      place,
      services.map((one) => one.name),
    );
    return await Promise.all(
      services.map(async (service) => {
        const own = slots.get(service.name) ?? {};
        const slot = SLOTS.map((name) => own[name]).find((one) => one?.primary?.release === release.number);
        const id = slot?.primary?.id;
        const tasks = id === undefined ? [] : await reader.startedTasks(id);
        const mayHaveDied =
          slot?.primary !== undefined && (slot.primary.failedTasks > 0 || tasks.length < service.count);
        const stopped =
          slot !== undefined && mayHaveDied ? await reader.stoppedTasks({ serviceName: slot.serviceName }) : [];
        const targets = slot?.targetGroup === undefined ? [] : await reader.targets(slot.targetGroup);
        return {
          service,
          slot,
          taskDefinition: startedWith.get(serviceKey(place, release.number, service.name)),
          tasks: tasks.filter((task) => task.status !== "STOPPED"),
          died: stopped.filter((task) => task.startedBy === id && !isWanted(task)),
          targets,
        };
      }),
    );
  }

  async function evidenceOf(place: Place, release: Release, facts: ServiceFacts, because: string): Promise<Evidence> {
    const { service, died, tasks, targets } = facts;
    const worst: SeenTask | undefined = died.at(-1) ?? tasks[0];
    const name = taskName(place, service.name, release.number, 1);
    const probes = targets
      .filter((one) => one.state === "unhealthy" && tasks.some((task) => task.ip === one.ip))
      .map((one) => targetText(service, one));
    const lines =
      worst === undefined
        ? []
        : await lastLines(
            aws,
            { group: logGroupName(install, place), stream: logStreamName(service.name, service.name, worst.arn) },
            EVIDENCE_LINES,
          );
    const id = worst === undefined ? "" : ` (ECS task ${taskIdOf(worst.arn)})`;
    return {
      task: name,
      service: service.name,
      summary: `${name}${id}: ${because}`,
      state: worst === undefined ? "missing" : died.length > 0 ? "exited" : "running",
      ...(worst?.exitCode !== undefined && { exitCode: worst.exitCode }),
      ...(worst !== undefined && isOutOfMemory(worst) && { outOfMemory: true }),
      probes,
      listening: [],
      lastLines: lines.map((line) => line.text),
    };
  }

  async function unhealthy(
    place: Place,
    release: Release,
    sick: { facts: ServiceFacts; because: string }[],
  ): Promise<HealthReport> {
    const evidence = await Promise.all(
      sick.slice(0, EVIDENCE_TASKS).map(({ facts, because }) => evidenceOf(place, release, facts, because)),
    );
    return { status: "unhealthy", reason: evidence.map((one) => one.summary).join(" "), evidence };
  }

  const target: RolloutTarget = {
    async observe(place) {
      return observedOf(place, await reader.views(place));
    },

    ...answersWithoutAws(settings),

    async prepare(place, release) {
      refuseUnfit(release);
      await ensureLogGroup(ground, place);
      const web = release.services.filter(servesTraffic);
      if (web.length === 0) return;
      const inVpc = await vpcId();
      // One after the other: each takes the first free number of the listener.
      for (const service of web) {
        const groups = await ensureTargetGroups(ground, place, service, inVpc);
        await ensureRule(ground, place, service, groups);
      }
    },

    async observeBacking(place, backing) {
      if (backing.length > 0) throw noBacking(place, backing);
      return [];
    },

    removeBacking: async () => false,

    async ensureBacking(place, backing) {
      if (backing.length > 0) throw noBacking(place, backing);
    },

    async runOnce(place, release, run, log, signal) {
      const service = serviceOf(release, run.service);
      const { key, command, variables, deadlineMs, asked } = run;
      await ensureLogGroup(ground, place);
      const taskDefinition = await defineTask(place, release.number, service, variables, command);
      const once = { place, release: release.number, service: service.name, key, taskDefinition, deadlineMs, asked };
      return await runOneOff(ground, once, times, log, signal);
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

    async startService(place, release, service, variables) {
      touch(place);
      const [view] = await viewsOf(place, [service]);
      const name = view === undefined ? undefined : chooseSlot(view, release.number);
      if (view === undefined || name === undefined) throw slotsTaken(place, service.name);
      const seen = view.slots[name];
      const isServing = releaseIn(seen) === release.number && liveSlot(view) === name;
      // What serves keeps the revision it proved itself with: another one would replace its tasks under traffic.
      const taskDefinition =
        isServing && seen?.primary !== undefined
          ? seen.primary.taskDefinition
          : await defineTask(place, release.number, service, variables);
      startedWith.set(serviceKey(place, release.number, service.name), taskDefinition);
      const targetGroup = view.rule?.groups[name];
      if (servesTraffic(service) && targetGroup === undefined)
        throw new Error(`${service.name} has no listener rule: prepare comes first`);
      await ensureService(ground, { place, service, slot: name, taskDefinition, targetGroup }, seen);
    },

    async awaitHealthy(place, release, services, { deadlineMs, onProgress, signal }) {
      const startedAt = Date.now();
      const isLate = (service: ReleaseService) =>
        Date.now() - startedAt >= Math.min(deadlineMs, healthDeadlineMs(service)) + times.startAllowanceMs;
      for (;;) {
        signal?.throwIfAborted();
        const judged = (await factsOf(place, release, services)).map((facts) => ({
          facts,
          verdict: judgeNew(facts, Date.now()),
        }));
        for (const { facts, verdict } of judged) onProgress(progressOf(facts.service, verdict));
        const sick = judged.flatMap(({ facts, verdict }) => {
          if (verdict.is === "failed") return [{ facts, because: verdict.because }];
          if (verdict.is === "healthy" || !isLate(facts.service)) return [];
          return [{ facts, because: `${verdict.detail}. ${patience(facts.service)}` }];
        });
        if (sick.length > 0) return await unhealthy(place, release, sick);
        if (judged.every(({ verdict }) => verdict.is === "healthy")) {
          for (const { facts } of judged) {
            const key = serviceKey(place, release.number, facts.service.name);
            stoppedBefore.set(key, new Set(facts.died.map((task) => task.arn)));
          }
          return { status: "healthy", notes: [] };
        }
        await sleep(jittered(times.watchMs), signal);
      }
    },

    async watchHealth(place, release, services, { forMs, signal }) {
      const endsAt = Date.now() + forMs;
      for (;;) {
        signal?.throwIfAborted();
        const judged = (await factsOf(place, release, services)).map((facts) => {
          const known = stoppedBefore.get(serviceKey(place, release.number, facts.service.name));
          return { ...facts, died: facts.died.filter((task) => !known?.has(task.arn)) };
        });
        const sick = judged.flatMap((facts) => {
          const verdict = judgeProved(facts, Date.now());
          return verdict.is === "failed" ? [{ facts, because: verdict.because }] : [];
        });
        if (sick.length > 0) return await unhealthy(place, release, sick);
        const leftMs = endsAt - Date.now();
        if (leftMs <= 0) return { status: "healthy", notes: [] };
        await sleep(Math.min(leftMs, jittered(times.watchMs)), signal);
      }
    },

    async shiftTraffic(place, release) {
      touch(place);
      const views = await reader.views(place);
      const moves = release.services.map((service) => {
        const view = views.find((one) => one.service === service.name);
        const slot =
          view && SLOTS.map((name) => view.slots[name]).find((one) => one?.primary?.release === release.number);
        if (view === undefined || slot === undefined)
          throw new Error(`${service.name} of r${release.number} has no slot: traffic stays where it is`);
        return { service, view, slot };
      });
      for (const { service, view, slot } of moves) if (view.rule !== undefined) await flip(place, service, view, slot);
      for (const { service, slot } of moves) {
        if (!servesTraffic(service)) await mark(slot, `live-r${release.number}`);
      }
      for (const view of views) {
        if (!release.services.some((service) => service.name === view.service)) await takeAway(view);
      }
    },

    // Nothing that has a request open is paused or stopped here: the old slot runs on, and when it is scaled down ECS takes each task out of
    // the load balancer first and ends it after the deregistration delay.
    awaitDrained: async () => ({ stillOpen: 0 }),

    async park(place, release) {
      touch(place);
      for (const view of await reader.views(place)) {
        const slot = slotOf(view, release.number);
        if (slot === undefined) continue;
        if (view.rule === undefined) await scale(slot, 0);
        else await mark(slot, `standby-r${release.number}`);
      }
    },

    async wake(place, release) {
      const web = release.services.filter(servesTraffic);
      const slots = await reader.slotsOf(
        place,
        web.map((one) => one.name),
      );
      const isUp = (service: ReleaseService) =>
        SLOTS.some((name) => {
          const slot = slots.get(service.name)?.[name];
          return releaseIn(slot) === release.number && (slot?.primary?.running ?? 0) >= service.count;
        });
      return {
        ready: web.filter(isUp).map((one) => one.name),
        missing: web.filter((one) => !isUp(one)).map((one) => one.name),
      };
    },

    async stop(place, release, services) {
      touch(place);
      for (const view of await reader.views(place)) {
        if (services !== undefined && !services.includes(view.service)) continue;
        const slot = slotOf(view, release);
        if (slot !== undefined) await scale(slot, 0);
      }
    },

    async findDrift(place, desired) {
      const [views, strangers] = await Promise.all([reader.views(place), reader.strangers(place)]);
      const { subnets, securityGroups, publicIp } = settings;
      const at = { cluster: settings.cluster, network: { subnets, securityGroups, publicIp } };
      return driftOf(place, views, strangers, desired, at);
    },

    async reconcile(place, desired) {
      if ((changedAt.get(placeKey(place)) ?? 0) > Date.now() - times.quietMs) return [];
      const readAt = Date.now();
      const mendings = planMending(await reader.views(place), desired);
      // What was read is out of date when something was changed since.
      if ((changedAt.get(placeKey(place)) ?? 0) >= readAt) return [];
      if (mendings.some((one) => one.do === "start") && desired.live) await target.prepare(place, desired.live.release);
      for (const mending of mendings) {
        switch (mending.do) {
          case "scale-down":
            await scale(mending.slot, 0);
            break;
          case "scale-up":
            await scale(mending.slot, mending.desired);
            break;
          case "start": {
            const { live } = desired;
            const variables = live?.variables[mending.service.name] ?? { env: {}, secrets: {} };
            if (live) await target.startService(place, live.release, mending.service, variables);
            break;
          }
          case "shift":
            await target.shiftTraffic(place, mending.release);
            break;
        }
      }
      changedAt.delete(placeKey(place));
      return mendings.map((one) => one.text);
    },

    async readLogs(place, task, { sinceMs, follow, signal }, log) {
      const found = await findTask(place, task, follow ? signal : undefined);
      if (found === undefined) return;
      const stream = {
        group: logGroupName(install, place),
        stream: logStreamName(found.service, found.service, found.arn),
      };
      if (!follow) {
        const lines = await lastLines(aws, stream, MOST_PAST_LINES, sinceMs);
        if (lines.length > 0) log(lines);
        return;
      }
      const isOver = async () => (await reader.tasksByArn([found.arn]))[0]?.status === "STOPPED";
      await followLog(newLogReader(aws, stream, sinceMs), { everyMs: times.pollMs, signal, isOver }, log);
    },

    async destroy(place) {
      touch(place);
      await destroyPlace(ground, place);
      reader.forgetNames();
    },
  };
  return withPublicErrors(target);

  async function defineTask(
    place: Place,
    release: number,
    service: ReleaseService,
    { env, secrets }: TaskVariables,
    command?: string[],
  ): Promise<string> {
    const secret = await ensureSecret(ground, place, service.name, secrets);
    const definition = taskDefinitionOf({
      install,
      place,
      release,
      service,
      settings,
      env,
      secret,
      ...(command !== undefined && { run: { command } }),
    });
    return await ensureTaskDefinition(ground, definition);
  }

  /** One write, then read back: what the rule says afterwards is the truth. */
  async function flip(place: Place, service: ReleaseService, view: ServiceView, slot: Slot): Promise<void> {
    const { rule } = view;
    if (rule === undefined) return;
    const isThere = rule.weights[slot.name] > 0 && rule.weights[otherSlot(slot.name)] === 0;
    if (isThere && sameHosts(rule.hosts, service.hosts)) return;
    await aws.elb.modifyRule({
      RuleArn: rule.arn,
      Conditions: hostCondition(service),
      Actions: forwardTo(rule.groups, slot.name),
    });
    const now = await reader.rule(place, service.name, rule.arn);
    if ((now?.weights[slot.name] ?? 0) > 0) return;
    throw fail("AWS_RULE_CHANGED", {
      message: `The listener rule of ${service.name} does not lead to r${slot.primary?.release ?? 0} although it was written: somebody else writes it too.`,
      hint: "Find out who in CloudTrail (event ModifyRule), then try again.",
    });
  }

  /** A service that the new release no longer has: its rule leads to its empty slot, and back again if the release goes back. */
  async function takeAway(view: ServiceView): Promise<void> {
    const live = liveSlot(view);
    if (view.rule === undefined || live === undefined || releaseIn(view.slots[live]) === undefined) return;
    const idle = view.slots[otherSlot(live)];
    if (idle !== undefined && releaseIn(idle) !== undefined) await scale(idle, 0);
    await aws.elb.modifyRule({
      RuleArn: view.rule.arn,
      Actions: forwardTo(view.rule.groups, otherSlot(live)),
    });
  }

  async function mark(slot: Slot, role: string): Promise<void> {
    if (slot.role === role) return;
    await aws.ecs.tagResource({ resourceArn: slot.arn, tags: lowerTags({ [ROLE_TAG]: role }) });
  }

  async function scale(slot: Slot, desired: number): Promise<void> {
    await aws.ecs.updateService({ cluster: settings.cluster, service: slot.serviceName, desiredCount: desired });
  }

  /** Tasks of a slot are numbered by their age: `…r7-2` is the second oldest that runs. One that is still to come is waited for until `waiting` aborts. */
  async function findTask(
    place: Place,
    task: string,
    waiting: AbortSignal | undefined,
  ): Promise<{ service: string; arn: string } | undefined> {
    const parsed = /^(.*)\.r(\d+)-(\d+)$/.exec(task);
    if (parsed === null) return undefined;
    const [, head = "", release = "", index = ""] = parsed;
    const service = head.slice(`${place.app}.${place.environment}.`.length);
    for (;;) {
      const [view] = await reader.views(place, [service]);
      const slot = view && slotOf(view, Number(release));
      if (slot?.primary === undefined || slot.desired < Number(index)) return undefined;
      const found = (await reader.startedTasks(slot.primary.id))[Number(index) - 1];
      if (found !== undefined) return { service, arn: found.arn };
      if (waiting === undefined || waiting.aborted) return undefined;
      await sleep(times.pollMs, waiting).catch(() => undefined);
    }
  }

  /** The one place where what AWS says becomes a public error. */
  function withPublicErrors(inner: RolloutTarget): RolloutTarget {
    const guarded = Object.entries(inner).map(([name, method]) => [
      name,
      (...args: never[]) => {
        try {
          const result: unknown = (method as (...args: never[]) => unknown)(...args);
          if (!(result instanceof Promise)) return result;
          return result.catch((error: unknown) => {
            throw toAwsError(error, aws.askedOf(error));
          });
        } catch (error) {
          throw toAwsError(error, aws.askedOf(error));
        }
      },
    ]);
    return Object.fromEntries(guarded) as RolloutTarget;
  }
}

const sameHosts = (a: string[], b: string[]) => [...a].sort().join() === [...b].sort().join();

/** So that the pollers of many environments do not all ask in the same moment. */
const jittered = (ms: number) => ms * (0.8 + Math.random() * 0.4);

function progressOf(service: ReleaseService, verdict: Verdict) {
  const healthy = verdict.is === "healthy" ? service.count : verdict.is === "waiting" ? verdict.healthy : 0;
  const detail = verdict.is === "healthy" ? "healthy" : verdict.is === "waiting" ? verdict.detail : verdict.because;
  return { service: service.name, healthy, wanted: service.count, detail };
}

function patience(service: ReleaseService): string {
  return `It was given ${formatDurationMs(healthDeadlineMs(service))} beside the start on Fargate; a slower start needs a longer \`grace\` at its \`health\`.`;
}

function slotsTaken({ app, environment }: Place, service: string) {
  return fail("AWS_SLOTS_TAKEN", {
    message: `Both slots of ${service} in ${app} ${environment} hold tasks of releases of which none is known to work.`,
    hint: "Wait a minute for the clean-up of an earlier deployment, then deploy again.",
  });
}

function serviceOf(release: Release, name: string): ReleaseService {
  const service = release.services.find((one) => one.name === name);
  if (service !== undefined) return service;
  throw fail("REQUEST_INVALID", {
    message: `r${release.number} has no service ${name}.`,
    hint: `Its services are ${release.services.map((one) => one.name).join(", ")}.`,
  });
}
