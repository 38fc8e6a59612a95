import type { CiOutcome } from "./ci/outcome.ts";
import type { DeliveredChange, Stop } from "./release/deliveries.ts";
import type { Deployment, DeploymentResult } from "./release/deployments.ts";
import type { Problem } from "./shared/errors.ts";
import type { AppSpec } from "./spec/app-spec.ts";
import type { RecordedImage } from "./store/schema.ts";

/** A stage either did its work, or the user has something to mend. */
export type Staged<T> = { ok: true; value: T } | { ok: false; problem: Problem };

/**
 * What the flow is made of. Each is a durable step (or walks several): its result is kept, so a restart goes on behind it,
 * and each looks first whether its effect is already there, since a step that was cut off runs again.
 */
export type Stages = {
  openDelivery(changeId: string): Promise<DeliveredChange>;
  /** `shipway.yml` at the commit, and the environments this ref deploys to. */
  readSpec(change: DeliveredChange): Promise<Staged<{ spec: AppSpec; environments: string[] }>>;
  runCi(change: DeliveredChange, spec: AppSpec): Promise<Staged<CiOutcome>>;
  /** Names every image by its content and builds those that are not there. */
  buildImages(change: DeliveredChange, spec: AppSpec): Promise<Staged<RecordedImage[]>>;
  recordRelease(change: DeliveredChange, spec: AppSpec, images: RecordedImage[]): Promise<number>;
  /** Hands the release to each environment; from here every environment goes its own way (`deploy`). */
  requestDeployments(change: DeliveredChange, release: number, environments: string[]): Promise<void>;
  endDelivery(change: DeliveredChange, stop: Stop): Promise<void>;

  openDeployment(deploymentId: string): Promise<Deployment>;
  /** The environment's Terraform, when its code or inputs changed since it was applied. Nothing runs on it yet. */
  provision(deployment: Deployment): Promise<Staged<null>>;
  /** Tasks start, prove themselves, get the traffic, are watched; or all of it is undone. */
  rollOut(deployment: Deployment): Promise<DeploymentResult>;
  endDeployment(deployment: Deployment, result: DeploymentResult): Promise<void>;
  /** What a deployment is that ended before any task was started. */
  stoppedAt(deployment: Deployment, phase: "infra", problem: Problem): DeploymentResult;
};

/** From a change that arrived to deployments that were asked for. */
export async function deliver(changeId: string, stages: Stages): Promise<void> {
  const change = await stages.openDelivery(changeId);
  const read = await stages.readSpec(change);
  if (!read.ok) return stages.endDelivery(change, { at: "spec", problem: read.problem });
  const { spec, environments } = read.value;

  // Tests and builds do not depend on each other. Images are named by content, so a build whose tests fail is not lost.
  const [ci, images] = await Promise.all([
    stages.runCi(change, spec),
    environments.length > 0 ? stages.buildImages(change, spec) : nothingBuilt,
  ]);
  if (!ci.ok) return stages.endDelivery(change, { at: "ci", problem: ci.problem });
  if (!images.ok) return stages.endDelivery(change, { at: "images", problem: images.problem });
  if (environments.length === 0) return stages.endDelivery(change, { nothingToDeploy: true });

  const release = await stages.recordRelease(change, spec, images.value);
  await stages.requestDeployments(change, release, environments);
}

const nothingBuilt: Staged<RecordedImage[]> = { ok: true, value: [] };

/** One attempt to put a release into an environment. A rollback is the same flow towards an earlier release. */
export async function deploy(
  deploymentId: string,
  stages: Pick<Stages, "openDeployment" | "provision" | "rollOut" | "endDeployment" | "stoppedAt">,
): Promise<void> {
  const deployment = await stages.openDeployment(deploymentId);
  const infra = await stages.provision(deployment);
  const result = infra.ok ? await stages.rollOut(deployment) : stages.stoppedAt(deployment, "infra", infra.problem);
  await stages.endDeployment(deployment, result);
}
