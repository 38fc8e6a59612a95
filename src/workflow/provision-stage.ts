import type { Sealer } from "../environment/sealing.ts";
import type { Staged } from "../flow.ts";
import { isBeingDestroyed } from "../infra/ask-destroy.ts";
import { type AskDeps, codeOf, inputsOf, problemOf } from "../infra/ask-run.ts";
import { findOutputs, outputVariables } from "../infra/outputs.ts";
import { getRun, type InfraRun, lockEnvironment, requestRun, type StartedRun } from "../infra/runs.ts";
import { type Deployment, isCancelRequested } from "../release/deployments.ts";
import { releaseDigest } from "../release/gate.ts";
import { getRelease } from "../release/releases.ts";
import { type ReleaseRecord, resolveRelease } from "../release/resolve-release.ts";
import { errorCode, type Problem, toProblem } from "../shared/errors.ts";
import { sleep } from "../shared/until.ts";
import { isOutage } from "../store/outage.ts";
import type { DurableStep, Logger } from "./durable.ts";

export type ProvisionDeps = AskDeps & {
  sealer: Sealer;
  startInfra(run: StartedRun): Promise<void>;
  log: Logger;
};

const LOOK_EVERY_MS = 100;

/**
 * Brings an environment's infrastructure to the release's commit before anything else is touched, and proves that its outputs are there.
 * Code in a repository of its own is that of its ref now; when that cannot be asked, nobody can say whether the infrastructure is the one the release needs, and
 * the deployment stops before anything is touched. Skipped when neither code nor inputs differ from what was applied, and by a rollback: going back must not wait
 * for Terraform. What was destroyed, or is being, is made anew; by a rollback, too, where nothing serves.
 */
export async function provision(deps: ProvisionDeps, deployment: Deployment, step: DurableStep): Promise<Staged<null>> {
  const place = { app: deployment.app, environment: deployment.environment };
  const { release, infra } = await specOf(deps, deployment);
  if (isOther(release, deployment)) return { ok: false, problem: notApproved(deployment) };
  const isRollback = deployment.kind === "rollback";
  if (infra === undefined || (isRollback && deployment.from_release !== null)) return DONE;
  const asked = await step("infra-ask", () =>
    caught(deps, async () => {
      const code = await codeOf(deps, place, infra, { commit: release.commit, refName: release.refName });
      const inputs = await inputsOf(deps, place, code.commit, infra);
      return deps.db.transaction().execute(async (tx) => {
        const { applied_inputs: applied } = await lockEnvironment(tx, place);
        const isThere = isRollback ? applied !== null : applied === inputs;
        if (isThere && !(await isBeingDestroyed(tx, place))) return { runId: null, start: null };
        const { actor, delivery_id: deliveryId } = deployment;
        const asked = await requestRun(tx, {
          ...place,
          kind: "apply",
          ...code,
          actor,
          deliveryId,
          spec: infra,
          inputs,
        });
        return { runId: asked.id, start: asked.start ?? null };
      });
    }),
  );
  if (!asked.ok) return asked;
  const { runId, start } = asked.value;
  if (start !== null) await deps.startInfra(start);
  const ran =
    runId === null
      ? DONE
      : await step("infra-await", () => caught(deps, () => awaitRun(deps, runId, deployment.id)).then(flat));
  if (!ran.ok) return ran;
  return step("infra-outputs", () =>
    caught(deps, async () => {
      outputVariables(place, infra.outputs, await findOutputs(deps.db, deps.sealer, place));
      return null;
    }),
  );
}

const DONE: Staged<null> = { ok: true, value: null };

/** What was approved is a release by its digest: should its record have been changed since, nobody approved that. */
const isOther = (release: ReleaseRecord, { approval }: Deployment) =>
  approval !== null && approval.digest !== releaseDigest(release);

const notApproved = ({ id, release, approval }: Deployment): Problem => ({
  code: "APPROVAL_REFUSED",
  message: `The record of r${release} is not the one that was approved for ${id} (${approval?.digest}).`,
  hint: "Somebody changed it in the database. Push the commit again.",
});

async function specOf({ db }: ProvisionDeps, deployment: Deployment) {
  const release = await getRelease(db, deployment.app, deployment.release);
  return { release, infra: resolveRelease(release, deployment.environment).environmentSpec.infra };
}

async function awaitRun({ db }: ProvisionDeps, runId: string, deploymentId: string): Promise<Staged<null>> {
  for (;;) {
    const run = await getRun(db, runId);
    if (run.status === "succeeded") return DONE;
    if (hasStopped(run)) return { ok: false, problem: problemOf(run) };
    if (await isCancelRequested(db, deploymentId)) {
      return {
        ok: false,
        problem: {
          code: "CANCELED",
          message: `The deployment was canceled; infra run ${runId} goes on to its end by itself.`,
          hint: `Stop it as well: \`shipway infra cancel ${runId}\`. Others may wait for what it does, so it is not stopped with one deployment.`,
        },
      };
    }
    await sleep(LOOK_EVERY_MS);
  }
}

const hasStopped = ({ status }: InfraRun) => status !== "running" && status !== "queued";

const flat = <T>(outer: Staged<Staged<T>>): Staged<T> => (outer.ok ? outer.value : outer);

async function caught<T>(deps: ProvisionDeps, work: () => Promise<T>): Promise<Staged<T>> {
  try {
    return { ok: true, value: await work() };
  } catch (error) {
    // The step begins again: asking and awaiting find the run that is there.
    if (isOutage(error)) throw error;
    if (errorCode(error) === undefined) deps.log.error({ err: error }, "the infra stage of a deployment broke");
    return { ok: false, problem: toProblem(error) };
  }
}
