import { didYouMean, type YamlProblem } from "../shared/yaml-problems.ts";
import type { CachePlan, Gate, PipelinePlan, ServicePlan, StepPlan } from "./executor.ts";
import { matchesPathGlob, mostSpecific } from "./glob.ts";
import { invalidPipelines } from "./parse-pipelines.ts";
import type {
  ChangesetCondition,
  NamedVariable,
  PipelineDefinition,
  PipelineItem,
  PipelinesFile,
  StepDefinition,
  Written,
} from "./pipelines-file.ts";
import { readyCheckOf } from "./ready-check.ts";
import { taskSizeOf } from "./step-size.ts";

/** What selects a pipeline. */
export type PlannedRef = {
  refKind: "branch" | "tag";
  refName: string;
  /** Message of the head commit; `[skip ci]` or `[ci skip]` in it skips. */
  message?: string;
  /** Files of the last commit, for `condition.changesets`; unknown means that every condition holds. */
  changedPaths?: readonly string[];
  /** A pipeline of the `custom` section, asked for by name. */
  custom?: string;
};

/** A `$NAME` that a step which is to run hands to a registry or a service, as written in the file. */
export type UsedVariable = NamedVariable & { by: "login" | "service"; what: string; deployment?: string };

/** What the file asks for beside what is in it. */
export type Asked = { variables: UsedVariable[]; deployments: Written<string>[] };

export type Planned = { status: "plan"; plan: PipelinePlan; asked?: Asked } | { status: "none"; reason: string };

// Bitbucket's own figures (reference: image, options, services, step limits).
const DEFAULT_IMAGE = "atlassian/default-image:latest";
const DEFAULT_MAX_MINUTES = 120;
const MIB_PER_SIZE = 4_096;
const SERVICE_MIB = 1_024;
const SMALLEST_BUILD_MIB = 1_024;
const MOST_SERVICES = 5;
const MOST_STEPS = 100;
/** The largest task of Fargate (Amazon ECS developer guide, task size). */
const MOST_FARGATE_MIB = 122_880;

const PREDEFINED_CACHES: Record<string, string> = {
  composer: "~/.composer/cache",
  dotnetcore: "~/.nuget/packages",
  gradle: "~/.gradle/caches",
  ivy2: "~/.ivy2/cache",
  maven: "~/.m2/repository",
  node: "node_modules",
  npm: "~/.npm",
  pip: "~/.cache/pip",
  sbt: "~/.sbt",
};

/**
 * What a push of `ref` runs. Exactly one pipeline is chosen: a tag's own, or a branch's own, or `default` for a branch that no entry matches.
 * `on`: where its steps are to run. `started`: ids of the manual steps and stages that somebody has started; what waits for the others is `held`.
 * @throws PIPELINES_INVALID for what the chosen pipeline needs and does not have (an undefined service, too little memory) or Shipway cannot do yet.
 */
export function planPipeline(
  file: PipelinesFile,
  ref: PlannedRef,
  on: "docker" | "ecs" = "docker",
  started: ReadonlySet<string> = new Set(),
): Planned {
  if (ref.custom === undefined && /\[(skip ci|ci skip)\]/i.test(ref.message ?? "")) {
    return { status: "none", reason: "the commit message asks to skip CI" };
  }
  const pipeline = selectPipeline(file, ref);
  if (!pipeline) return { status: "none", reason: nothingFor(file, ref) };
  const planner = newPlanner(file, ref, pipeline, { on, started });
  const stages = planner.planStages();
  const problems = [...pipeline.problems, ...planner.problems];
  if (problems.length > 0) throw invalidPipelines(file.text, file.file, problems);
  const notes = [...file.notes, ...pipeline.notes, ...planner.notes].sort((a, b) => a.line - b.line);
  const texts = [...new Set(notes.map(({ line, message }) => `line ${line}: ${message}`))];
  const { asked, gates } = planner;
  return {
    status: "plan",
    plan: { selector: pipeline.selector, stages, notes: texts, ...(gates.length > 0 && { gates }) },
    ...(asked.variables.length + asked.deployments.length > 0 && { asked }),
  };
}

function selectPipeline(file: PipelinesFile, ref: PlannedRef): PipelineDefinition | undefined {
  const { branches, tags, custom } = file.pipelines;
  if (ref.custom !== undefined) return custom.find(({ pattern }) => pattern === ref.custom);
  if (ref.refKind === "tag") return mostSpecific(tags, ref.refName);
  return mostSpecific(branches, ref.refName) ?? file.pipelines.default;
}

