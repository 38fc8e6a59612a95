import { fail } from "../shared/errors.ts";
import { didYouMean, readYaml, renderYamlProblems, type YamlProblem } from "../shared/yaml-problems.ts";
import { deploymentNote, namesIn, readStep, readStepLists, type StepReader } from "./parse-step.ts";
import type {
  CacheDefinition,
  PipelineDefinition,
  PipelineItem,
  PipelinesFile,
  ServiceDefinition,
  StepDefinition,
} from "./pipelines-file.ts";
import { type Field, type Fields, newReport, newYamlReader, type Report, type YamlReader } from "./yaml-reader.ts";

/**
 * Reads a `bitbucket-pipelines.yml`. What Bitbucket accepts is accepted: unknown keys become notes; what Shipway cannot run yet is kept and becomes
 * an error only if it is selected.
 * @throws PIPELINES_INVALID with all problems at once, each with line, column and a caret under the user's text.
 */
export function parsePipelines(text: string, file: string): PipelinesFile {
  const { source, problems } = readYaml(text, { duplicateKeys: "last-wins" });
  if (problems.length > 0) throw invalidPipelines(text, file, problems);
  const report = newReport();
  const reader = newYamlReader(source);
  const parsed = readFile(reader, report);
  if (report.problems.length > 0 || !parsed) throw invalidPipelines(text, file, report.problems);
  return { ...parsed, file, text, notes: unique(report.notes) };
}

/** The one error of this format, also for problems that only the plan can see. */
export function invalidPipelines(text: string, file: string, problems: readonly YamlProblem[]): Error {
  const found = unique(problems);
  const count = found.length === 1 ? "" : ` (${found.length} problems)`;
  return fail("PIPELINES_INVALID", {
    message: `${file} cannot be run${count}:\n\n${renderYamlProblems(text, file, found)}`,
    hint: "Correct the lines above, then try them with `shipway check` before you push.",
  });
}

/** An anchored step that is used five times has its problem once. */
function unique(problems: readonly YamlProblem[]): YamlProblem[] {
  const byPlace = new Map(problems.map((problem) => [`${problem.line}:${problem.column}:${problem.message}`, problem]));
  return [...byPlace.values()];
}

function readFile(reader: YamlReader, report: Report): Omit<PipelinesFile, "file" | "text" | "notes"> | undefined {
  if (reader.isEmpty(reader.root())) {
    report.problems.push({ line: 1, column: 1, message: "the file is empty: it needs a `pipelines` section" });
    return undefined;
  }
  const top = reader.readMap(reader.root(), "the file", report);
  if (!top) return undefined;
  noteSlips(reader, top, report);
  const steps = readStep(reader);
  const image = top.get("image");
  const named = image && steps.readImage(image, report);
  return {
    ...(named ? { image: named } : {}),
    options: readOptions(reader, top.get("options"), report),
    clone: steps.readClone(top.get("clone"), report),
    ...readDefinitions(reader, steps, top.get("definitions"), report),
    pipelines: readPipelines(reader, steps, top, report),
  };
}

const TOP_KEYS = ["image", "options", "clone", "definitions", "pipelines", "export", "labels", "triggers"];

/** Any key is legal at the top and serves as a place for anchors; one that is nearly a real one is a slip. */
function noteSlips(reader: YamlReader, top: Fields, report: Report): void {
  const slips = [...top].filter(([name]) => !TOP_KEYS.includes(name) && didYouMean(name, TOP_KEYS) !== undefined);
  reader.noteUnknown(new Map(slips), [], report, TOP_KEYS);
  const triggers = top.get("triggers");
  if (triggers) {
    report.notes.push({
      ...triggers.key,
      message: "`triggers` are not supported yet: pushes select by branch and tag.",
    });
  }
}

