import type { AccountSecrets } from "../aws/account-secrets.ts";
import { credentialsFault } from "../aws/aws-errors.ts";
import type { EcsSettings } from "../rollout/runtime.ts";
import { hasCode, toProblem } from "../shared/errors.ts";
import { checkRole, looked, permissionsOn as on, once, roleNameOf, statementsFor, TASKS } from "./aws-check.ts";
import type { Check } from "./doctor.ts";
import { type CiFacts, type CiNeeds, runCiDoctor } from "./doctor-ci.ts";
import { runSecretsDoctor, type SecretNeeds } from "./doctor-secrets.ts";

/** What the checks ask of an AWS account. `aws-facts.ts` answers from the real one. Each rejects with a public code. */
export type AwsFacts = {
  /** Who asks. */
  identity(): Promise<{ account: string; arn: string }>;
  cluster(name: string): Promise<ClusterFacts | undefined>;
  listener(arn: string): Promise<ListenerFacts | undefined>;
  loadBalancer(arn: string): Promise<BalancerFacts | undefined>;
  /** Those that exist. */
  subnets(ids: string[]): Promise<SubnetFacts[]>;
  /** Where each subnet's default route leads; undefined: nowhere. `igw-…` is the internet itself. */
  waysOut(vpc: string, subnets: string[]): Promise<Map<string, string | undefined>>;
  /** Services that a VPC reaches without a way out, such as `ecr.api`. */
  endpoints(vpc: string): Promise<string[]>;
  /** Those that exist. */
  securityGroups(ids: string[]): Promise<GroupFacts[]>;
  /** `services`: who may take the role on. */
  role(name: string): Promise<{ services: string[] } | undefined>;
  /** Those of the permissions that a caller or role lacks, in IAM's own judgement. */
  lacking(principalArn: string, permissions: Permission[]): Promise<Permission[]>;
  /** Signs in to ECR; where it answers. */
  registry(): Promise<string>;
  /** Whether anything answers at this address. */
  answers(url: string): Promise<boolean>;
  /** How many groups below `/shipway/` were seen; reading them is what is tried. */
  logGroups(): Promise<number>;
  /** vCPUs that Fargate lets the account use at a time, on demand. */
  vcpuQuota(): Promise<number>;
};
/** `execKey`: the KMS key that sessions of ECS Exec are encrypted with. `execLogs`: whether what is typed and printed there is kept by AWS, and where. */
export type ClusterFacts = {
  status: string;
  providers: string[];
  execKey: string | undefined;
  execLogs: string | undefined;
};
export type ListenerFacts = { protocol: string; port: number; certificates: number; loadBalancer: string };
export type BalancerFacts = {
  name: string;
  state: string;
  scheme: string;
  vpc: string;
  zones: string[];
  securityGroups: string[];
};
export type SubnetFacts = { id: string; vpc: string; zone: string; freeAddresses: number };
export type GroupFacts = {
  id: string;
  vpc: string;
  /** Where port 443 may be spoken to. */
  out: "anywhere" | "somewhere" | "nowhere";
  /** Security groups and address ranges that may speak to it. */
  from: string[];
};
/** `context`: what a call would carry that policies have conditions on. */
export type Permission = { action: string; resource: string; context: Record<string, string> };

export type AwsDoctorOptions = {
  settings: EcsSettings;
  /** vCPUs of the declared tasks, once; while a release starts beside another they are needed twice. */
  vcpus: number;
  /** Where images are really pushed to; undefined for ECR itself. */
  registryEndpoint: string | undefined;
  /** What `ci` of shipway.yml needs there beside, and who answers for it; undefined where CI runs on this server. */
  ci?: { needs: CiNeeds; facts: CiFacts } | undefined;
  /** Secrets of the account that services take, and who looks at them; undefined where there are none. */
  secrets?: { needs: SecretNeeds; account: AccountSecrets } | undefined;
};

/** Each deployment starts a task beside each that runs. */
const FEW_ADDRESSES = 8;
/** What a task without a way out has to reach through endpoints (Amazon ECR user guide, interface VPC endpoints; Fargate needs S3 for layers). */
const NEEDED_ENDPOINTS = ["ecr.api", "ecr.dkr", "s3", "logs", "secretsmanager"];

