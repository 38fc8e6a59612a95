import type { IpPermission, RouteTable, SecurityGroup } from "@aws-sdk/client-ec2";
import type { Cluster } from "@aws-sdk/client-ecs";
import { z } from "zod";
import { isAws, toAwsError } from "../aws/aws-errors.ts";
import { type AwsOptions, newAwsCalls } from "../aws/calls.ts";
import type { AwsFacts, ClusterFacts, GroupFacts, Permission } from "./doctor-aws.ts";

/** vCPUs of tasks on demand, all of a Region together (Service Quotas, AWS Fargate). */
const VCPU_QUOTA = { ServiceCode: "fargate", QuotaCode: "L-3032A538" };
const HTTPS_PORT = 443;
const QUICK_MS = 5_000;

/** IAM writes trust policies with one or more services, as text in a URL's form (IAM API reference, Role). */
const TrustPolicy = z.object({
  Statement: z.array(
    z.object({
      Effect: z.string(),
      Principal: z
        .union([z.string(), z.object({ Service: z.union([z.string(), z.array(z.string())]).optional() })])
        .optional(),
    }),
  ),
});

/** Logging is DEFAULT (the tasks' own group, where their role may write), NONE or OVERRIDE (Amazon ECS API, ExecuteCommandConfiguration). */
function clusterFacts({ status, capacityProviders, configuration }: Cluster): ClusterFacts {
  const { kmsKeyId, logging, logConfiguration } = configuration?.executeCommandConfiguration ?? {};
  const to = [logConfiguration?.cloudWatchLogGroupName, logConfiguration?.s3BucketName].filter(
    (one) => one !== undefined,
  );
  return {
    status: status ?? "",
    providers: capacityProviders ?? [],
    execKey: kmsKeyId,
    execLogs: logging === "OVERRIDE" && to.length > 0 ? to.join(" and ") : undefined,
  };
}