function readOptions(reader: YamlReader, field: Field | undefined, report: Report): PipelinesFile["options"] {
  if (!field || reader.isEmpty(field)) return {};
  const fields = reader.readMap(field, "`options`", report);
  if (!fields) return {};
  reader.noteUnknown(fields, ["max-time", "size", "docker", "runtime", "runs-on"], report);
  const docker = fields.get("docker");
  if (docker && reader.readBoolean(docker, "`docker`", report)) {
    report.notes.push({ ...docker.at, message: "`docker: true` is not supported yet: steps have no Docker daemon." });
  }
  const { maxTimeMinutes, size } = readStepLists(reader).readLimits(fields, report);
  return { ...(maxTimeMinutes ? { maxTimeMinutes } : {}), ...(size ? { size } : {}) };
}

function readDefinitions(
  reader: YamlReader,
  steps: StepReader,
  field: Field | undefined,
  report: Report,
): Pick<PipelinesFile, "services" | "caches"> {
  const fields = field && !reader.isEmpty(field) ? reader.readMap(field, "`definitions`", report) : undefined;
  const section = (name: string): [string, Field][] => {
    const found = fields?.get(name);
    if (!found || reader.isEmpty(found)) return [];
    return [...(reader.readMap(found, `\`definitions.${name}\``, report) ?? [])];
  };
  const services = section("services").map(([name, value]) => [name, readService(reader, steps, name, value, report)]);
  const caches = section("caches").flatMap(([name, value]) => {
    const cache = readCache(reader, name, value, report);
    return cache ? [[name, cache]] : [];
  });
  return { services: Object.fromEntries(services), caches: Object.fromEntries(caches) };
}

function readService(
  reader: YamlReader,
  steps: StepReader,
  name: string,
  field: Field,
  report: Report,
): ServiceDefinition {
  const at = field.key ?? field.at;
  const empty: ServiceDefinition = { name, at, isDocker: name === "docker", variables: {}, names: [] };
  if (reader.isEmpty(field) && name === "docker") return empty;
  const fields = reader.readMap(field, `service "${name}"`, report);
  if (!fields) return empty;
  // `environment` is the older name of `variables`.
  reader.noteUnknown(fields, ["image", "variables", "environment", "memory", "type", "ports"], report);
  const type = fields.get("type");
  const isDocker = name === "docker" || (type !== undefined && reader.readText(type, "`type`", report) === "docker");
  const image = fields.get("image");
  const named = image && steps.readImage(image, report);
  if (!image && !isDocker) report.problems.push({ ...at, message: `service "${name}" has no \`image\`` });
  const memory = fields.get("memory");
  const memoryMiB = memory && reader.readWholeNumber(memory, "`memory` (MB)", report, 128);
  return {
    ...empty,
    isDocker,
    ...readVariables(reader, fields.get("variables") ?? fields.get("environment"), report),
    ...(named ? { image: named } : {}),
    ...(memoryMiB ? { memoryMiB } : {}),
  };
}

function readVariables(
  reader: YamlReader,
  field: Field | undefined,
  report: Report,
): Pick<ServiceDefinition, "variables" | "names"> {
  if (!field || reader.isEmpty(field)) return { variables: {}, names: [] };
  const entries = [...(reader.readMap(field, "`variables`", report) ?? [])];
  const variables = entries.map(([name, value]) => [
    name,
    reader.isEmpty(value) ? "" : (reader.readText(value, `variable "${name}"`, report) ?? ""),
  ]);
  return { variables: Object.fromEntries(variables), names: entries.flatMap(([, value]) => namesIn(value)) };
}

function readCache(reader: YamlReader, name: string, field: Field, report: Report): CacheDefinition | undefined {
  if (!reader.isMap(field)) {
    const path = reader.readText(field, `cache "${name}"`, report);
    return path === undefined ? undefined : { name, path, keyFiles: [] };
  }
  const fields = reader.readMap(field, `cache "${name}"`, report) ?? new Map();
  reader.noteUnknown(fields, ["path", "key"], report);
  const path = fields.get("path");
  if (!path) {
    report.problems.push({ ...field.at, message: `cache "${name}" has no \`path\`` });
    return undefined;
  }
  const key = fields.get("key");
  const files = key && reader.readMap(key, "`key`", report)?.get("files");
  const text = reader.readText(path, "`path`", report);
  const keyFiles = files ? reader.readTexts(files, "`files`", report) : [];
  return text === undefined ? undefined : { name, path: text, keyFiles };
}