/** Where ECS reads parameters for a task. */
const PARAMETERS_ENDPOINT = "ssm";
/** Where AWS's agent for commands inside tasks connects to. */
const EXEC_ENDPOINT = "ssmmessages";
/** What that agent needs of the task role (Amazon ECS developer guide, ECS Exec). */
const EXEC_ACTIONS = ["CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel"].map(
  (action) => `ssmmessages:${action}`,
);

/**
 * Looks, without changing anything, at what a deployment on ECS rests on. Never throws: what cannot be found out is a failed check, or a remark where
 * deployments do not need it to be found out. Without valid credentials nothing else is asked.
 */
export async function runAwsDoctor(facts: AwsFacts, options: AwsDoctorOptions): Promise<Check[]> {
  const { settings } = options;
  const who = await facts.identity().catch((error: unknown) => ({ error }));
  if ("error" in who) return [noIdentity(who.error, settings.region)];
  const listener = once(() => facts.listener(settings.listener));
  const balancer = once(async () => {
    const found = await listener();
    return found && (await facts.loadBalancer(found.loadBalancer));
  });
  const subnets = once(() => facts.subnets(settings.subnets));
  // Where the load balancer cannot be looked at, the subnets say which VPC it is about.
  const vpcOf = async () => (await balancer().catch(() => undefined))?.vpc ?? (await subnets())[0]?.vpc;
  const roles = [settings.executionRole, ...(settings.taskRole === undefined ? [] : [settings.taskRole])];
  const checks = await Promise.all([
    { name: "credentials", status: "ok" as const, found: who.arn },
    checkPlaces(settings, who.account),
    looked("cluster", async () => checkCluster(settings, await facts.cluster(settings.cluster)), "not needed"),
    looked("listener", async () => checkListener(settings, await listener())),
    looked("load balancer", async () => checkBalancer(await balancer())),
    looked(
      "subnets",
      async () => checkSubnets(settings, await subnets(), await balancer().catch(() => undefined)),
      "not needed",
    ),
    looked("way out", async () => checkWayOut(facts, options, await vpcOf()), "not needed"),
    looked(
      "security groups",
      async () =>
        checkGroups(
          settings,
          await facts.securityGroups(settings.securityGroups),
          await vpcOf(),
          await balancer().catch(() => undefined),
        ),
      "not needed",
    ),
    ...roles.map((arn, index) => {
      const name = index === 0 ? "execution role" : "task role";
      return looked(name, async () => checkRole(name, arn, await facts.role(roleNameOf(arn))), "not needed");
    }),
    ...(settings.exec
      ? [looked("exec", async () => checkExec(facts, settings, await facts.cluster(settings.cluster)), "not needed")]
      : []),
    looked("permissions", async () => checkPermissions(facts, settings, who), "not needed"),
    looked("image registry", async () => checkRegistry(facts, options)),
    looked("logs", async () => {
      const found = await facts.logGroups();
      return {
        name: "logs",
        status: "ok",
        found: found > 0 ? "groups below /shipway/ can be read" : "none of ours yet",
      };
    }),
    looked("Fargate quota", async () => checkQuota(await facts.vcpuQuota(), options), "not needed"),
  ]);
  const { secrets } = options;
  const ofSecrets =
    secrets === undefined ? [] : await runSecretsDoctor(facts, secrets.account, secrets.needs, settings);
  const ofCi = options.ci === undefined ? [] : await runCiDoctor(options.ci.facts, options.ci.needs, who);
  return [...checks.filter((check) => check !== undefined), ...ofSecrets, ...ofCi];
}

function noIdentity(error: unknown, region: string): Check {
  const { message, hint } = toProblem(error);
  const name = "credentials";
  const failed = (found: string, fix: string): Check => ({ name, status: "fail", found, fix });
  switch (credentialsFault(error)) {
    case "missing":
      return failed(
        "there are none",
        "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role; run this as the user that runs `shipway up`.",
      );
    case "expired":
      return failed(
        "they have expired",
        "Renew them: `aws sso login`, or new session keys. A role of the machine renews itself.",
      );
    case "unknown":
      return failed(
        `AWS does not know them in ${region}: ${message}`,
        `Compare the key (\`aws sts get-caller-identity\`), and whether ${region} is enabled for the account: AWS answers so in a Region that is not.`,
      );
    case undefined:
      return failed(
        message,
        hasCode(error, "AWS_UNREACHABLE") ? `Is ${region} a Region? ${hint ?? ""}`.trim() : (hint ?? ""),
      );
  }
}

