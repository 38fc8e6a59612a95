import { readFile } from "node:fs/promises";
import { readSources } from "../environment/secret-sources.ts";
import { type EcsSettings, runtimeOf } from "../rollout/runtime.ts";
import { fail, hasCode } from "../shared/errors.ts";
import type { AppSpec, EnvironmentSpec, SecretSource } from "../spec/app-spec.ts";
import { ciSettingsOf } from "../spec/ci-settings.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { resolveEnvironment } from "../spec/resolve-environment.ts";
import type { CommandContext } from "./command.ts";
import type { CiNeeds } from "./doctor-ci.ts";
import type { SecretNeeds } from "./doctor-secrets.ts";
import { currentBranch } from "./git-checkout.ts";
import { findProject, SPEC_FILE } from "./project.ts";
import { stepVcpus } from "./step-vcpus.ts";

/** What an environment of the checkout needs of an AWS account. */
export type AwsNeeds = {
  settings: EcsSettings;
  vcpus: number;
  ci: CiNeeds | undefined;
  /** Undefined where no secret lies in the account. */
  secrets?: SecretNeeds | undefined;
};

/**
 * By shipway.yml here, so that it can be looked at before the first push; the server is asked only for Terraform outputs, and only when a setting has to
 * come from one.
 * @throws SPEC_MISSING, SPEC_INVALID, USAGE when no environment, or not just one, runs on ECS; AWS_SETTINGS_INVALID
 */
export async function awsNeedsOf(
  input: { app?: string | undefined; env?: string | undefined },
  context: CommandContext,
): Promise<AwsNeeds> {
  const project = await findProject(context.cwd);
  if (project === undefined) {
    throw fail("SPEC_MISSING", {
      message: `There is no ${SPEC_FILE} in ${context.cwd} or above it, so nobody knows which account to look at.`,
      hint: "Run this in a checkout of the app.",
    });
  }
  const spec = parseAppSpec(await readFile(project.specFile, "utf8"), SPEC_FILE);
  const environment = chosenEnvironment(spec, input.env);
  const place = { app: input.app ?? spec.app, environment };
  const resolved = resolveEnvironment(spec, environment);
  const outputsOf = (name: string) => async () => {
    const { outputs } = await (await context.client()).getInfra(place.app, name);
    return Object.fromEntries(outputs.map((output) => [output.name, outputValue(output.value)]));
  };
  const runtime = await withOutputs(resolved, (outputs) => runtimeOf(place, resolved, outputs), outputsOf(environment));
  if (runtime.kind !== "ecs") {
    throw fail("USAGE", {
      message: `${environment} of ${place.app} runs on Docker, so it needs nothing of an AWS account.`,
      hint: `Write \`runtime: ecs\` at it in ${SPEC_FILE} (docs/aws.md), or look at this machine: \`shipway doctor\``,
    });
  }
  const units = Object.values(resolved.services).reduce((all, { cpu, count }) => all + cpu * count, 0);
  const ci = await ciNeedsOf(spec, project.dir, {
    branch: spec.environments[environment]?.branch,
    outputsOf,
  });
  const secrets = await secretNeedsOf(resolved, outputsOf(environment));
  return { settings: runtime.settings, vcpus: units / 1_024, ci, ...(secrets && { secrets }) };
}

async function secretNeedsOf(
  { secretSources }: EnvironmentSpec,
  readOutputs: () => Promise<Outputs>,
): Promise<SecretNeeds | undefined> {
  if (secretSources === undefined || Object.keys(secretSources).length === 0) return undefined;
  const hasOutputs = Object.values(secretSources).some((source) => typeof source !== "string");
  const outputs = hasOutputs ? await readOutputs() : {};
  const isHidden = (source: SecretSource) =>
    typeof source !== "string" && outputs[source.output.split(".")[0] ?? ""] === SENSITIVE;
  const all = Object.entries(secretSources);
  const { references, problems } = readSources(Object.fromEntries(all.filter(([, one]) => !isHidden(one))), outputs);
  return {
    references,
    problems: problems.map(({ path, message }) => `${path[0]}: ${message}`),
    unseen: all.filter(([, one]) => isHidden(one)).map(([name]) => name),
  };
}

/** What the server shows of an output that is. */
const SENSITIVE = "(sensitive)";

/** Undefined where steps and images need nothing of an AWS account. */
async function ciNeedsOf(
  spec: AppSpec,
  dir: string,
  { branch, outputsOf }: { branch: string | undefined; outputsOf: (name: string) => () => Promise<Outputs> },
): Promise<CiNeeds | undefined> {
  const { environment, steps } = spec.ci ?? {};
  if (environment === undefined) return undefined;
  const settings = await withOutputs(
    resolveEnvironment(spec, environment),
    (outputs) => ciSettingsOf(spec, outputs),
    outputsOf(environment),
  );
  const { steps: forSteps, images: forImages } = settings;
  const [one] = [forSteps, forImages].flatMap((part) => ("settings" in part ? part.settings.region : []));
  if (one === undefined) return undefined;
  return {
    environment,
    region: one,
    settings,
    vcpus: steps === "ecs" ? await stepVcpus(dir, branch ?? (await currentBranch(dir)) ?? "main") : 0,
  };
}

type Outputs = Record<string, unknown>;

async function withOutputs<T>(
  { infra }: EnvironmentSpec,
  make: (outputs: Outputs) => T,
  readOutputs: () => Promise<Outputs>,
): Promise<T> {
  try {
    return make({});
  } catch (error) {
    if (infra === undefined || !hasCode(error, "AWS_SETTINGS_INVALID")) throw error;
    return make(await readOutputs());
  }
}

function chosenEnvironment({ app, environments }: AppSpec, wanted: string | undefined): string {
  if (wanted !== undefined) return wanted;
  const onEcs = Object.keys(environments).filter((name) => environments[name]?.runtime === "ecs");
  const [only] = onEcs;
  if (only !== undefined && onEcs.length === 1) return only;
  throw fail("USAGE", {
    message:
      only === undefined
        ? `No environment of ${app} runs on ECS.`
        : `Which environment of ${app}? On ECS run ${onEcs.join(", ")}.`,
    hint:
      only === undefined
        ? `Write \`runtime: ecs\` at one in ${SPEC_FILE} (docs/aws.md).`
        : `Name it: \`--env ${only}\``,
  });
}

/** Lists, maps and truths come as JSON, text as it is. */
function outputValue(text: string): unknown {
  if (!/^(\[.*\]|\{.*\}|true|false|null)$/s.test(text)) return text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
