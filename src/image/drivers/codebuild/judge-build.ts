import { fail, type ShipwayError } from "../../../shared/errors.ts";
import type { BuildFailure, ImagePlan } from "../../builder.ts";
import { judgeBuildEnd, type MachineHints } from "../build-failure.ts";
import type { FailedStep } from "../build-progress.ts";
import type { BuildEnding } from "./build-log.ts";

/** A build as CodeBuild has it, as far as it decides anything. */
export type BuildState = {
  id: string;
  status: string;
  phase: string;
  isComplete: boolean;
  timeoutMinutes: number;
  /** What CodeBuild says of phases that went wrong. */
  problems: string[];
};

/** All that is known of a build that left no image. */
export type BuildLeft = {
  plan: ImagePlan;
  dockerfile: string;
  /** What its script said last; undefined when it never came so far. */
  ending: BuildEnding | undefined;
  step: FailedStep | undefined;
  state: BuildState;
  /** The last lines of the image's build, and of CodeBuild itself. */
  lastLines: string[];
  lastOfCodeBuild: readonly string[];
};

const IN_CODEBUILD: MachineHints = {
  absent: "and its registry does not answer CodeBuild",
  space:
    "Give the CodeBuild project a larger compute type: its disk grows with it (`build_compute_type` of terraform/aws-fargate).",
  frontend: "Remove the `# syntax=` line to build with BuildKit's own frontend, or let CodeBuild reach that registry.",
  network:
    "Push again. Docker Hub answers few requests from an address that many share: name base images by a registry of AWS, such as public.ecr.aws/docker/library/node:20.",
};

/** The user's Dockerfile failed, or took too long: a result. Whatever kept us from finding out: an error. */
export function judgeBuild(left: BuildLeft): BuildFailure | ShipwayError {
  const { plan, dockerfile, ending, step, state } = left;
  if (ending?.at === "build")
    return judgeBuildEnd({ plan, error: ending.error ?? "", step, dockerfile, hints: IN_CODEBUILD });
  if (ending?.at === "push") return pushFailed(left);
  if (ending?.at === "setup") return failed(left, ending.error ?? "", HINTS.setup);
  if (ending !== undefined)
    return failed(left, `the build ended well, and yet the registry does not have ${plan.name}`, HINTS.again);
  if (state.status === "TIMED_OUT") return tookTooLong(left);
  if (state.status === "STOPPED") return failed(left, "somebody stopped it in CodeBuild", HINTS.again);
  const said = state.problems.length > 0 ? state.problems : left.lastOfCodeBuild.slice(-3);
  return failed(left, said.join("; ") || `it ended as ${state.status}`, HINTS.project);
}

const HINTS = {
  again: "Push again.",
  setup:
    "The project needs an image with Docker, Python 3 and the AWS command line, privileged mode, and a role that may push: see docs/aws.md.",
  project: "Look at the build in the CodeBuild console, and compare the project with that of terraform/aws-fargate.",
};

function failed({ plan, state }: BuildLeft, why: string, hint: string): ShipwayError {
  return fail("CODEBUILD_FAILED", {
    message: `The image of ${plan.service} could not be built in CodeBuild (${state.id}): ${why}.`,
    hint,
  });
}

function pushFailed({ plan, ending, state }: BuildLeft): ShipwayError {
  return fail("IMAGE_PUSH_FAILED", {
    message: `The image of ${plan.service} was built in CodeBuild (${state.id}) and could not be pushed: ${ending?.error}`,
    hint: "Check that the role of the CodeBuild project may push to repositories below shipway/ (terraform/aws-fargate/policies/build.json), then push again.",
  });
}

function tookTooLong({ plan, state, lastLines }: BuildLeft): BuildFailure {
  const { service, name, dockerfile } = plan;
  const message = `${dockerfile}: the build did not end within ${state.timeoutMinutes} minutes, the limit of the CodeBuild project (\`build_timeout_minutes\` of terraform/aws-fargate)`;
  return { service, name, message, lastLines };
}