/** What the settings themselves say: a listener or role of another Region or account can only be a mistake. */
function checkPlaces({ region, listener, executionRole, taskRole }: EcsSettings, account: string): Check {
  const name = "region and account";
  const listenerRegion = listener.split(":")[3] ?? "";
  if (listenerRegion !== region) {
    const found = `the Region is ${region}, and the listener is in ${listenerRegion}`;
    return {
      name,
      status: "fail",
      found,
      fix: "Put `region` or `listener` right under `aws:` of the environment, or the outputs they come from.",
    };
  }
  const foreign = [listener, executionRole, ...(taskRole === undefined ? [] : [taskRole])].find(
    (arn) => accountOf(arn) !== account,
  );
  if (foreign === undefined) return { name, status: "ok", found: `${region}, ${account}` };
  return {
    name,
    status: "fail",
    found: `the credentials are of account ${account}, and ${foreign} is of ${accountOf(foreign)}`,
    fix: `Use credentials of ${accountOf(foreign)} (AWS_PROFILE), or name things of ${account} under \`aws:\`.`,
  };
}

function checkCluster(
  { cluster, region, spot }: EcsSettings,
  seen: { status: string; providers: string[] } | undefined,
): Check {
  const name = "cluster";
  if (seen === undefined) {
    const fix =
      "Name one that is there under `aws: { cluster }`, or apply the environment's Terraform: `shipway infra apply`.";
    return { name, status: "fail", found: `there is no cluster ${cluster} in ${region}`, fix };
  }
  if (seen.status !== "ACTIVE") {
    const found = `${cluster} is ${seen.status}`;
    return {
      name,
      status: "fail",
      found,
      fix: "Wait while it is being made; one that is INACTIVE was deleted and has to be made again.",
    };
  }
  const missing = ["FARGATE", "FARGATE_SPOT"].filter((one) => !seen.providers.includes(one));
  if (spot === true && missing.length > 0) {
    const fix = `\`aws ecs put-cluster-capacity-providers --cluster ${cluster} --capacity-providers FARGATE FARGATE_SPOT --default-capacity-provider-strategy capacityProvider=FARGATE\`, or take \`spot\` out.`;
    return {
      name,
      status: "fail",
      found: `${cluster} is active, and the environment's tasks run on Spot, for which it lacks ${missing.join(" and ")}`,
      fix,
    };
  }
  if (seen.providers.includes("FARGATE")) return { name, status: "ok", found: `${cluster} is active, with Fargate` };
  return {
    name,
    status: "warn",
    found: `${cluster} is active, and FARGATE is not among its capacity providers (tasks of Shipway name their launch type and need none)`,
    fix: `\`aws ecs put-cluster-capacity-providers --cluster ${cluster} --capacity-providers FARGATE FARGATE_SPOT --default-capacity-provider-strategy capacityProvider=FARGATE\` lets other tools use it.`,
  };
}

function checkListener({ listener, scheme }: EcsSettings, seen: ListenerFacts | undefined): Check {
  const name = "listener";
  if (seen === undefined) {
    return {
      name,
      status: "fail",
      found: `${listener} does not exist`,
      fix: "It may have been made anew: put its ARN under `aws: { listener }`.",
    };
  }
  const found = `${seen.protocol} at port ${seen.port}`;
  if (seen.protocol.toLowerCase() !== scheme) {
    return {
      name,
      status: "fail",
      found: `${found}, and the environment says ${scheme}`,
      fix: `Write \`aws: { scheme: ${seen.protocol.toLowerCase()} }\`, or name the load balancer's ${scheme.toUpperCase()} listener.`,
    };
  }
  if (seen.protocol === "HTTPS" && seen.certificates === 0)
    return {
      name,
      status: "fail",
      found: `${found}, without a certificate`,
      fix: "Give it one of AWS Certificate Manager.",
    };
  if (seen.protocol === "HTTP")
    return {
      name,
      status: "warn",
      found: `${found}: nothing is encrypted on the way`,
      fix: "For more than a trial, use an HTTPS listener with a certificate.",
    };
  return { name, status: "ok", found };
}

