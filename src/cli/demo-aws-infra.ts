import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Document, parseDocument } from "yaml";

const APP_FILE = "shipway.yml";
/** The environment that runs on ECS. */
export const ON_AWS = "production";
const INFRA_DIR = "infra";
const MODULE_DIR = "modules/aws-fargate";

/** Where the settings of the account come from: from Terraform's outputs, or written into shipway.yml. */
export type EcsWay =
  | { by: "terraform"; env: Record<string, string> }
  | { by: "settings"; settings: Record<string, unknown>; backing: Record<string, string> };

type Place = { projectDir: string; checkout: string; app: string; host: string };

/** What only an emulator needs, as an override file beside the example: buckets by path, since `BUCKET.127.0.0.1` is no host. */
const FOR_MOTO = `# Only here, where moto plays AWS.
provider "aws" {
  s3_use_path_style = true
}
`;

/** In the checkout, the app moves to ECS. Returns what was changed, for the one who watches. */
export async function adaptToEcs(place: Place, way: EcsWay): Promise<string[]> {
  const file = join(place.checkout, APP_FILE);
  const document = parseDocument(await readFile(file, "utf8"));
  // On AWS, databases come from elsewhere.
  document.delete("backing");
  document.set("environments", document.createNode({ [ON_AWS]: environmentOf(place, way) }));
  const said = [`${APP_FILE}: ${ON_AWS} has \`runtime: ecs\`, at ${place.host}, and no backing services of its own`];
  if (way.by === "terraform") said.push(...(await copyInfra(place)));
  else {
    askForSecrets(document, Object.keys(way.backing));
    said.push(`${APP_FILE}: region, cluster, listener, subnets and roles are written down, for want of Terraform`);
  }
  await writeFile(file, document.toString({ lineWidth: 140 }));
  return said;
}

function environmentOf({ app, host }: Place, way: EcsWay): object {
  // Tasks reach each other as everybody does: through the load balancer, by name.
  const env = { BACKEND_URL: `http://backend-${ON_AWS}-${app}.${host}` };
  const common = { scheme: "http", domain: host };
  const rest = { services: { frontend: { domains: [host], env } } };
  if (way.by === "settings") {
    const { region, cluster, listener, subnets, securityGroups, executionRole } = way.settings;
    const aws = { region, cluster, listener, subnets, securityGroups, executionRole, ...common };
    return { branch: "main", runtime: "ecs", aws, ...rest };
  }
  const infra = {
    dir: INFRA_DIR,
    env: way.env,
    variables: { protect: "false" },
    outputs: { DB_URL: "db_url", CACHE_URL: "cache_url" },
  };
  return { branch: "main", runtime: "ecs", aws: common, infra, ...rest };
}

function askForSecrets(document: Document, names: string[]): void {
  for (const service of ["backend", "worker"]) {
    document.setIn(["services", service, "secrets"], document.createNode(names, { flow: true }));
  }
}

/** The example's code, with the module beside it as its README says. */
async function copyInfra({ projectDir, checkout }: Place): Promise<string[]> {
  const from = "examples/launches-infra/aws";
  await cp(join(projectDir, from), join(checkout, INFRA_DIR), { recursive: true });
  await cp(join(projectDir, "terraform/aws-fargate"), join(checkout, MODULE_DIR), {
    recursive: true,
    filter: (path) => !path.includes("/.terraform"),
  });
  const main = join(checkout, INFRA_DIR, "main.tf");
  const code = await readFile(main, "utf8");
  await writeFile(main, code.replace("../../../terraform/aws-fargate", `../${MODULE_DIR}`));
  await writeFile(join(checkout, INFRA_DIR, "moto_override.tf"), FOR_MOTO);
  return [
    `${INFRA_DIR}/: ${from}, which uses the module in ${MODULE_DIR}/; cluster, listener and the rest are its outputs`,
  ];
}