function nothingFor(file: PipelinesFile, ref: PlannedRef): string {
  if (ref.custom !== undefined) return `${file.file} has no custom pipeline ${ref.custom}`;
  const fallback = ref.refKind === "tag" ? "" : " and no default";
  return `${file.file} has no pipeline for ${ref.refKind} ${ref.refName}${fallback}`;
}

/** What a stage of the file hands to its steps. */
type Surroundings = {
  manual: boolean;
  deployment?: string;
  environment?: Written<string>;
  condition?: ChangesetCondition;
  ignoreFailure: boolean;
  label?: string;
};

function newPlanner(
  file: PipelinesFile,
  ref: PlannedRef,
  pipeline: PipelineDefinition,
  { on, started }: { on: "docker" | "ecs"; started: ReadonlySet<string> },
) {
  const problems: YamlProblem[] = [];
  const notes: YamlProblem[] = [];
  const asked: Asked = { variables: [], deployments: [] };
  const gates: Gate[] = [];
  const stages: PipelinePlan["stages"] = [];
  let heldBy: string | undefined;

  function planStages(): PipelinePlan["stages"] {
    pipeline.items.forEach((item, index) => {
      planItem(item, String(index + 1), { manual: false, ignoreFailure: false });
    });
    const count = stages.flatMap(({ steps }) => steps).length;
    if (count > MOST_STEPS) {
      problems.push({
        ...pipeline.at,
        message: `pipeline "${pipeline.pattern}" has ${count} steps; ${MOST_STEPS} are allowed`,
      });
    }
    return stages;
  }

  function planItem(item: PipelineItem, id: string, around: Surroundings): void {
    switch (item.kind) {
      case "step":
        planGroup([item.step], id, false, around);
        return;
      case "parallel":
        planGroup(item.steps, id, item.failFast, around);
        return;
      case "stage": {
        const inner: Surroundings = {
          manual: item.manual,
          ignoreFailure: item.ignoreFailure,
          ...(item.deployment === undefined ? {} : { deployment: item.deployment }),
          ...(item.environment === undefined ? {} : { environment: item.environment }),
          ...(item.condition === undefined ? {} : { condition: item.condition }),
          ...(item.name === undefined ? {} : { label: item.name }),
        };
        if (item.manual && stages.length > 0 && heldBy === undefined) {
          const name = item.name ?? `Stage ${id}`;
          const deployment = placeOf(item.environment);
          hold({ id, name, ...(deployment !== undefined && { deployment }) }, `stage "${name}"`, item.at);
        }
        item.items.forEach((found, index) => {
          planItem(found, `${id}.${index + 1}`, inner);
        });
      }
    }
  }

  /** One step, or several side by side. */
  function planGroup(steps: StepDefinition[], id: string, failFast: boolean, around: Surroundings): void {
    const heldBefore = heldBy;
    const group = steps.map((step, index) => {
      const stepId = steps.length > 1 ? `${id}.${index + 1}` : id;
      const parallel: Record<string, string> =
        steps.length > 1
          ? { BITBUCKET_PARALLEL_STEP: String(index), BITBUCKET_PARALLEL_STEP_COUNT: String(steps.length) }
          : {};
      return planStep(step, stepId, heldBefore, parallel, around);
    });
    if (group.length > 0)
      stages.push({ steps: group, failFast: failFast || steps.some((step) => step.failFast === true) });
  }

  /** From a manual step on nothing is run by itself; in a parallel group only the manual one is held, and what comes after the group. */
  function hold(gate: Gate, what: string, at: StepDefinition["at"]): void {
    if (started.has(gate.id)) return;
    const message = `${what} is manual: it and what follows it wait for \`shipway pipelines continue\``;
    notes.push({ ...at, message: `${message}.` });
    gates.push(gate);
    heldBy ??= `${what} is manual (line ${at.line})`;
  }

  function planStep(
    step: StepDefinition,
    id: string,
    heldBefore: string | undefined,
    parallel: Record<string, string>,
    around: Surroundings,
  ): StepPlan {
    const name = step.name ?? (around.label === undefined ? `Step ${id}` : `${around.label} ${id}`);
    const isFirst = stages.length === 0;
    if (step.manual && isFirst) {
      notes.push({ ...step.at, message: "the first step cannot be manual: it is run." });
    }
    const deployment = step.deployment ?? around.deployment;
    const environment = step.environment ?? around.environment;
    const valuesOf = placeOf(environment);
    const gate = { id, name, ...(valuesOf !== undefined && { deployment: valuesOf }) };
    const skip = unchanged(step.condition ?? around.condition, ref);
    // Nobody is asked to start what would not run.
    if (step.manual && !isFirst && heldBefore === undefined && skip === undefined)
      hold(gate, `step "${name}"`, step.at);
    const held = heldBefore ?? (gates.includes(gate) ? heldBy : undefined);
    if (held !== undefined && skip === undefined) noteLater(step);
    const isRun = held === undefined && skip === undefined;
    const resolved = isRun ? resolve(step) : nothingResolved(step);
    if (isRun) noteAsked(step, environment, valuesOf, parallel);
    return {
      id,
      name,
      stage: stages.length,
      ...resolved,
      ...artifactsOf(step),
      variables: {
        ...pipeline.variables,
        ...parallel,
        ...(deployment === undefined ? {} : { BITBUCKET_DEPLOYMENT_ENVIRONMENT: deployment }),
      },
      ...(valuesOf === undefined ? {} : { deployment: valuesOf }),
      maxTimeMs: (step.maxTimeMinutes ?? file.options.maxTimeMinutes ?? DEFAULT_MAX_MINUTES) * 60_000,
      clone: cloneOf({ ...file.clone, ...step.clone }),
      ignoreFailure: step.ignoreFailure || around.ignoreFailure,
      ...(skip === undefined ? {} : { skip }),
      ...(held === undefined ? {} : { held }),
      line: step.at.line,
    };
  }

  function noteAsked(
    step: StepDefinition,
    environment: Written<string> | undefined,
    deployment: string | undefined,
    own: Record<string, string>,
  ): void {
    if (environment && deployment !== undefined) asked.deployments.push({ ...environment, value: deployment });
    const use = (names: NamedVariable[] | undefined, by: UsedVariable["by"], what: string) => {
      const unknown = (names ?? []).filter(({ value }) => !isGiven(value, { ...pipeline.variables, ...own }));
      asked.variables.push(
        ...unknown.map((one) => ({ ...one, by, what, ...(deployment !== undefined && { deployment }) })),
      );
    };
    const image = step.image ?? file.image;
    use(image?.names, "login", `the image ${image?.name}`);
    for (const { value } of step.services) {
      const service = file.services[value];
      use(service?.image?.names, "login", `the image ${service?.image?.name} of service ${value}`);
      use(service?.names, "service", `service ${value}`);
    }
  }

  /** What keeps a step from being started later keeps nothing from running now, and is told now. */
  function noteLater(step: StepDefinition): void {
    const [problemsBefore, notesBefore] = [problems.length, notes.length];
    resolve(step);
    notes.length = notesBefore;
    for (const { message, ...at } of problems.splice(problemsBefore))
      notes.push({ ...at, message: `it cannot be started: ${message}` });
  }

  type Resolved = Pick<
    StepPlan,
    "image" | "login" | "runAsUser" | "script" | "afterScript" | "services" | "caches" | "memoryMiB"
  >;

  function imageOf(step: StepDefinition): Pick<StepPlan, "image" | "login" | "runAsUser"> {
    const { name, names: _, ...rest } = step.image ?? file.image ?? { name: DEFAULT_IMAGE };
    return { image: name, ...rest };
  }

  /** A step that is not run may use anything that is not supported yet. */
  function nothingResolved(step: StepDefinition): Resolved {
    return { ...imageOf(step), script: [], afterScript: [], services: [], caches: [], memoryMiB: MIB_PER_SIZE };
  }

  function resolve(step: StepDefinition): Resolved {
    notes.push(...step.notes);
    problems.push(...step.unsupported);
    const services = step.services.flatMap((service) => resolveService(service) ?? []);
    if (services.length > MOST_SERVICES) {
      problems.push({
        ...step.at,
        message: `a step can have ${MOST_SERVICES} services, this one has ${services.length}`,
      });
    }
    const total = (step.size ?? file.options.size ?? 1) * MIB_PER_SIZE;
    const memoryMiB = total - services.reduce((sum, service) => sum + service.memoryMiB, 0);
    if (memoryMiB < SMALLEST_BUILD_MIB) {
      const message = `the services leave ${memoryMiB} MB of this step's ${total} MB, and its script needs ${SMALLEST_BUILD_MIB}: give it a larger \`size\` or the services less \`memory\``;
      problems.push({ ...step.at, message });
    }
    if (on === "ecs") checkOnFargate(step, total, { memoryMiB, services });
    return {
      ...imageOf(step),
      script: commandsOf(step.script),
      afterScript: commandsOf(step.afterScript),
      services,
      caches: step.caches.flatMap((cache) => resolveCache(cache) ?? []),
      memoryMiB,
    };
  }

  /** What Fargate cannot do, or does otherwise than an engine, in this step. */
  function checkOnFargate(
    step: StepDefinition,
    total: number,
    resolved: { memoryMiB: number; services: ServicePlan[] },
  ): void {
    if (taskSizeOf(resolved) === undefined) {
      const message = `no task on Fargate can have this step's ${total} MB: at most ${MOST_FARGATE_MIB} MB, \`size: 16x\``;
      problems.push({ ...step.at, message });
    }
    for (const { name, image, variables } of resolved.services) {
      if (readyCheckOf(image, variables, []).kind !== "none") continue;
      const message = `on Fargate the step does not wait for service ${name} (${image}) to answer: nobody knows what to ask it`;
      notes.push({ ...step.at, message: `${message}.` });
    }
  }

  function commandsOf(entries: StepDefinition["script"]): string[] {
    return entries.flatMap((entry) => {
      if (entry.kind === "command") return [entry.text];
      problems.push({
        ...entry.at,
        message: `pipes are not supported yet: replace ${entry.name} by the commands it runs`,
      });
      return [];
    });
  }

  function resolveService({ value, at }: Written<string>): ServicePlan | undefined {
    const found = file.services[value];
    if (value === "docker" || found?.isDocker) {
      const message =
        "the docker service is not supported yet: Shipway builds the images of shipway.yml itself, outside the pipeline";
      problems.push({ ...at, message });
      return undefined;
    }
    if (!found?.image) {
      problems.push({
        ...at,
        message: undefinedName("service", value, Object.keys(file.services), "definitions.services"),
      });
      return undefined;
    }
    const { name, login } = found.image;
    return {
      name: value,
      image: name,
      ...(login ? { login } : {}),
      variables: found.variables,
      memoryMiB: found.memoryMiB ?? SERVICE_MIB,
    };
  }

  function resolveCache({ value, at }: Written<string>): CachePlan | undefined {
    const own = file.caches[value];
    if (own) return own;
    const path = PREDEFINED_CACHES[value];
    if (path !== undefined) return { name: value, path, keyFiles: [] };
    if (value === "docker") {
      notes.push({ ...at, message: "the docker cache has no effect: steps have no Docker daemon." });
      return undefined;
    }
    const known = [...Object.keys(PREDEFINED_CACHES), ...Object.keys(file.caches)];
    problems.push({ ...at, message: undefinedName("cache", value, known, "definitions.caches") });
    return undefined;
  }

  function artifactsOf(step: StepDefinition): Pick<StepPlan, "artifacts" | "downloadArtifacts"> {
    const artifacts = step.artifacts.flatMap(({ paths }) => paths);
    if (step.download === undefined || step.download === true) return { artifacts };
    const names = step.download === false ? [] : step.download;
    const all = allSteps(pipeline.items).flatMap(({ artifacts: found }) => found);
    const wanted = all.filter(({ name }) => name !== undefined && names.includes(name));
    return { artifacts, downloadArtifacts: [...new Set(wanted.flatMap(({ paths }) => paths))] };
  }

  return { planStages, problems, notes, asked, gates };
}

