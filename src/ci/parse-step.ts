import { isMap, isScalar } from "yaml";
import { unknownKeyMessage, type YamlProblem } from "../shared/yaml-problems.ts";
import type {
  ArtifactDefinition,
  ChangesetCondition,
  CloneDefinition,
  ImageDefinition,
  NamedVariable,
  ScriptEntry,
  StepDefinition,
  Written,
} from "./pipelines-file.ts";
import { type Field, type Fields, newReport, type Report, type YamlReader } from "./yaml-reader.ts";

const STEP_KEYS = [
  "name",
  "script",
  "after-script",
  "image",
  "clone",
  "max-time",
  "size",
  "runtime",
  "services",
  "caches",
  "artifacts",
  "trigger",
  "deployment",
  "environment",
  "concurrency-group",
  "concurrency",
  "condition",
  "fail-fast",
  "on-fail",
  "oidc",
  "output-variables",
  "runs-on",
  "type",
  "custom",
  "input-variables",
];

/** Keys that change where or when a step runs in Bitbucket's cloud and have no meaning, or none yet, on one machine. */
const WITHOUT_EFFECT: Record<string, string> = {
  "concurrency-group": "has no effect yet: pipelines of one app do not wait for each other.",
  concurrency: "has no effect yet: pipelines of one app do not wait for each other.",
  oidc: "is not supported yet: BITBUCKET_STEP_OIDC_TOKEN is not set.",
};

/** Of the labels a runner can have, these mean this machine. */
const LINUX_RUNNERS = /windows|macos/i;

const SIZES = [1, 2, 4, 8, 16, 32];

export type StepReader = ReturnType<typeof readStep>;

/** Reads steps and what stages share with them. */
export function readStep(reader: YamlReader) {
  const lists = readStepLists(reader);
  const common = readCommonKeys(reader);

  return {
    ...lists,
    ...common,

    readStep(field: Field & { key: Field["at"] }, outer: Report): StepDefinition | undefined {
      const fields = reader.readMap(field, "`step`", outer);
      if (!fields) return undefined;
      const report: Report = { problems: outer.problems, notes: [] };
      const unsupported: YamlProblem[] = [];
      reader.noteUnknown(fields, STEP_KEYS, report);
      noteWithoutEffect(fields, report);
      unsupported.push(...findUnsupported(reader, fields));
      const isChild = unsupported.some(({ message }) => message.startsWith("child pipelines"));
      const image = fields.get("image");
      const named = image && common.readImage(image, report);
      const text = (key: string) => {
        const found = fields.get(key);
        return found && !reader.isEmpty(found) ? reader.readText(found, `\`${key}\``, report) : undefined;
      };
      const name = text("name");
      const failFast = fields.get("fail-fast");
      const { manual, deployment, environment, condition } = common.readCommon(fields, report);
      if (deployment !== undefined) {
        const at = fields.get("deployment")?.at ?? field.key;
        report.notes.push({ ...at, message: deploymentNote(deployment) });
      }
      return {
        at: field.key,
        ...(name === undefined ? {} : { name }),
        ...(named ? { image: named } : {}),
        script: isChild ? [] : lists.readScript(fields, field, report),
        afterScript: lists.readAfterScript(fields, report),
        services: lists.readNames(fields.get("services"), "`services`", report),
        caches: lists.readNames(fields.get("caches"), "`caches`", report),
        ...lists.readArtifacts(fields.get("artifacts"), report),
        ...lists.readLimits(fields, report),
        clone: common.readClone(fields.get("clone"), report),
        manual,
        ...(deployment === undefined ? {} : { deployment }),
        ...(environment === undefined ? {} : { environment }),
        ...(condition === undefined ? {} : { condition }),
        ignoreFailure: common.readOnFail(fields.get("on-fail"), report),
        ...(failFast ? { failFast: reader.readBoolean(failFast, "`fail-fast`", report) ?? false } : {}),
        unsupported,
        notes: report.notes,
      };
    },
  };
}

export function deploymentNote(deployment: string): string {
  return `\`deployment: ${deployment}\` runs like any other step, with the variables that are set for it; Shipway deploys by the environments of shipway.yml.`;
}

