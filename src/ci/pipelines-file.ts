import type { YamlPosition, YamlProblem } from "../shared/yaml-problems.ts";

/** What a name refers to is looked up by the plan; here each thing is only known as written, with its place. */
export type Written<T> = { value: T; at: YamlPosition };

/** A `$NAME`, and whether it is the whole value: then nothing else can be meant. */
export type NamedVariable = Written<string> & { isWhole: boolean };

/** `username` and `password` may be `$VARIABLES`, which `names` has. */
export type ImageDefinition = {
  name: string;
  runAsUser?: number;
  login?: { username: string; password: string };
  names?: NamedVariable[];
};

export type ScriptEntry = { kind: "command"; text: string } | { kind: "pipe"; name: string; at: YamlPosition };

export type CloneDefinition = { enabled?: boolean; depth?: number | "full" };

export type ArtifactDefinition = { name?: string; paths: string[] };

export type ChangesetCondition = { includePaths: string[] } | { excludePaths: string[] };

export type StepDefinition = {
  name?: string;
  at: YamlPosition;
  image?: ImageDefinition;
  script: ScriptEntry[];
  afterScript: ScriptEntry[];
  services: Written<string>[];
  caches: Written<string>[];
  artifacts: ArtifactDefinition[];
  /** false: none; names: only artifacts of these names; undefined: all of earlier steps. */
  download?: boolean | string[];
  maxTimeMinutes?: number;
  size?: number;
  clone: CloneDefinition;
  manual: boolean;
  deployment?: string;
  /** Whose variables it gets: that of `deployment`, or of `environment`. */
  environment?: Written<string>;
  condition?: ChangesetCondition;
  ignoreFailure: boolean;
  failFast?: boolean;
  /** What would keep the step from running as its author meant. An error once the step is to run, and only then. */
  unsupported: YamlProblem[];
  notes: YamlProblem[];
};

export type PipelineItem =
  | { kind: "step"; step: StepDefinition }
  | { kind: "parallel"; steps: StepDefinition[]; failFast: boolean; at: YamlPosition }
  | {
      kind: "stage";
      name?: string;
      items: Exclude<PipelineItem, { kind: "stage" }>[];
      manual: boolean;
      deployment?: string;
      environment?: Written<string>;
      condition?: ChangesetCondition;
      ignoreFailure: boolean;
      at: YamlPosition;
    };

export type PipelineDefinition = {
  /** The name or glob as written; `default` for the default pipeline. */
  pattern: string;
  /** `default`, `branches.release/*`, `tags.v*`, `custom.nightly`. */
  selector: string;
  at: YamlPosition;
  items: PipelineItem[];
  /** Defaults of a custom pipeline's variables. */
  variables: Record<string, string>;
  /** Problems in a pipeline that no push selects (custom): they count once it is asked for. */
  problems: YamlProblem[];
  /** Of its groups and stages; those of a step are with the step. */
  notes: YamlProblem[];
};

export type ServiceDefinition = {
  name: string;
  at: YamlPosition;
  isDocker: boolean;
  image?: ImageDefinition;
  variables: Record<string, string>;
  /** `$NAMES` in the values of `variables`. */
  names: NamedVariable[];
  memoryMiB?: number;
};

export type CacheDefinition = { name: string; path: string; keyFiles: string[] };

/** A `bitbucket-pipelines.yml` with everything typed, nothing looked up, and the places kept for messages. Plain JSON. */
export type PipelinesFile = {
  file: string;
  text: string;
  image?: ImageDefinition;
  options: { maxTimeMinutes?: number; size?: number };
  clone: CloneDefinition;
  services: Record<string, ServiceDefinition>;
  caches: Record<string, CacheDefinition>;
  pipelines: {
    default?: PipelineDefinition;
    branches: PipelineDefinition[];
    tags: PipelineDefinition[];
    custom: PipelineDefinition[];
  };
  notes: YamlProblem[];
};