/** Set by the file, or by Shipway for every step. */
const isGiven = (name: string, own: Record<string, string>): boolean =>
  Object.hasOwn(own, name) || /^(BITBUCKET_\w+|CI)$/.test(name);

/** Names of environments are in lower case; files for Bitbucket, which takes both, write `Production` as well. */
const placeOf = (environment: Written<string> | undefined) => environment?.value.toLowerCase();

function undefinedName(kind: string, name: string, known: readonly string[], where: string): string {
  const meant = didYouMean(name, known);
  return `${kind} "${name}" is not defined in \`${where}\`${meant === undefined ? "" : ` – did you mean "${meant}"?`}`;
}

function allSteps(items: readonly PipelineItem[]): StepDefinition[] {
  return items.flatMap((item) => {
    if (item.kind === "step") return [item.step];
    return item.kind === "parallel" ? item.steps : allSteps(item.items);
  });
}

/** Bitbucket clones 50 commits by default; here the whole history is at hand at no cost, so `depth` counts only where it is written. */
function cloneOf({ enabled, depth }: PipelinesFile["clone"]): StepPlan["clone"] {
  return { enabled: enabled ?? true, ...(typeof depth === "number" ? { depth } : {}) };
}

/** Why the step's `condition.changesets` does not hold, or undefined. */
function unchanged(condition: ChangesetCondition | undefined, { changedPaths }: PlannedRef): string | undefined {
  if (!condition || !changedPaths) return undefined;
  const matchesAny = (path: string, globs: string[]) => globs.some((glob) => matchesPathGlob(glob, path));
  if ("includePaths" in condition) {
    if (changedPaths.some((path) => matchesAny(path, condition.includePaths))) return undefined;
    return `not run: the last commit changed nothing in ${condition.includePaths.join(", ")}`;
  }
  if (!changedPaths.every((path) => matchesAny(path, condition.excludePaths))) return undefined;
  return `not run: the last commit changed only ${condition.excludePaths.join(", ")}`;
}
