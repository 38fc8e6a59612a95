import { type StandIn, startStandIn } from "../aws/stand-in.ts";
import { type LocalRegistry, startLocalRegistry } from "../image/registry/local-registry.ts";
import { findFreePort } from "../shared/free-port.ts";
import { adaptToEcs, type EcsWay, ON_AWS } from "./demo-aws-infra.ts";
import { findTerraformForAws, requirePrograms } from "./demo-aws-programs.ts";
import type { Scene } from "./demo-scene.ts";
import { type DemoDeps, show, type Workshop } from "./demo-workshop.ts";

/** Of no account: an emulator wants some, and AWS takes none of these. */
const CREDENTIALS = { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" };
const REGION = "eu-central-1";
/** AWS's own waits (health check intervals, draining) are shorter by this, so that the tour takes minutes. */
const PACE = 5;

type Opened = { standIn: StandIn; registry: LocalRegistry; balancerPort: number };

/** The demo on ECS: Shipway, images, Terraform and requests are real, AWS is played by programs on this machine. */
export async function ecsScene(deps: DemoDeps, app: string): Promise<Scene> {
  await requirePrograms(deps.environment);
  const terraform = await findTerraformForAws(deps.environment);
  const host = `${app}.localhost`;
  let opened: Opened | undefined;
  const has = () => {
    if (opened === undefined) throw new Error("the scene is not open");
    return opened;
  };
  const way = async (): Promise<EcsWay> => {
    const { standIn } = has();
    if (terraform !== undefined) return { by: "terraform", env: environmentOf(standIn) };
    return { by: "settings", settings: await standIn.ask("/ground"), backing: await standIn.ask("/backing") };
  };
  return {
    intro: introOf(terraform),
    names: {
      start: "Start what plays AWS, and Shipway",
      firstPush: `First push: tests, images, registry,${terraform === undefined ? "" : " Terraform,"} tasks, live`,
    },
    host,
    async open() {
      opened = await openStandIns(deps);
      const { standIn, registry, balancerPort } = opened;
      deps.err(
        `moto answers at ${standIn.endpoint}, the registry at ${registry.endpoint}; the load balancer's port 80 is ${balancerPort} here\n`,
      );
      return { ...environmentOf(standIn), SHIPWAY_REGISTRY: registry.endpoint };
    },
    port: () => has().balancerPort,
    async adapt({ checkout }) {
      const said = await adaptToEcs({ projectDir: deps.projectDir, checkout, app, host }, await way());
      for (const line of said) deps.err(`${line}\n`);
    },
    async configure(workshop: Workshop) {
      const how = await way();
      if (how.by === "terraform") return;
      for (const name of Object.keys(how.backing)) {
        await show(workshop, ["shipway", "secret", "set", name, "--env", ON_AWS], { input: how.backing[name] ?? "" });
      }
    },
    byHand: undefined,
    outro: () => `http://${host}:${has().balancerPort}`,
    explore: () => [
      `The account, by AWS's own command line:  ${wordsOf(environmentOf(has().standIn))} aws ecs list-tasks …`,
    ],
    epilogue: [
      "AWS was played by moto, docker-registry and this project's test/aws. What that proves, and what it does not: docs/aws.md.",
    ],
    async close() {
      await opened?.standIn.close();
      await opened?.registry.close();
    },
  };
}

const environmentOf = (standIn: StandIn) => ({
  AWS_ENDPOINT_URL: standIn.endpoint,
  AWS_REGION: REGION,
  // The AWS command line asks for this one.
  AWS_DEFAULT_REGION: REGION,
  ...CREDENTIALS,
});

const wordsOf = (variables: Record<string, string>) =>
  Object.entries(variables)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");

async function openStandIns(deps: DemoDeps): Promise<Opened> {
  const { environment, projectDir, dockerSocket } = deps;
  const registry = await startLocalRegistry({ environment });
  const balancerPort = await findFreePort();
  const options = { registry: registry.endpoint, containers: dockerSocket, pace: PACE, balancerPort };
  const standIn = await startStandIn({ projectDir, environment, ...options }).catch(async (error: unknown) => {
    await registry.close();
    throw error;
  });
  return { standIn, registry, balancerPort };
}

/** Loud: nobody should take this for AWS. */
function introOf(terraform: string | undefined): string[] {
  const infra =
    terraform === undefined
      ? [
          "  no Terraform         the network, the cluster and the databases are made by the stand-in, and their names written into",
          "                       shipway.yml. With Terraform 1.11 or newer, and SHIPWAY_TERRAFORM_MIRROR=DIR naming a mirror with",
          "                       hashicorp/aws, the module terraform/aws-fargate makes them here, too.",
        ]
      : [`  Terraform ${terraform.padEnd(10)} real, with AWS's own provider and the module terraform/aws-fargate`];
  return [
    "This is not AWS. No account is used and nothing leaves this machine. What plays what:",
    "  AWS's interfaces     moto, an emulator that others wrote (ECS, ELB, EC2, IAM, RDS, CloudWatch Logs, Secrets Manager …)",
    "  ECS and Fargate      containers of this machine's Docker Engine, scheduled as AWS's documentation says (test/aws)",
    "  the load balancer    a proxy on this machine that reads the listener's rules at each request (test/aws)",
    "  ECR                  Debian's docker-registry: the Docker Engine pushes there as it would to ECR",
    "  RDS, ElastiCache     MariaDB and Redis in containers",
    ...infra,
    `AWS's own waits (health checks, draining) are ${PACE} times shorter. Real are Shipway, the pipeline, the images and every request.`,
    "docs/aws.md says line by line what that proves, and what it does not.",
  ];
}