function checkBalancer(seen: BalancerFacts | undefined): Check | undefined {
  const name = "load balancer";
  // Without a listener that is found there is none to look at.
  if (seen === undefined) return undefined;
  const found = `${seen.name} is ${seen.state}, ${seen.scheme}, in ${seen.zones.join(" and ")}`;
  if (seen.state === "active") return { name, status: "ok", found };
  return {
    name,
    status: "fail",
    found,
    fix: "While it is provisioning, wait a few minutes; in another state, see it in the console.",
  };
}

function checkSubnets({ subnets }: EcsSettings, seen: SubnetFacts[], balancer: BalancerFacts | undefined): Check {
  const name = "subnets";
  const missing = subnets.filter((id) => !seen.some((one) => one.id === id));
  if (missing.length > 0)
    return {
      name,
      status: "fail",
      found: `${missing.join(", ")} not there`,
      fix: "Name those that are under `aws: { subnets }`.",
    };
  const vpcs = [...new Set(seen.map(({ vpc }) => vpc))];
  const foreign = balancer && seen.find(({ vpc }) => vpc !== balancer.vpc);
  if (vpcs.length > 1 || foreign !== undefined) {
    const found = `they are in ${vpcs.join(" and ")}${balancer === undefined ? "" : `, the load balancer is in ${balancer.vpc}`}`;
    return { name, status: "fail", found, fix: "All have to be in the load balancer's VPC." };
  }
  const zones = [...new Set(seen.map(({ zone }) => zone))];
  const found = `${seen.map(({ id, zone, freeAddresses }) => `${id} (${zone}, ${freeAddresses} addresses free)`).join(", ")}`;
  const unserved = zones.filter((zone) => balancer !== undefined && !balancer.zones.includes(zone));
  if (unserved.length > 0) {
    const fix = `Tasks there never get traffic: enable ${unserved.join(", ")} at the load balancer, or take other subnets.`;
    return { name, status: "fail", found: `${found}; the load balancer is not in ${unserved.join(", ")}`, fix };
  }
  const full = seen.filter(({ freeAddresses }) => freeAddresses < FEW_ADDRESSES);
  if (full.length > 0)
    return {
      name,
      status: "warn",
      found,
      fix: `Each task takes an address, and a deployment twice as many: free some in ${full.map(({ id }) => id).join(", ")}, or take larger subnets.`,
    };
  if (zones.length === 1)
    return { name, status: "warn", found, fix: "With subnets in two zones, the loss of one does not end the app." };
  return { name, status: "ok", found };
}

async function checkWayOut(
  facts: AwsFacts,
  { settings: { region, subnets, publicIp, exec }, secrets }: AwsDoctorOptions,
  vpc: string | undefined,
): Promise<Check | undefined> {
  const name = "way out";
  if (vpc === undefined) return undefined;
  const ways = await facts.waysOut(vpc, subnets);
  const open = subnets.filter((id) => ways.get(id)?.startsWith("igw-"));
  if (open.length > 0 && !publicIp) {
    return {
      name,
      status: "fail",
      found: `${open.join(", ")}: the default route leads to an internet gateway, and tasks get no public address, so they cannot fetch their image`,
      fix: "Write `aws: { publicIp: true }`, or take subnets with a route to a NAT gateway.",
    };
  }
  const closed = subnets.filter((id) => ways.get(id) === undefined);
  if (closed.length > 0) {
    const there = await facts.endpoints(vpc);
    const takesParameters = secrets?.needs.references.some(({ reference }) => reference.kind === "parameter");
    const needed = [
      ...NEEDED_ENDPOINTS,
      ...(takesParameters ? [PARAMETERS_ENDPOINT] : []),
      ...(exec ? [EXEC_ENDPOINT] : []),
    ];
    const lacking = needed.filter((one) => !there.includes(one));
    if (lacking.length > 0) {
      const so =
        lacking.join() === EXEC_ENDPOINT
          ? "no command can be run inside tasks"
          : "tasks can fetch neither image nor secrets";
      return {
        name,
        status: "fail",
        found: `${closed.join(", ")}: no default route, and no endpoints for ${lacking.join(", ")}: ${so}`,
        fix: `Add a route to a NAT gateway, or VPC endpoints (${lacking.map((one) => `com.amazonaws.${region}.${one}`).join(", ")}).`,
      };
    }
  }
  const through = [...new Set(subnets.map((id) => ways.get(id) ?? "VPC endpoints"))];
  return { name, status: "ok", found: `through ${through.join(", ")}${publicIp ? ", with public addresses" : ""}` };
}