/** Answers the doctor from an AWS account. Reads only. The SDK is loaded by this call. */
export async function openAwsFacts(options: AwsOptions): Promise<AwsFacts> {
  const { askedOf, sts, ecs, elb, ec2, iam, ecr, logs, quotas } = await openClients(options);
  const told = async <T>(ask: () => Promise<T>): Promise<T> => {
    try {
      return await ask();
    } catch (error) {
      throw toAwsError(error, askedOf(error));
    }
  };
  /** The answer, or undefined where AWS says that there is no such thing. */
  const unless = async <T>(names: string[], ask: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await ask();
    } catch (error) {
      if (isAws(error, ...names)) return undefined;
      throw error;
    }
  };

  async function routeTables(vpc: string): Promise<RouteTable[]> {
    const found: RouteTable[] = [];
    let NextToken: string | undefined;
    do {
      const page = await ec2.describeRouteTables({
        Filters: [{ Name: "vpc-id", Values: [vpc] }],
        ...(NextToken && { NextToken }),
      });
      found.push(...(page.RouteTables ?? []));
      NextToken = page.NextToken;
    } while (NextToken);
    return found;
  }

  /** IAM judges roles and users; who works as a role is named by its session. */
  async function principalOf(callerArn: string): Promise<string> {
    const session = /^arn:(.+):sts::(\d+):assumed-role\/([^/]+)\//.exec(callerArn);
    if (session === null) return callerArn;
    const [, partition = "aws", account = "", name = ""] = session;
    // The role's path is not in the session's name.
    const role = await iam.getRole({ RoleName: name }).catch(() => undefined);
    return role?.Role?.Arn ?? `arn:${partition}:iam::${account}:role/${name}`;
  }

  /** Of one resource, in one context: what IAM takes in one call. */
  async function denied(principal: string, [one, ...others]: [Permission, ...Permission[]]): Promise<Permission[]> {
    const asked = [one, ...others];
    const found: Permission[] = [];
    let Marker: string | undefined;
    do {
      const page = await iam.simulatePrincipalPolicy({
        PolicySourceArn: principal,
        ActionNames: asked.map(({ action }) => action),
        ResourceArns: [one.resource],
        ContextEntries: Object.entries(one.context).map(([ContextKeyName, value]) => ({
          ContextKeyName,
          ContextKeyValues: [value],
          ContextKeyType: "string",
        })),
        ...(Marker && { Marker }),
      });
      const refused = (page.EvaluationResults ?? [])
        .filter(({ EvalDecision }) => EvalDecision !== "allowed")
        .map(({ EvalActionName }) => EvalActionName?.toLowerCase());
      found.push(...asked.filter(({ action }) => refused.includes(action.toLowerCase())));
      Marker = page.IsTruncated ? page.Marker : undefined;
    } while (Marker);
    return found;
  }

  return {
    identity: () =>
      told(async () => {
        const { Account, Arn } = await sts.getCallerIdentity({});
        return { account: Account ?? "", arn: Arn ?? "" };
      }),

    cluster: (name) =>
      told(async () => {
        const { clusters } = await ecs.describeClusters({ clusters: [name], include: ["CONFIGURATIONS"] });
        const [found] = clusters ?? [];
        return found && clusterFacts(found);
      }),

    listener: (arn) =>
      told(async () => {
        const answer = await unless(["ListenerNotFound"], () => elb.describeListeners({ ListenerArns: [arn] }));
        const [found] = answer?.Listeners ?? [];
        return (
          found && {
            protocol: found.Protocol ?? "",
            port: found.Port ?? 0,
            certificates: found.Certificates?.length ?? 0,
            loadBalancer: found.LoadBalancerArn ?? "",
          }
        );
      }),

    loadBalancer: (arn) =>
      told(async () => {
        const answer = await unless(["LoadBalancerNotFound"], () =>
          elb.describeLoadBalancers({ LoadBalancerArns: [arn] }),
        );
        const [found] = answer?.LoadBalancers ?? [];
        return (
          found && {
            name: found.LoadBalancerName ?? "",
            state: found.State?.Code ?? "",
            scheme: found.Scheme ?? "",
            vpc: found.VpcId ?? "",
            zones: (found.AvailabilityZones ?? []).map(({ ZoneName }) => ZoneName ?? ""),
            securityGroups: found.SecurityGroups ?? [],
          }
        );
      }),

    subnets: (ids) =>
      told(async () => {
        // By a filter, since a list of ids is refused as a whole for one that does not exist.
        const { Subnets } = await ec2.describeSubnets({ Filters: [{ Name: "subnet-id", Values: ids }] });
        return (Subnets ?? []).map((one) => ({
          id: one.SubnetId ?? "",
          vpc: one.VpcId ?? "",
          zone: one.AvailabilityZone ?? "",
          freeAddresses: one.AvailableIpAddressCount ?? 0,
        }));
      }),

    waysOut: (vpc, subnets) =>
      told(async () => {
        const tables = await routeTables(vpc);
        return new Map(subnets.map((id) => [id, wayOut(tables, id)]));
      }),

    endpoints: (vpc) =>
      told(async () => {
        const { VpcEndpoints } = await ec2.describeVpcEndpoints({ Filters: [{ Name: "vpc-id", Values: [vpc] }] });
        // com.amazonaws.REGION.ecr.api
        return (VpcEndpoints ?? []).map(({ ServiceName }) => ServiceName?.split(".").slice(3).join(".") ?? "");
      }),

    securityGroups: (ids) =>
      told(async () => {
        const { SecurityGroups } = await ec2.describeSecurityGroups({ Filters: [{ Name: "group-id", Values: ids }] });
        return (SecurityGroups ?? []).map(groupFacts);
      }),

    role: (name) =>
      told(async () => {
        const answer = await unless(["NoSuchEntity"], () => iam.getRole({ RoleName: name }));
        const document = answer?.Role?.AssumeRolePolicyDocument;
        if (answer === undefined) return undefined;
        return { services: trustedServices(decodeURIComponent(document ?? '{"Statement":[]}')) };
      }),

    lacking: (callerArn, permissions) =>
      told(async () => {
        const principal = await principalOf(callerArn);
        const groups = new Map<string, [Permission, ...Permission[]]>();
        for (const one of permissions) {
          const key = JSON.stringify([one.resource, one.context]);
          groups.set(key, [one, ...(groups.get(key) ?? [])]);
        }
        const lacking = await Promise.all([...groups.values()].map((group) => denied(principal, group)));
        return lacking.flat();
      }),

    registry: () =>
      told(async () => {
        const { authorizationData } = await ecr.getAuthorizationToken({});
        return authorizationData?.[0]?.proxyEndpoint ?? "";
      }),

    answers: (url) =>
      fetch(url, { signal: AbortSignal.timeout(QUICK_MS) }).then(
        // Refused for want of a login is an answer, too.
        ({ status }) => status < 500,
        () => false,
      ),

    logGroups: () =>
      told(async () => {
        const { logGroups } = await logs.describeLogGroups({ logGroupNamePrefix: "/shipway/", limit: 1 });
        return logGroups?.length ?? 0;
      }),

    vcpuQuota: () => told(async () => (await quotas.getServiceQuota(VCPU_QUOTA)).Quota?.Value ?? 0),
  };
}

