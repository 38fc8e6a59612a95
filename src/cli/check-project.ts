import { access, readFile } from "node:fs/promises";
import { join } from "node:path";
import { findMissing, type KnownNames, notesOnAsked, valuesMissing } from "../ci/missing-values.ts";
import { parsePipelines } from "../ci/parse-pipelines.ts";
import { type Planned, type PlannedRef, planPipeline } from "../ci/plan.ts";
import { errorCode, type Problem, toProblem } from "../shared/errors.ts";
import type { AppSpec } from "../spec/app-spec.ts";
import { notesOnOutputs } from "../spec/backing-variables.ts";
import { dockerNeeds } from "../spec/docker-needs.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { environmentsFor } from "../spec/resolve-environment.ts";
import { missingInfraFiles, undeclaredOutputs } from "./check-infra-files.ts";
import { SPEC_FILE } from "./project.ts";

export const PIPELINES_FILE = "bitbucket-pipelines.yml";

export type ProjectCheck = {
  ok: boolean;
  /** Everything that is wrong, in all files. */
  problems: Problem[];
  /** What was found to be right, for people. */
  found: string[];
  /** What is legal but probably not meant. */
  notes: string[];
};

/** What is known of the server that would be pushed to. */
export type KnownServer = {
  /** False when it runs without a Docker Engine. */
  hasEngine: boolean;
  /** What is set for pipelines of an app; undefined where it does not say. */
  namesFor(app: string): Promise<KnownNames | undefined>;
};

const NO_SERVER: KnownServer = { hasEngine: true, namesFor: async () => undefined };

/** Looks at a checkout as a push of `ref` would: the spec, the pipeline it selects, the Dockerfiles. Never throws for what is wrong in the files. */
export async function checkProject(dir: string, ref: PlannedRef, server = NO_SERVER): Promise<ProjectCheck> {
  const check: ProjectCheck = { ok: true, problems: [], found: [], notes: [] };
  const spec = await collect(check, async () => readSpec(dir));
  if (spec) {
    check.found.push(`${SPEC_FILE}: app ${spec.app}, ${describeServices(spec)}`);
    check.problems.push(...(await missingDockerfiles(dir, spec)));
    check.problems.push(...(await missingInfraFiles(dir, spec)));
    check.problems.push(...(await undeclaredOutputs(dir, spec)));
    check.notes.push(...notesOnOutputs(spec));
  }
  const planned = await collect(check, () => readPipeline(dir, ref, spec?.ci?.steps));
  if (planned) describePipeline(planned, ref, check);
  if (spec && planned) await checkValues(dir, spec.app, planned, server, check);
  if (spec && !server.hasEngine) check.problems.push(...missingEngine(spec, ref, planned));
  check.ok = check.problems.length === 0;
  return check;
}

async function collect<T>(check: ProjectCheck, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    check.problems.push(toProblem(error));
    return undefined;
  }
}

async function readSpec(dir: string): Promise<AppSpec> {
  return parseAppSpec(await readFile(join(dir, SPEC_FILE), "utf8"), SPEC_FILE);
}

/** Logins and variables of services that the pipeline takes from what is set for the app. What scripts use nobody can know. */
async function checkValues(
  dir: string,
  app: string,
  planned: Planned,
  server: KnownServer,
  check: ProjectCheck,
): Promise<void> {
  const asked = planned.status === "plan" ? planned.asked : undefined;
  if (asked === undefined || asked.variables.length === 0) return;
  const note = (text: string) => void check.notes.push(`${PIPELINES_FILE} ${text}`);
  const known = await server.namesFor(app);
  if (known === undefined) {
    for (const text of notesOnAsked(asked, app)) note(text);
    return;
  }
  const { problems, notes, names } = findMissing(asked, known);
  for (const { line, message } of notes) note(`line ${line}: ${message}`);
  if (problems.length === 0) return;
  const text = await readFile(join(dir, PIPELINES_FILE), "utf8");
  check.problems.push(toProblem(valuesMissing({ file: PIPELINES_FILE, text, app, problems, names })));
}

async function readPipeline(
  dir: string,
  ref: PlannedRef,
  on: "docker" | "ecs" | undefined,
): Promise<Planned | undefined> {
  const text = await readFile(join(dir, PIPELINES_FILE), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text === undefined) return { status: "none", reason: `there is no ${PIPELINES_FILE}, so a push runs no tests` };
  return planPipeline(parsePipelines(text, PIPELINES_FILE), ref, on);
}

function missingEngine(spec: AppSpec, ref: PlannedRef, planned: Planned | undefined): Problem[] {
  const needs = dockerNeeds(spec, environmentsFor(spec, ref), planned?.status === "plan");
  if (needs.length === 0) return [];
  return [
    {
      code: "DOCKER_MISSING",
      message: `The server runs without a Docker Engine, and a push of ${ref.refKind} ${ref.refName} needs one: ${needs.join("; ")}.`,
      hint: `Write in ${SPEC_FILE} where they run on AWS (docs/aws.md, "Without a Docker Engine").`,
    },
  ];
}

function describePipeline(planned: Planned, ref: PlannedRef, check: ProjectCheck): void {
  if (planned.status === "none") {
    check.notes.push(`${planned.reason}.`);
    return;
  }
  const steps = planned.plan.stages.flatMap(({ steps }) => steps.map(({ name }) => name));
  check.found.push(
    `${PIPELINES_FILE}: a push of ${ref.refKind} ${ref.refName} runs ${planned.plan.selector}: ${steps.join(", ")}`,
  );
  check.notes.push(...planned.plan.notes.map((note) => `${PIPELINES_FILE} ${note}`));
}

async function missingDockerfiles(dir: string, spec: AppSpec): Promise<Problem[]> {
  const wanted = Object.entries(spec.services).flatMap(([service, { build }]) =>
    build === undefined ? [] : [{ service, path: join(build.context, build.dockerfile ?? "Dockerfile") }],
  );
  const problems = await Promise.all(
    wanted.map(async ({ service, path }) => {
      const there = await access(join(dir, path)).then(
        () => true,
        () => false,
      );
      if (there) return [];
      return [
        {
          code: "DOCKERFILE_MISSING",
          message: `The service ${service} is built from ${path}, which does not exist.`,
          hint: `Add it, or name another: services.${service}.build.dockerfile (relative to build.context) in ${SPEC_FILE}.`,
        },
      ];
    }),
  );
  return problems.flat();
}

function describeServices({ services, environments }: AppSpec): string {
  const names = Object.entries(services).map(([name, { port }]) => (port === undefined ? name : `${name}:${port}`));
  const rules = Object.entries(environments).map(([name, { branch, tag }]) => {
    const refs = [branch === undefined ? [] : [`branch ${branch}`], tag === undefined ? [] : [`tag ${tag}`]].flat();
    return `${name} (${refs.join(", ") || "by hand"})`;
  });
  return `${names.length === 1 ? "service" : "services"} ${names.join(", ")}; to ${rules.join(", ")}`;
}