function checkGroups(
  { securityGroups }: EcsSettings,
  seen: GroupFacts[],
  vpc: string | undefined,
  balancer: BalancerFacts | undefined,
): Check {
  const name = "security groups";
  const found = securityGroups.join(", ");
  const missing = securityGroups.filter((id) => !seen.some((one) => one.id === id));
  if (missing.length > 0)
    return {
      name,
      status: "fail",
      found: `${missing.join(", ")} not there`,
      fix: "Name those that are under `aws: { securityGroups }`.",
    };
  const foreign = seen.find((one) => vpc !== undefined && one.vpc !== vpc);
  if (foreign !== undefined)
    return {
      name,
      status: "fail",
      found: `${foreign.id} is in ${foreign.vpc}, the rest in ${vpc}`,
      fix: "All have to be in one VPC.",
    };
  if (seen.every(({ out }) => out === "nowhere")) {
    const fix = "Allow port 443 out of them: tasks fetch image, secrets and send logs there.";
    return { name, status: "fail", found: `${found} let nothing out at port 443`, fix };
  }
  const sources = seen.flatMap(({ from }) => from);
  const letsIn =
    balancer === undefined || balancer.securityGroups.length === 0
      ? sources.length > 0
      : sources.some((source) => balancer.securityGroups.includes(source) || source.includes("/"));
  if (!letsIn) {
    const who = balancer?.securityGroups.join(", ") ?? "the load balancer";
    return {
      name,
      status: "fail",
      found: `${found} let nothing in from ${who || "the load balancer"}`,
      fix: `Allow the services' ports from ${who || "the load balancer"}.`,
    };
  }
  if (seen.every(({ out }) => out !== "anywhere"))
    return {
      name,
      status: "warn",
      found: `${found} let out only to some addresses`,
      fix: "See that ECR, S3, CloudWatch Logs and Secrets Manager are among them.",
    };
  return { name, status: "ok", found };
}

/** What commands inside tasks need beside the caller's own permissions. */
async function checkExec(
  facts: AwsFacts,
  { cluster, taskRole = "" }: EcsSettings,
  seen: ClusterFacts | undefined,
): Promise<Check> {
  const name = "exec";
  if (seen?.execKey !== undefined) {
    return {
      name,
      status: "fail",
      found: `sessions of ${cluster} are to be encrypted with ${seen.execKey}, which Shipway does not do`,
      fix: "Take `kmsKeyId` out of the cluster's executeCommandConfiguration: sessions have TLS all the same.",
    };
  }
  const lacking = await facts.lacking(
    taskRole,
    EXEC_ACTIONS.map((action) => ({ action, resource: "*", context: {} })),
  );
  if (lacking.length > 0) {
    const statement = { Effect: "Allow", Action: lacking.map(({ action }) => action), Resource: "*" };
    return {
      name,
      status: "fail",
      found: `IAM would deny ${taskRole} ${statement.Action.join(", ")}: the agent in tasks reaches nobody`,
      fix: `Attach terraform/aws-fargate/policies/task-exec.json to it, or add: ${JSON.stringify(statement)}`,
    };
  }
  const logs = seen?.execLogs === undefined ? "" : `; AWS keeps what is typed and printed in ${seen.execLogs}`;
  return { name, status: "ok", found: `the task role lets the agent in${logs}` };
}

async function checkPermissions(
  facts: AwsFacts,
  settings: EcsSettings,
  { account, arn }: { account: string; arn: string },
): Promise<Check> {
  const name = "permissions";
  const needed = neededPermissions(settings, account);
  if (arn.endsWith(":root")) {
    const fix =
      "Give Shipway a role with the policies of docs/aws.md: what has the account's own credentials can do everything.";
    return { name, status: "warn", found: "these are the account's own (root) credentials", fix };
  }
  const lacking = await facts.lacking(arn, needed);
  if (lacking.length === 0)
    return { name, status: "ok", found: `all ${needed.length} that were tried, the roles can be passed` };
  return {
    name,
    status: "fail",
    found: `IAM would deny ${lacking.map(({ action }) => action).join(", ")}`,
    fix: `Attach the driver's policies (docs/aws.md#permissions), or add: ${statementsFor(lacking)}`,
  };
}

