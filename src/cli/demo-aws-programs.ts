import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "../shared/errors.ts";
import { runProgram } from "../shared/run-program.ts";
import { findTerraform } from "./demo-infra.ts";

/** What plays AWS, and how to get it; pip may not write into the system's own Python everywhere. */
const PROGRAMS = [
  {
    argv: ["python3", "-c", "import moto.server"],
    name: "moto, an emulator of AWS",
    get: "python3 -m venv ~/.moto && ~/.moto/bin/pip install 'moto[server]==5.2.1' && export PATH=~/.moto/bin:$PATH",
  },
  {
    argv: ["docker-registry", "--version"],
    name: "docker-registry, which stands in for ECR",
    get: "apt-get install docker-registry",
  },
];

/** @throws STAND_IN_MISSING naming what is not there, and the command that gets it */
export async function requirePrograms(environment: NodeJS.ProcessEnv): Promise<void> {
  const checked = await Promise.all(
    PROGRAMS.map(async (program) => ({
      ...program,
      works: await runProgram(program.argv, { env: environment }).then(
        () => true,
        () => false,
      ),
    })),
  );
  const missing = checked.filter(({ works }) => !works);
  if (missing.length === 0) return;
  throw fail("STAND_IN_MISSING", {
    message: `The demo on ECS needs what is not here: ${missing.map(({ name }) => name).join(", and ")}.`,
    hint: `Get it with ${missing.map(({ get }) => `\`${get}\``).join(" and ")}, then run this again. Without --runtime ecs, the demo runs on Docker alone.`,
  });
}

/** The version of a Terraform that has AWS's provider without a download; undefined when there is none. */
export async function findTerraformForAws(environment: NodeJS.ProcessEnv): Promise<string | undefined> {
  const mirror = environment.SHIPWAY_TERRAFORM_MIRROR;
  if (mirror === undefined) return undefined;
  const provider = await readdir(join(mirror, "registry.terraform.io/hashicorp/aws")).catch(() => []);
  return provider.length === 0 ? undefined : await findTerraform(environment.SHIPWAY_TERRAFORM ?? "terraform");
}