function noteWithoutEffect(fields: Fields, report: Report): void {
  for (const [name, { key }] of fields) {
    const effect = WITHOUT_EFFECT[name];
    if (effect !== undefined) report.notes.push({ ...key, message: `\`${name}\` ${effect}` });
  }
}

function findUnsupported(reader: YamlReader, fields: Fields): YamlProblem[] {
  const ignored = newReport();
  const found: YamlProblem[] = [];
  const type = fields.get("type");
  if (type && reader.readText(type, "", ignored) === "pipeline") {
    found.push({ ...type.at, message: "child pipelines (`type: pipeline`) are not supported yet" });
  }
  const outputs = fields.get("output-variables");
  if (outputs) {
    found.push({
      ...outputs.key,
      message: "`output-variables` are not supported yet: write a file and pass it on as an artifact",
    });
  }
  const runsOn = fields.get("runs-on");
  const labels = runsOn
    ? reader.isList(runsOn)
      ? reader.readTexts(runsOn, "", ignored)
      : [reader.readText(runsOn, "", ignored)]
    : [];
  if (runsOn && labels.some((label) => LINUX_RUNNERS.test(label ?? ""))) {
    found.push({ ...runsOn.at, message: "steps run in Linux containers: this runner is not supported" });
  }
  return found;
}

/** The parts of a step that are lists, and its limits. */
export function readStepLists(reader: YamlReader) {
  function readEntries(field: Field, what: string, report: Report): ScriptEntry[] {
    return (reader.readList(field, what, report) ?? []).flatMap((entry) => readEntry(entry, what, report));
  }

  function readEntry(entry: Field, what: string, report: Report): ScriptEntry[] {
    if (reader.isEmpty(entry)) return [];
    // An anchored list used as one entry of another list.
    if (reader.isList(entry)) return readEntries(entry, what, report);
    if (isScalar(entry.node)) return [{ kind: "command", text: reader.readText(entry, what, report) ?? "" }];
    const pipe = reader.readMap(entry, `an entry of ${what}`, report)?.get("pipe");
    if (pipe) return [{ kind: "pipe", name: reader.readText(pipe, "`pipe`", report) ?? "", at: pipe.key ?? pipe.at }];
    const message =
      "YAML reads this line as a map because of the colon and the space after it: put the whole line in quotes";
    report.problems.push({ ...entry.at, message });
    return [];
  }

  return {
    readScript(fields: Fields, step: Field & { key: Field["at"] }, report: Report): ScriptEntry[] {
      const script = fields.get("script");
      if (script) {
        const entries = readEntries(script, "`script`", report);
        if (entries.length === 0 && reader.isList(script)) {
          report.problems.push({ ...script.key, message: "`script` has no commands" });
        }
        return entries;
      }
      const near = [...fields].find(([name]) => unknownKeyMessage(name, ["script"]).includes("did you mean"));
      report.problems.push(
        near && !STEP_KEYS.includes(near[0])
          ? { ...near[1].key, message: unknownKeyMessage(near[0], ["script"]) }
          : { ...step.key, message: "this step has no `script`" },
      );
      return [];
    },

    readAfterScript(fields: Fields, report: Report): ScriptEntry[] {
      const script = fields.get("after-script");
      return script && !reader.isEmpty(script) ? readEntries(script, "`after-script`", report) : [];
    },

    readNames(field: Field | undefined, what: string, report: Report): Written<string>[] {
      if (!field || reader.isEmpty(field)) return [];
      return (reader.readList(field, what, report) ?? []).flatMap((entry) => {
        const value = reader.isEmpty(entry) ? undefined : reader.readText(entry, `an entry of ${what}`, report);
        return value === undefined ? [] : [{ value, at: entry.at }];
      });
    },

    /** Bitbucket's three forms: a list of globs, `{paths, download}`, and `upload`/a list of maps with names. */
    readArtifacts(field: Field | undefined, report: Report): Pick<StepDefinition, "artifacts" | "download"> {
      if (!field || reader.isEmpty(field)) return { artifacts: [] };
      if (reader.isList(field)) return { artifacts: readArtifactEntries(reader, field, report) };
      const fields = reader.readMap(field, "`artifacts`", report);
      if (!fields) return { artifacts: [] };
      reader.noteUnknown(fields, ["paths", "download", "upload"], report);
      const [paths, upload, download] = ["paths", "upload", "download"].map((key) => fields.get(key));
      const isNames = download && reader.isList(download);
      return {
        artifacts: [
          ...(paths ? [{ paths: reader.readTexts(paths, "`paths`", report) }] : []),
          ...(upload ? readArtifactEntries(reader, upload, report) : []),
        ],
        ...(download
          ? {
              download: isNames
                ? reader.readTexts(download, "`download`", report)
                : (reader.readBoolean(download, "`download`", report) ?? true),
            }
          : {}),
      };
    },

    readLimits(fields: Fields, report: Report): { maxTimeMinutes?: number; size?: number } {
      const [maxTime, size] = ["max-time", "size"].map((key) => fields.get(key));
      const maxTimeMinutes = maxTime && reader.readWholeNumber(maxTime, "`max-time` (minutes)", report);
      const text = size && reader.readText(size, "`size`", report);
      const factor = Number(/^(\d+)x$/.exec(text ?? "")?.[1]);
      if (size && text !== undefined && !SIZES.includes(factor)) {
        report.problems.push({
          ...size.at,
          message: `\`size\` must be one of ${SIZES.map((n) => `${n}x`).join(", ")}`,
        });
      }
      return { ...(maxTimeMinutes ? { maxTimeMinutes } : {}), ...(SIZES.includes(factor) ? { size: factor } : {}) };
    },
  };
}

