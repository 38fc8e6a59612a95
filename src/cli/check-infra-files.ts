import { readdir, readFile, stat } from "node:fs/promises";
import { join, posix } from "node:path";
import { findMissingOutputs } from "../infra/check-outputs.ts";
import { isTerraformFile } from "../infra/declared-outputs.ts";
import { type Problem, toProblem } from "../shared/errors.ts";
import { positionOf, readYaml, renderYamlProblems, type YamlProblem } from "../shared/yaml-problems.ts";
import type { AppSpec, InfraSpec } from "../spec/app-spec.ts";
import { SPEC_FILE } from "./project.ts";

type Missing = { path: (string | number)[]; message: string };

/** What `infra` of an environment names and this checkout does not have, each under the user's own line. */
export async function missingInfraFiles(dir: string, spec: AppSpec): Promise<Problem[]> {
  // Code in a repository of its own is not here to be looked at.
  const declared = Object.entries(spec.environments).flatMap(([name, { infra }]) =>
    infra && infra.repository === undefined ? [{ name, infra }] : [],
  );
  const missing = (await Promise.all(declared.map(({ name, infra }) => missingOf(dir, name, infra)))).flat();
  if (missing.length === 0) return [];
  const text = await readFile(join(dir, SPEC_FILE), "utf8");
  const { source } = readYaml(text);
  const problems = missing.map(({ path, message }): YamlProblem => ({ ...positionOf(source, path, "value"), message }));
  return [
    {
      code: "INFRA_INVALID",
      message: `${SPEC_FILE} names Terraform code that is not there:\n\n${renderYamlProblems(text, SPEC_FILE, problems)}`,
      hint: "Add the files, or name others; varFiles are relative to dir.",
    },
  ];
}

/** Outputs that an environment takes variables from and that the code in this checkout does not declare. */
export async function undeclaredOutputs(dir: string, spec: AppSpec): Promise<Problem[]> {
  const text = await readFile(join(dir, SPEC_FILE), "utf8");
  const error = await findMissingOutputs(spec, text, Object.keys(spec.environments), async (folder) => {
    const names = await readdir(join(dir, folder)).catch(() => undefined);
    const read = async (name: string) => ({ name, text: await readFile(join(dir, folder, name), "utf8") });
    return names && Promise.all(names.filter(isTerraformFile).map(read));
  });
  return error === undefined ? [] : [toProblem(error)];
}

async function missingOf(root: string, environment: string, infra: InfraSpec): Promise<Missing[]> {
  const path = ["environments", environment, "infra"];
  const names = await readdir(join(root, infra.dir)).catch(() => undefined);
  if (names === undefined) return [{ path: [...path, "dir"], message: `there is no folder ${infra.dir}` }];
  const empty = names.some((name) => /\.(tf|tofu)(\.json)?$/.test(name))
    ? []
    : [{ path: [...path, "dir"], message: `there are no Terraform files in ${infra.dir}` }];
  const varFiles = await Promise.all(
    infra.varFiles.map(async (file, index): Promise<Missing[]> => {
      const wanted = posix.normalize(posix.join(infra.dir, file));
      if (await isFile(join(root, wanted))) return [];
      return [{ path: [...path, "varFiles", index], message: `there is no file ${wanted}` }];
    }),
  );
  return [...empty, ...varFiles.flat()];
}

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
