import { execFile } from "node:child_process";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type Docker from "dockerode";
import { parseDocument } from "yaml";

const APP_FILE = "shipway.yml";
const INFRA_DIR = "infra";
/** Of the sample infrastructure; the site does without it, so its loss is drift and not an outage. */
const CACHE = "cache";

/** Whether the demo can show infrastructure as code: only with a Terraform that has write-only attributes. */
export async function findTerraform(program: string): Promise<string | undefined> {
  const { stdout } = await promisify(execFile)(program, ["version", "-json"]).catch(() => ({ stdout: "{}" }));
  const { terraform_version: version } = JSON.parse(stdout) as { terraform_version?: unknown };
  return typeof version === "string" ? version : undefined;
}

/** In the checkout, Terraform takes the place of `backing:`. Returns what was changed, for the one who watches. */
export async function declareInfra(exampleDir: string, checkout: string, app: string): Promise<string> {
  await cp(join(exampleDir, "docker"), join(checkout, INFRA_DIR), { recursive: true });
  const file = join(checkout, APP_FILE);
  const document = parseDocument(await readFile(file, "utf8"));
  document.delete("backing");
  for (const environment of ["production", "staging"]) {
    const infra = { dir: INFRA_DIR, variables: { app, environment }, protect: ["shipway_backing.db"] };
    document.setIn(["environments", environment, "infra"], document.createNode(infra, { flow: true }));
  }
  await writeFile(file, document.toString({ lineWidth: 140 }));
  return `${APP_FILE}: database and cache come from Terraform now, in ${INFRA_DIR}/`;
}

/** Removes the cache's container behind Shipway's back. Returns the command that does the same. */
export async function removeCacheByHand(docker: Docker, app: string, instance: string): Promise<string> {
  const filters = {
    label: [`shipway.instance=${instance}`, `shipway.app=${app}`, `shipway.service=${CACHE}`, "shipway.role=backing"],
  };
  const [container] = await docker.listContainers({ all: true, filters });
  if (container === undefined) throw new Error(`there is no container of ${CACHE} to remove`);
  await docker.getContainer(container.Id).remove({ force: true });
  return `docker rm --force ${(container.Names[0] ?? container.Id).replace(/^\//, "")}`;
}