function readArtifactEntries(reader: YamlReader, field: Field, report: Report): ArtifactDefinition[] {
  return (reader.readList(field, "`artifacts`", report) ?? []).flatMap((entry) => {
    if (reader.isEmpty(entry)) return [];
    if (!isMap(entry.node)) return [{ paths: [reader.readText(entry, "an artifact", report) ?? ""] }];
    const fields = reader.readMap(entry, "an artifact", report) ?? new Map();
    reader.noteUnknown(fields, ["name", "type", "paths", "capture-on", "depth", "ignore-paths"], report);
    for (const key of ["capture-on", "depth", "ignore-paths"]) {
      const found = fields.get(key);
      if (found)
        report.notes.push({ ...found.key, message: `\`${key}\` is not supported yet: all matching files are kept.` });
    }
    const [name, type, paths] = ["name", "type", "paths"].map((key) => fields.get(key));
    const named = name && reader.readText(name, "`name`", report);
    // Only `shared` artifacts are handed to later steps; the others are for downloads, which Shipway does not offer yet.
    const shared = !type || reader.readText(type, "`type`", report) === "shared";
    if (!shared && type) report.notes.push({ ...type.key, message: "only `shared` artifacts are kept so far." });
    if (!paths || !shared) return [];
    return [{ paths: reader.readTexts(paths, "`paths`", report), ...(named === undefined ? {} : { name: named }) }];
  });
}

