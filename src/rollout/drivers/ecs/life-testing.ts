import { expect } from "vitest";
import { Secret } from "../../../shared/secret.ts";
import { until } from "../../../shared/until.ts";
import type { Place, Release } from "../../release.ts";
import type { RolloutTarget } from "../../target.ts";
import { findRule } from "./account/read-account.ts";
import { readFamily, secretName, servicePrefix } from "./names.ts";
import { readTags } from "./tags.ts";
import { type AwsStage, ecsService } from "./testing.ts";

/** What a test of crashes and faults puts an environment through, and what somebody else sees of it in the account. */
const newRelease = (place: Place, number: number): Release => ({
  app: place.app,
  number,
  services: [ecsService(place, "web", "web"), ecsService(place, "worker", "worker")],
});

const VARIABLES = { env: {}, secrets: { DB_URL: new Secret("DB_URL", "mysql://db") } };

/** What a rollout does. After a crash it goes on from the phase that had not ended, as the durable workflow does. */
export type Life = (on: RolloutTarget, place: Place) => (() => Promise<unknown>)[];

/** With a release command, and the release before parked. */
export const deployment =
  (number: number): Life =>
  (on, place) => {
    const release = newRelease(place, number);
    const command = { key: `d${number}`, service: "web", command: ["sh", "-c", "echo migrated"], deadlineMs: 20_000 };
    return [
      async () => {
        await on.prepare(place, release);
        const ran = await on.runOnce(place, release, { ...command, variables: VARIABLES }, () => undefined);
        expect(ran).toMatchObject({ exitCode: 0 });
      },
      async () => {
        for (const service of release.services) await on.startService(place, release, service, VARIABLES);
        await prove(on, place, release);
      },
      () => on.shiftTraffic(place, release),
      async () => number > 1 && (await on.park(place, newRelease(place, number - 1))),
    ];
  };

/** To a release that stands by: traffic first, then its workers. */
export const rollback =
  ({ from, to }: { from: number; to: number }): Life =>
  (on, place) => {
    const release = newRelease(place, to);
    const workers = release.services.filter((service) => service.port === undefined);
    return [
      // Somebody goes back once it is shown that there is a standby.
      () =>
        until("the standby is seen", async () =>
          (await on.observe(place, release)).some(({ traffic }) => traffic === "standby" || traffic === "serving"),
        ),
      async () => {
        expect(await on.wake(place, release)).toMatchObject({ missing: [] });
        await on.shiftTraffic(place, release);
      },
      async () => {
        for (const worker of workers) await on.startService(place, release, worker, VARIABLES);
        await prove(on, place, { ...release, services: workers });
      },
      () => on.park(place, newRelease(place, from)),
    ];
  };

export const destruction: Life = (on, place) => [() => on.destroy(place, "remove")];

export async function live(life: Life, on: RolloutTarget, place: Place): Promise<void> {
  for (const phase of life(on, place)) await phase();
}

async function prove(on: RolloutTarget, place: Place, release: Release): Promise<void> {
  const options = { deadlineMs: 20_000, onProgress: () => undefined };
  expect(await on.awaitHealthy(place, release, release.services, options)).toMatchObject({ status: "healthy" });
}

export type SeenState = Awaited<ReturnType<typeof stateOf>>;

/** As `stateOf` tells it after a destruction. */
export const NOTHING_LEFT = {
  observed: [],
  rules: [],
  targetGroups: 0,
  services: [],
  definitions: [],
  tasks: [],
  secrets: 0,
  logGroups: 0,
};

/** What is there of a place: each kind of thing that an effect done twice would leave one too many of. */
export async function stateOf({ aws, settings }: AwsStage, target: RolloutTarget, place: Place) {
  const { cluster } = settings;
  const prefix = servicePrefix("test", place);
  const observed = (await target.observe(place)).map(
    ({ release, service, traffic, tasks }) => `r${release} ${service} ${traffic} ${tasks.length}`,
  );
  const { Rules } = await aws.elb.describeRules({ ListenerArn: settings.listener });
  const rules = (Rules ?? []).flatMap((rule) => findRule([rule], "test", place, "web")?.weights ?? []);
  const { taskDefinitionArns } = await aws.ecs.listTaskDefinitions({});
  const definitions = (taskDefinitionArns ?? []).flatMap((arn) => arn.split("/").at(-1) ?? []);
  const families = definitions.map((one) => one.split(":")[0] ?? "").filter((one) => readFamily("test", place, one));
  const tasks = await Promise.all([...new Set(families)].sort().map((family) => tasksOf(family)));
  const { SecretList } = await aws.secrets.listSecrets({});
  const logGroupNamePrefix = `/shipway/test/${place.app}/${place.environment}`;
  const { logGroups } = await aws.logs.describeLogGroups({ logGroupNamePrefix });
  return {
    observed,
    rules,
    targetGroups: await countTargetGroups(),
    services: await servicesOf(),
    definitions: families.map((one) => one.slice(prefix.length)).sort(),
    tasks,
    secrets: (SecretList ?? [])
      .filter((one) => one.DeletedDate === undefined && one.Name === secretName("test", place, "web"))
      .flatMap((one) => Object.keys(one.SecretVersionsToStages ?? {})).length,
    logGroups: (logGroups ?? []).filter((one) => one.logGroupName === logGroupNamePrefix).length,
  };

  /** How many tasks were ever started of a family, so that one too many is seen even when it has ended. */
  async function tasksOf(family: string): Promise<string> {
    const states = ["RUNNING", "STOPPED"] as const;
    const found = await Promise.all(
      states.map((desiredStatus) => aws.ecs.listTasks({ cluster, family, desiredStatus })),
    );
    return `${family.slice(prefix.length)} ${found.flatMap((one) => one.taskArns ?? []).length}`;
  }

  async function servicesOf(): Promise<string[]> {
    const { serviceArns } = await aws.ecs.listServices({ cluster, maxResults: 100 });
    const own = (serviceArns ?? []).filter((arn) => arn.split("/").at(-1)?.startsWith(prefix));
    const { services } =
      own.length === 0 ? { services: [] } : await aws.ecs.describeServices({ cluster, services: own });
    return (services ?? [])
      .filter((one) => one.status === "ACTIVE")
      .map((one) => `${one.serviceName?.slice(prefix.length)} ${one.desiredCount}`)
      .sort();
  }

  async function countTargetGroups(): Promise<number> {
    const { TargetGroups } = await aws.elb.describeTargetGroups({});
    const arns = (TargetGroups ?? []).flatMap((one) => one.TargetGroupArn ?? []);
    if (arns.length === 0) return 0;
    const { TagDescriptions } = await aws.elb.describeTags({ ResourceArns: arns });
    return (TagDescriptions ?? []).filter(({ Tags }) => readTags(Tags)["shipway:environment"] === place.environment)
      .length;
  }
}