async function openClients(options: AwsOptions) {
  const [
    { STS },
    { ECS },
    { ElasticLoadBalancingV2 },
    { EC2 },
    { IAM },
    { ECR },
    { CloudWatchLogs },
    { ServiceQuotas },
  ] = await Promise.all([
    import("@aws-sdk/client-sts"),
    import("@aws-sdk/client-ecs"),
    import("@aws-sdk/client-elastic-load-balancing-v2"),
    import("@aws-sdk/client-ec2"),
    import("@aws-sdk/client-iam"),
    import("@aws-sdk/client-ecr"),
    import("@aws-sdk/client-cloudwatch-logs"),
    import("@aws-sdk/client-service-quotas"),
  ]);
  const calls = newAwsCalls(options);
  return {
    sts: calls.open(STS, "sts"),
    ecs: calls.open(ECS, "ecs"),
    elb: calls.open(ElasticLoadBalancingV2, "elasticloadbalancing"),
    ec2: calls.open(EC2, "ec2"),
    iam: calls.open(IAM, "iam"),
    ecr: calls.open(ECR, "ecr"),
    logs: calls.open(CloudWatchLogs, "logs"),
    quotas: calls.open(ServiceQuotas, "servicequotas"),
    askedOf: calls.askedOf,
  };
}

/** Where the default route of a subnet leads: its own table's, else that of the VPC's main one. */
export function wayOut(tables: RouteTable[], subnet: string): string | undefined {
  const own = tables.find(({ Associations }) => Associations?.some(({ SubnetId }) => SubnetId === subnet));
  const table = own ?? tables.find(({ Associations }) => Associations?.some(({ Main }) => Main === true));
  const route = table?.Routes?.find((one) => one.DestinationCidrBlock === "0.0.0.0/0" && one.State !== "blackhole");
  return (
    route &&
    (route.NatGatewayId ??
      route.GatewayId ??
      route.TransitGatewayId ??
      route.NetworkInterfaceId ??
      route.InstanceId ??
      "another way")
  );
}

function groupFacts({ GroupId, VpcId, IpPermissions, IpPermissionsEgress }: SecurityGroup): GroupFacts {
  const out = (IpPermissionsEgress ?? []).filter(isForHttps);
  const isOpen = out.some(({ IpRanges }) => IpRanges?.some(({ CidrIp }) => CidrIp === "0.0.0.0/0"));
  return {
    id: GroupId ?? "",
    vpc: VpcId ?? "",
    out: isOpen ? "anywhere" : out.length > 0 ? "somewhere" : "nowhere",
    from: (IpPermissions ?? []).flatMap(({ UserIdGroupPairs, IpRanges }) => [
      ...(UserIdGroupPairs ?? []).map((pair) => pair.GroupId ?? ""),
      ...(IpRanges ?? []).map((range) => range.CidrIp ?? ""),
    ]),
  };
}

/** -1 is every protocol, and then there are no ports (Amazon EC2 API reference, IpPermission). */
function isForHttps({ IpProtocol, FromPort, ToPort }: IpPermission): boolean {
  if (IpProtocol === "-1") return true;
  return IpProtocol === "tcp" && (FromPort ?? 0) <= HTTPS_PORT && HTTPS_PORT <= (ToPort ?? 0);
}

function trustedServices(document: string): string[] {
  const policy = TrustPolicy.parse(JSON.parse(document));
  return policy.Statement.filter(({ Effect }) => Effect === "Allow").flatMap(({ Principal }) =>
    typeof Principal === "object" ? [Principal.Service ?? []].flat() : [],
  );
}
