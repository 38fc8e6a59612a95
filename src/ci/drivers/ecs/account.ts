import type { RegisterTaskDefinitionCommandInput, RunTaskCommandInput } from "@aws-sdk/client-ecs";
import { isAws, kindOf } from "../../../aws/aws-errors.ts";
import { newBatcher } from "../../../aws/batch.ts";
import { readTags, requireOurs, type Tags, upperTags } from "../../../aws/tags.ts";
import { sleep } from "../../../shared/until.ts";
import type { StepSettings } from "../../../spec/ci-settings.ts";
import type { StepAws } from "./aws-clients.ts";
import { type SeenTask, toSeenTask } from "./judge.ts";
import { logGroupOf, tagsOfApp } from "./names.ts";

/** One DescribeTasks call takes at most 100 tasks (Amazon ECS API reference, DescribeTasks, `tasks`). */
const TASKS_A_CALL = 100;
const RE_READ_MS = 200;

export type RanTask = { arn: string } | { failure: string };

/** What steps need of one account: each call looks first, or may be repeated. */
export type Account = ReturnType<typeof newAccount>;

export function newAccount(aws: StepAws, install: string, settings: StepSettings) {
  const { cluster } = settings;
  const known = new Map<string, Promise<unknown>>();
  /** What was made once is there; what failed is tried again by the next. */
  const once = <T>(name: string, make: () => Promise<T>): Promise<T> => {
    const making = known.get(name) ?? make();
    known.set(name, making);
    making.catch(() => known.delete(name));
    return making as Promise<T>;
  };
  const describe = newBatcher<SeenTask>(TASKS_A_CALL, async (tasks) => {
    const found = await aws.ecs.describeTasks({ cluster, tasks });
    return new Map((found.tasks ?? []).map((task) => [task.taskArn ?? "", toSeenTask(task)]));
  });

  return {
    /** Askers of the same moment share one call. */
    findTask: async (arn: string): Promise<SeenTask | undefined> => (await describe([arn])).get(arn),

    ensureLogGroup: (app: string) => once(`logs ${app}`, () => ensureLogGroup(aws, install, app, settings)),

    /** @returns the ARN of the one revision of the definition's family. */
    ensureDefinition: (definition: RegisterTaskDefinitionCommandInput): Promise<string> =>
      once(`definition ${definition.family}`, () => ensureDefinition(aws, install, definition)),

    /** For good: ECS forgets it. What is gone is no error. */
    async removeDefinition(family: string): Promise<void> {
      known.delete(`definition ${family}`);
      await removeDefinition(aws, family);
    },

    /** All families whose name begins so. */
    async removeDefinitions(prefix: string): Promise<void> {
      const families: string[] = [];
      let nextToken: string | undefined;
      do {
        const page = await aws.ecs.listTaskDefinitionFamilies({
          familyPrefix: prefix,
          status: "ACTIVE",
          ...(nextToken && { nextToken }),
        });
        families.push(...(page.families ?? []));
        nextToken = page.nextToken;
      } while (nextToken);
      for (const family of families) {
        known.delete(`definition ${family}`);
        await removeDefinition(aws, family);
      }
    },

    async removeLogGroup(app: string): Promise<void> {
      known.delete(`logs ${app}`);
      try {
        await aws.logs.deleteLogGroup({ logGroupName: logGroupOf(install, app) });
      } catch (error) {
        if (!isAws(error, "ResourceNotFound")) throw error;
      }
    },

    /** The same token gives the same task, also one that has ended, for a day. */
    async runTask(request: Omit<RunTaskCommandInput, "cluster">): Promise<RanTask> {
      const asked = {
        cluster,
        count: 1,
        launchType: "FARGATE",
        platformVersion: "LATEST",
        networkConfiguration: {
          awsvpcConfiguration: {
            subnets: settings.subnets,
            securityGroups: settings.securityGroups,
            assignPublicIp: settings.publicIp ? "ENABLED" : "DISABLED",
          },
        },
        enableECSManagedTags: true,
        ...request,
      } as const;
      const { tasks, failures } = await aws.ecs.runTask(asked).catch((error: unknown) => {
        // Settings were changed since: the task that was started with this token is the one that counts.
        const [taskArn] = isAws(error, "Conflict") ? ((error as { resourceIds?: string[] }).resourceIds ?? []) : [];
        if (taskArn === undefined) throw error;
        return { tasks: [{ taskArn }], failures: [] };
      });
      const arn = tasks?.[0]?.taskArn;
      return arn === undefined ? { failure: failures?.[0]?.reason ?? "no reason was given" } : { arn };
    },

    /** Of a run's tasks that are to run, those with these tags. */
    async startedTasks(startedBy: string, tags: Tags = {}): Promise<string[]> {
      const arns: string[] = [];
      let nextToken: string | undefined;
      do {
        const page = await aws.ecs.listTasks({ cluster, startedBy, ...(nextToken && { nextToken }) });
        arns.push(...(page.taskArns ?? []));
        nextToken = page.nextToken;
      } while (nextToken);
      if (arns.length === 0 || Object.keys(tags).length === 0) return arns;
      const found = await aws.ecs.describeTasks({ cluster, tasks: arns.slice(0, TASKS_A_CALL), include: ["TAGS"] });
      return (found.tasks ?? []).flatMap((task) => {
        const own = readTags(task.tags);
        return task.taskArn !== undefined && Object.entries(tags).every(([key, value]) => own[key] === value)
          ? [task.taskArn]
          : [];
      });
    },

    /** One that has stopped, or that ECS has forgotten, is no error. */
    async stopTask(arn: string, reason: string): Promise<void> {
      try {
        await aws.ecs.stopTask({ cluster, task: arn, reason });
      } catch (error) {
        if (kindOf(error) !== "final") throw error;
      }
    },

    /** The messages of a stream since `token`; none when there is no such stream yet. */
    async readLog(
      app: string,
      stream: string,
      token: string | undefined,
    ): Promise<{ messages: string[]; token: string | undefined }> {
      try {
        const page = await aws.logs.getLogEvents({
          logGroupName: logGroupOf(install, app),
          logStreamName: stream,
          startFromHead: true,
          ...(token !== undefined && { nextToken: token }),
        });
        const messages = (page.events ?? []).map(({ message }) => message ?? "");
        return { messages, token: page.nextForwardToken ?? token };
      } catch (error) {
        if (isAws(error, "ResourceNotFound")) return { messages: [], token };
        throw error;
      }
    },

    /** @returns its ARN */
    async putSecret(name: string, value: Record<string, string>, tags: Tags): Promise<string> {
      const SecretString = JSON.stringify(value);
      try {
        return (await aws.secrets.createSecret({ Name: name, SecretString, Tags: upperTags(tags) })).ARN ?? "";
      } catch (error) {
        if (!isAws(error, "ResourceExists")) throw error;
      }
      // From an attempt that was cut off.
      const { ARN = "", Tags: own } = await aws.secrets.describeSecret({ SecretId: name });
      requireOurs(install, `The secret ${name}`, readTags(own));
      await aws.secrets.putSecretValue({ SecretId: name, SecretString });
      return ARN;
    },

    async removeSecret(name: string): Promise<void> {
      try {
        await aws.secrets.deleteSecret({ SecretId: name, ForceDeleteWithoutRecovery: true });
      } catch (error) {
        if (!isAws(error, "ResourceNotFound")) throw error;
      }
    },
  };
}