/** What steps and stages have in common. */
function readCommonKeys(reader: YamlReader) {
  return {
    readImage(field: Field, report: Report): ImageDefinition | undefined {
      if (!reader.isMap(field)) {
        const name = reader.readText(field, "`image`", report);
        return name === undefined ? undefined : { name };
      }
      const fields = reader.readMap(field, "`image`", report) ?? new Map();
      reader.noteUnknown(fields, ["name", "run-as-user", "username", "password", "email", "aws"], report);
      const [name, user, username, password, aws] = ["name", "run-as-user", "username", "password", "aws"].map((key) =>
        fields.get(key),
      );
      if (aws)
        report.notes.push({
          ...aws.key,
          message: "`aws` logins are not supported yet: the image must be on this machine.",
        });
      if (!name) report.problems.push({ ...field.at, message: "`image` has no `name`" });
      const text = name && reader.readText(name, "`name`", report);
      if (text === undefined) return undefined;
      const runAsUser = user && reader.readWholeNumber(user, "`run-as-user`", report, 0);
      const login = {
        username: (username && reader.readText(username, "`username`", report)) ?? "",
        password: (password && reader.readText(password, "`password`", report)) ?? "",
      };
      return {
        name: text,
        ...(runAsUser === undefined ? {} : { runAsUser }),
        ...(username && password ? { login, names: [...namesIn(username), ...namesIn(password)] } : {}),
      };
    },

    readClone(field: Field | undefined, report: Report): CloneDefinition {
      if (!field || reader.isEmpty(field)) return {};
      const fields = reader.readMap(field, "`clone`", report);
      if (!fields) return {};
      const known = ["enabled", "depth", "lfs", "tags", "strategy", "filter", "sparse-checkout", "skip-ssl-verify"];
      reader.noteUnknown(fields, known, report);
      for (const key of ["lfs", "filter", "sparse-checkout"]) {
        const found = fields.get(key);
        if (found)
          report.notes.push({
            ...found.key,
            message: `\`${key}\` is not supported yet: the whole checkout is made, without LFS.`,
          });
      }
      const [enabled, depth] = ["enabled", "depth"].map((key) => fields.get(key));
      const isFull = depth && isScalar(depth.node) && depth.node.value === "full";
      const number = depth && !isFull ? reader.readWholeNumber(depth, "`depth`", report) : undefined;
      const on = enabled && reader.readBoolean(enabled, "`enabled`", report);
      return {
        ...(on === undefined ? {} : { enabled: on }),
        ...(isFull ? { depth: "full" as const } : number ? { depth: number } : {}),
      };
    },

    /** True for `strategy: ignore`: the step may fail and the pipeline goes on. */
    readOnFail(field: Field | undefined, report: Report): boolean {
      if (!field || reader.isEmpty(field)) return false;
      const strategy = reader.readMap(field, "`on-fail`", report)?.get("strategy");
      const text = strategy && reader.readText(strategy, "`strategy`", report);
      if (strategy && text === "retry") {
        report.notes.push({ ...strategy.at, message: "`strategy: retry` is not supported yet: the step is run once." });
      }
      return text === "ignore";
    },

    readCommon(
      fields: Fields,
      report: Report,
    ): Pick<StepDefinition, "manual" | "deployment" | "environment" | "condition"> {
      const [trigger, deployment, environment, condition] = ["trigger", "deployment", "environment", "condition"].map(
        (key) => fields.get(key),
      );
      const text = trigger && reader.readText(trigger, "`trigger`", report);
      if (trigger && text !== undefined && text !== "manual" && text !== "automatic") {
        report.problems.push({ ...trigger.at, message: "`trigger` must be manual or automatic" });
      }
      const named = (field: Field | undefined, what: string) =>
        field && !reader.isEmpty(field) ? reader.readText(field, what, report) : undefined;
      const deploysTo = named(deployment, "`deployment`");
      const valuesOf = deploysTo ?? named(environment, "`environment`");
      const at = (deploysTo === undefined ? environment : deployment)?.at;
      const found = condition && readCondition(reader, condition, report);
      return {
        manual: text === "manual",
        ...(deploysTo === undefined ? {} : { deployment: deploysTo }),
        ...(valuesOf === undefined || at === undefined ? {} : { environment: { value: valuesOf, at } }),
        ...(found ? { condition: found } : {}),
      };
    },
  };
}

/** The `$NAMES` in a text. */
export function namesIn({ node, at }: Field): NamedVariable[] {
  const text = isScalar(node) ? String(node.value) : "";
  const found = [...text.matchAll(/\$(?:\{(\w+)\}|(\w+))/g)];
  return found.map(([whole, braced, bare]) => ({ value: braced ?? bare ?? "", at, isWhole: whole === text }));
}

function readCondition(reader: YamlReader, field: Field, report: Report): ChangesetCondition | undefined {
  if (reader.isEmpty(field)) return undefined;
  const fields = reader.readMap(field, "`condition`", report);
  if (!fields) return undefined;
  reader.noteUnknown(fields, ["changesets", "state"], report);
  const state = fields.get("state");
  if (state)
    report.notes.push({ ...state.key, message: "`condition.state` is not supported yet: the step always runs." });
  const changesets = fields.get("changesets");
  const paths = changesets && reader.readMap(changesets, "`changesets`", report);
  if (!paths) return undefined;
  reader.noteUnknown(paths, ["includePaths", "excludePaths"], report);
  const [include, exclude] = ["includePaths", "excludePaths"].map((key) => paths.get(key));
  if (include) return { includePaths: reader.readTexts(include, "`includePaths`", report) };
  return exclude ? { excludePaths: reader.readTexts(exclude, "`excludePaths`", report) } : undefined;
}