function readPipelines(reader: YamlReader, steps: StepReader, top: Fields, report: Report): PipelinesFile["pipelines"] {
  const none = { branches: [], tags: [], custom: [] };
  const field = top.get("pipelines");
  if (!field) {
    report.problems.push({ ...reader.root().at, length: 1, message: "there is no `pipelines` section" });
    return none;
  }
  if (reader.isEmpty(field)) return none;
  const fields = reader.readMap(field, "`pipelines`", report);
  if (!fields) return none;
  reader.noteUnknown(fields, ["default", "branches", "tags", "bookmarks", "pull-requests", "custom"], report);
  const pullRequests = fields.get("pull-requests");
  if (pullRequests) {
    report.notes.push({
      ...pullRequests.key,
      message: "`pull-requests` pipelines are not run yet: pushes and tags are.",
    });
  }
  const section = (name: "branches" | "tags" | "custom"): PipelineDefinition[] => {
    const found = fields.get(name);
    if (!found || reader.isEmpty(found)) return [];
    const entries = [...(reader.readMap(found, `\`${name}\``, report) ?? [])];
    return entries.map(([pattern, value]) => readPipeline(reader, steps, `${name}.${pattern}`, pattern, value));
  };
  const byDefault = fields.get("default");
  const pipelines = {
    ...(byDefault && !reader.isEmpty(byDefault)
      ? { default: readPipeline(reader, steps, "default", "default", byDefault) }
      : {}),
    branches: section("branches"),
    tags: section("tags"),
    custom: section("custom"),
  };
  const selectable = [...(pipelines.default ? [pipelines.default] : []), ...pipelines.branches, ...pipelines.tags];
  report.problems.push(...selectable.flatMap(({ problems }) => problems));
  return pipelines;
}

function readPipeline(
  reader: YamlReader,
  steps: StepReader,
  selector: string,
  pattern: string,
  field: Field,
): PipelineDefinition {
  const report = newReport();
  const at = field.key ?? field.at;
  const variables: Record<string, string> = {};
  const items: PipelineItem[] = [];
  if (reader.isMap(field)) {
    report.problems.push({ ...at, message: "`import` is not supported yet: write the steps here" });
  } else {
    const list = reader.readList(field, `pipeline "${pattern}"`, report) ?? [];
    if (list.length === 0 && report.problems.length === 0) {
      report.problems.push({ ...at, message: `pipeline "${pattern}" has no steps` });
    }
    for (const entry of list) items.push(...readItem(reader, steps, entry, report, variables));
  }
  return { pattern, selector, at, items, variables, problems: report.problems, notes: report.notes };
}

/** One entry of a pipeline. An empty one (`- # comment`) is skipped, as Bitbucket does. */
function readItem(
  reader: YamlReader,
  steps: StepReader,
  entry: Field,
  report: Report,
  variables: Record<string, string>,
): PipelineItem[] {
  if (reader.isEmpty(entry)) return [];
  const fields = reader.readMap(entry, "an entry of a pipeline", report);
  if (!fields) return [];
  const [step, parallel, stage, custom] = ["step", "parallel", "stage", "variables"].map((key) => fields.get(key));
  if (step) return readStepItem(reader, steps, step, fields, report).map((found) => ({ kind: "step", step: found }));
  if (parallel) return [readParallel(reader, steps, parallel, report)];
  if (stage) return readStage(reader, steps, stage, report);
  if (custom) readCustomVariables(reader, custom, variables, report);
  else {
    const first = [...fields.keys()][0] ?? "";
    report.problems.push({ ...entry.at, message: `expected \`step\`, \`parallel\` or \`stage\`, not \`${first}\`` });
  }
  return [];
}

