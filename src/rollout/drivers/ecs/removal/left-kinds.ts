import { noneWithout } from "../../../../aws/aws-errors.ts";
import type { AwsClients } from "../aws-clients.ts";
import { deleteRevisions } from "../families.ts";

/** `ending`: on its way out by itself, as a service whose tasks still finish their requests. */
export type LeftState = "there" | "ending" | "gone";

/** A kind of thing that is made for a place: told by its ARN, asked for itself, and removed by itself. */
export type LeftKind = {
  called: string;
  pattern: RegExp;
  state(arn: string): Promise<LeftState>;
  remove(arn: string): Promise<unknown>;
};

/** In the order that AWS lets them be removed in. */
export const leftKinds = (aws: AwsClients): LeftKind[] => [
  listenerRule(aws),
  ecsService(aws),
  targetGroup(aws),
  ecsTask(aws),
  taskDefinition(aws),
  secret(aws),
  logGroup(aws),
];

/** What runs or carries traffic, by what it is called: the rest costs nothing that stands in anybody's way. */
export const RUNNING: ReadonlySet<string> = new Set(["listener rule", "ECS service", "target group", "task"]);

function listenerRule({ elb }: AwsClients): LeftKind {
  return {
    called: "listener rule",
    pattern: /:listener-rule\//,
    async state(arn) {
      const found = await elb.describeRules({ RuleArns: [arn] }).catch(noneWithout("RuleNotFound", "ListenerNotFound"));
      return found?.Rules?.length ? "there" : "gone";
    },
    remove: (arn) => elb.deleteRule({ RuleArn: arn }),
  };
}

function ecsService({ ecs }: AwsClients): LeftKind {
  return {
    called: "ECS service",
    pattern: /:ecs:[^:]*:[^:]*:service\//,
    async state(arn) {
      const asked = ecs.describeServices({ cluster: clusterOf(arn), services: [arn] });
      const status = (await asked.catch(noneWithout("ClusterNotFound")))?.services?.[0]?.status;
      if (status === "DRAINING") return "ending";
      return status === "ACTIVE" ? "there" : "gone";
    },
    remove: (arn) => ecs.deleteService({ cluster: clusterOf(arn), service: arn, force: true }),
  };
}

function targetGroup({ elb }: AwsClients): LeftKind {
  return {
    called: "target group",
    pattern: /:targetgroup\//,
    async state(arn) {
      const asked = elb.describeTargetGroups({ TargetGroupArns: [arn] });
      return (await asked.catch(noneWithout("TargetGroupNotFound")))?.TargetGroups?.length ? "there" : "gone";
    },
    remove: (arn) => elb.deleteTargetGroup({ TargetGroupArn: arn }),
  };
}

function ecsTask({ ecs }: AwsClients): LeftKind {
  return {
    called: "task",
    pattern: /:ecs:[^:]*:[^:]*:task\//,
    async state(arn) {
      const asked = ecs.describeTasks({ cluster: clusterOf(arn), tasks: [arn] });
      const [task] = (await asked.catch(noneWithout("ClusterNotFound")))?.tasks ?? [];
      if (task === undefined || task.lastStatus === "STOPPED") return "gone";
      return task.desiredStatus === "STOPPED" ? "ending" : "there";
    },
    remove: (arn) =>
      ecs.stopTask({ cluster: clusterOf(arn), task: arn, reason: "Shipway: the environment is removed" }),
  };
}

function taskDefinition(aws: AwsClients): LeftKind {
  const statusOf = async (arn: string) => {
    // That it is not there is a ClientException (Amazon ECS API, DescribeTaskDefinition).
    const asked = aws.ecs.describeTaskDefinition({ taskDefinition: arn });
    return (await asked.catch(noneWithout("ClientException")))?.taskDefinition?.status;
  };
  return {
    called: "task definition",
    pattern: /:task-definition\//,
    async state(arn) {
      const status = await statusOf(arn);
      // What is being deleted stays as long as a task refers to it, and then goes by itself.
      return status === "ACTIVE" || status === "INACTIVE" ? "there" : "gone";
    },
    async remove(arn) {
      const isActive = (await statusOf(arn)) === "ACTIVE";
      await deleteRevisions(aws, isActive ? [arn] : [], isActive ? [] : [arn]);
    },
  };
}

function secret({ secrets }: AwsClients): LeftKind {
  return {
    called: "secret",
    pattern: /:secretsmanager:/,
    async state(arn) {
      const found = await secrets.describeSecret({ SecretId: arn }).catch(noneWithout("ResourceNotFound"));
      return found === undefined || found.DeletedDate !== undefined ? "gone" : "there";
    },
    remove: (arn) => secrets.deleteSecret({ SecretId: arn, RecoveryWindowInDays: RECOVERY_DAYS }),
  };
}

/** How long a deleted secret can be brought back (Secrets Manager: 7 to 30 days). */
export const RECOVERY_DAYS = 7;

function logGroup({ logs }: AwsClients): LeftKind {
  const nameOf = (arn: string) => arn.split(":log-group:")[1] ?? "";
  return {
    called: "log group",
    pattern: /:log-group:/,
    async state(arn) {
      const { logGroups } = await logs.describeLogGroups({ logGroupNamePrefix: nameOf(arn) });
      return logGroups?.some((group) => group.logGroupName === nameOf(arn)) ? "there" : "gone";
    },
    remove: (arn) => logs.deleteLogGroup({ logGroupName: nameOf(arn) }),
  };
}

/** `CLUSTER` of `arn:…:service/CLUSTER/NAME` and `arn:…:task/CLUSTER/ID`. */
const clusterOf = (arn: string): string => arn.split("/").at(-2) ?? "";