/** What a deployment does, on names such as it makes: a sample, enough to see a policy that is missing or of another cluster. Pure. */
export function neededPermissions(settings: EcsSettings, account: string): Permission[] {
  const { region, cluster, listener, executionRole, taskRole, exec } = settings;
  const partition = listener.split(":")[1] ?? "aws";
  const at = (service: string, resource: string) => `arn:${partition}:${service}:${region}:${account}:${resource}`;
  // The shipped policies ask for our tag, for the cluster, and for whom a role is passed to.
  const tags = { "aws:RequestTag/shipway:install": "doctor", "aws:ResourceTag/shipway:install": "doctor" };
  const inCluster = { ...tags, "ecs:cluster": at("ecs", `cluster/${cluster}`) };
  const passed = { "iam:PassedToService": TASKS };
  const service = at("ecs", `service/${cluster}/shipway-doctor`);
  const targetGroup = at("elasticloadbalancing", "targetgroup/sw-doctor/0123456789abcdef");
  const rule = `${listener.replace(":listener/", ":listener-rule/")}/0123456789abcdef`;
  return [
    ...on(service, inCluster, "ecs:CreateService", "ecs:UpdateService", "ecs:DeleteService", "ecs:DescribeServices"),
    ...on(at("ecs", "task-definition/shipway-doctor:1"), inCluster, "ecs:RegisterTaskDefinition", "ecs:RunTask"),
    ...on(targetGroup, tags, "elasticloadbalancing:CreateTargetGroup", "elasticloadbalancing:DeleteTargetGroup"),
    ...on(listener, tags, "elasticloadbalancing:CreateRule"),
    ...on(rule, tags, "elasticloadbalancing:ModifyRule", "elasticloadbalancing:DeleteRule"),
    ...on(at("ecr", "repository/shipway/doctor"), tags, "ecr:CreateRepository", "ecr:PutImage"),
    ...on(at("logs", "log-group:/shipway/doctor"), tags, "logs:CreateLogGroup", "logs:GetLogEvents"),
    ...on(at("secretsmanager", "secret:shipway/doctor"), tags, "secretsmanager:CreateSecret"),
    ...(exec
      ? [
          ...on(at("ecs", `cluster/${cluster}`), {}, "ecs:ExecuteCommand"),
          ...on(at("ecs", `task/${cluster}/0123456789abcdef`), inCluster, "ecs:ExecuteCommand"),
          ...on(at("ssm", "session/ecs-execute-command-0123456789abcdef"), {}, "ssmmessages:OpenDataChannel"),
        ]
      : []),
    ...on(executionRole, passed, "iam:PassRole"),
    ...(taskRole === undefined ? [] : on(taskRole, passed, "iam:PassRole")),
  ];
}

async function checkRegistry(facts: AwsFacts, { registryEndpoint }: AwsDoctorOptions): Promise<Check> {
  const name = "image registry";
  const endpoint = registryEndpoint ?? (await facts.registry());
  if (await facts.answers(`${endpoint}/v2/`)) return { name, status: "ok", found: `${endpoint} answers` };
  return {
    name,
    status: "fail",
    found: `${endpoint} does not answer`,
    fix: "Images are pushed from here: let this machine reach it by HTTPS.",
  };
}

function checkQuota(quota: number, { settings, vcpus, ci }: AwsDoctorOptions): Check {
  const name = "Fargate quota";
  const steps = ci?.needs.settings.steps;
  // The quota is that of a Region.
  const forSteps = steps?.kind === "ecs" && steps.settings.region === settings.region ? (ci?.needs.vcpus ?? 0) : 0;
  const beside = forSteps === 0 ? "" : `, and the steps of a pipeline up to ${forSteps} beside it`;
  const found = `${quota} vCPUs at a time; this environment takes up to ${vcpus * 2} while it deploys${beside}`;
  if (quota >= vcpus * 2 + forSteps) return { name, status: "ok", found };
  return {
    name,
    status: quota < Math.max(vcpus, forSteps) ? "fail" : "warn",
    found,
    fix: "Ask for more: Service Quotas, AWS Fargate, “Fargate On-Demand vCPU resource count”. A small one is granted within minutes.",
  };
}

const accountOf = (arn: string): string => arn.split(":")[4] ?? "";