function readStepItem(
  reader: YamlReader,
  steps: StepReader,
  step: Field & { key: Field["at"] },
  fields: Fields,
  report: Report,
): StepDefinition[] {
  if (reader.isEmpty(step) && (fields.has("script") || fields.has("name"))) {
    report.problems.push({ ...step.key, message: "this step is empty: indent its keys deeper than `step:`" });
    return [];
  }
  const read = steps.readStep(step, report);
  return read ? [read] : [];
}

function readParallel(
  reader: YamlReader,
  steps: StepReader,
  field: Field & { key: Field["at"] },
  report: Report,
): PipelineItem {
  const options = reader.isMap(field) ? reader.readMap(field, "`parallel`", report) : undefined;
  if (options) reader.noteUnknown(options, ["steps", "fail-fast", "on-fail"], report);
  const list = options ? options.get("steps") : field;
  const failFast = options?.get("fail-fast");
  const ignoreFailure = steps.readOnFail(options?.get("on-fail"), report);
  const entries = list && reader.readList(list, "`parallel`", report);
  if (!list) report.problems.push({ ...field.key, message: "`parallel` has no `steps`" });
  const found = (entries ?? []).flatMap((entry) => {
    if (reader.isEmpty(entry)) return [];
    const fields = reader.readMap(entry, "an entry of `parallel`", report);
    const step = fields?.get("step");
    if (fields && !step) report.problems.push({ ...entry.at, message: "expected `step` in `parallel`" });
    return fields && step ? readStepItem(reader, steps, step, fields, report) : [];
  });
  return {
    kind: "parallel",
    steps: ignoreFailure ? found.map((step) => ({ ...step, ignoreFailure })) : found,
    failFast: failFast ? (reader.readBoolean(failFast, "`fail-fast`", report) ?? false) : false,
    at: field.key,
  };
}

function readStage(
  reader: YamlReader,
  steps: StepReader,
  field: Field & { key: Field["at"] },
  report: Report,
): PipelineItem[] {
  const fields = reader.readMap(field, "`stage`", report);
  if (!fields) return [];
  reader.noteUnknown(
    fields,
    ["name", "steps", "deployment", "environment", "trigger", "condition", "concurrency-group", "on-fail"],
    report,
  );
  const list = fields.get("steps");
  if (!list) report.problems.push({ ...field.key, message: "`stage` has no `steps`" });
  const entries = (list && reader.readList(list, "`steps`", report)) ?? [];
  const items = entries
    .flatMap((entry) => readItem(reader, steps, entry, report, {}))
    .filter((item) => item.kind !== "stage");
  const common = steps.readCommon(fields, report);
  if (common.deployment !== undefined) {
    report.notes.push({ ...(fields.get("deployment")?.at ?? field.key), message: deploymentNote(common.deployment) });
  }
  const name = fields.get("name");
  return [
    {
      kind: "stage",
      items,
      at: field.key,
      manual: common.manual,
      ignoreFailure: steps.readOnFail(fields.get("on-fail"), report),
      ...(name && !reader.isEmpty(name) ? { name: reader.readText(name, "`name`", report) ?? "" } : {}),
      ...(common.deployment === undefined ? {} : { deployment: common.deployment }),
      ...(common.environment === undefined ? {} : { environment: common.environment }),
      ...(common.condition === undefined ? {} : { condition: common.condition }),
    },
  ];
}

function readCustomVariables(
  reader: YamlReader,
  field: Field,
  variables: Record<string, string>,
  report: Report,
): void {
  for (const entry of reader.readList(field, "`variables`", report) ?? []) {
    const fields = reader.readMap(entry, "a variable", report);
    const name = fields?.get("name");
    const value = fields?.get("default");
    const text = name && reader.readText(name, "`name`", report);
    if (text)
      variables[text] = value && !reader.isEmpty(value) ? (reader.readText(value, "`default`", report) ?? "") : "";
  }
}