async function ensureLogGroup(
  { logs }: StepAws,
  install: string,
  app: string,
  { logRetentionDays }: StepSettings,
): Promise<void> {
  const name = logGroupOf(install, app);
  try {
    await logs.createLogGroup({ logGroupName: name, tags: tagsOfApp(install, app) });
  } catch (error) {
    if (!isAws(error, "ResourceAlreadyExists")) throw error;
    const { logGroups } = await logs.describeLogGroups({ logGroupNamePrefix: name });
    const found = logGroups?.find((group) => group.logGroupName === name);
    const { tags } = await logs.listTagsForResource({ resourceArn: (found?.arn ?? "").replace(/:\*$/, "") });
    requireOurs(install, `The log group ${name}`, tags ?? {});
    if (found?.retentionInDays === logRetentionDays) return;
  }
  await logs.putRetentionPolicy({ logGroupName: name, retentionInDays: logRetentionDays });
}

/** Its family is named by its content, so whatever is active there is equal. Registering is not repeated blindly: each time makes a revision. */
async function ensureDefinition(
  { ecs }: StepAws,
  install: string,
  definition: RegisterTaskDefinitionCommandInput,
): Promise<string> {
  const family = definition.family ?? "";
  for (;;) {
    const [found] = await definitionsOf({ ecs }, family);
    if (found !== undefined) {
      const { tags } = await ecs.describeTaskDefinition({ taskDefinition: found, include: ["TAGS"] });
      requireOurs(install, `The task definition ${family}`, readTags(tags));
      return found;
    }
    try {
      return (await ecs.registerTaskDefinition(definition)).taskDefinition?.taskDefinitionArn ?? "";
    } catch (error) {
      if (kindOf(error) !== "transient") throw error;
      await sleep(RE_READ_MS);
    }
  }
}

/** Active ones. A prefix also matches longer families. Unlike DescribeTaskDefinition it is no error when there are none. */
async function definitionsOf({ ecs }: Pick<StepAws, "ecs">, family: string): Promise<string[]> {
  const { taskDefinitionArns } = await ecs.listTaskDefinitions({ familyPrefix: family, status: "ACTIVE" });
  return (taskDefinitionArns ?? []).filter((arn) => arn.includes(`/${family}:`));
}

async function removeDefinition({ ecs }: Pick<StepAws, "ecs">, family: string): Promise<void> {
  for (const arn of await definitionsOf({ ecs }, family)) {
    await ecs.deregisterTaskDefinition({ taskDefinition: arn });
    await ecs.deleteTaskDefinitions({ taskDefinitions: [arn] });
  }
}
