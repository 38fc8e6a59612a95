import { formatDurationMs } from "../../../shared/duration.ts";
import { fail } from "../../../shared/errors.ts";
import { sleep } from "../../../shared/until.ts";
import type { Verdict } from "./judge.ts";
import { lastLinesOf } from "./service-failed.ts";
import type { StepRun } from "./step-run.ts";
import { COLLECT, SETUP, STEP, serviceContainer } from "./task-definition.ts";

/** Which image it is, as the pipeline names it. ECS tells it by the container, or only in its text. */
export function imageUnavailable(run: StepRun, { container, why }: Extract<Verdict, { kind: "noImage" }>) {
  const { step, settings } = run;
  const images = [
    { container: STEP, image: step.image },
    ...step.services.map(({ name, image }) => ({ container: serviceContainer(name), image })),
    { container: SETUP, image: settings.toolImage },
    { container: COLLECT, image: settings.toolImage },
  ];
  const nameOf = (image: string) => image.slice(image.lastIndexOf("/") + 1);
  const found =
    images.find((one) => one.container === container) ?? images.find(({ image }) => why.includes(nameOf(image)));
  const image = found?.image ?? step.image;
  const isOurs = image === settings.toolImage && image !== step.image;
  return fail("IMAGE_UNAVAILABLE", {
    message: `Fargate cannot pull the image ${image}: ${why}`,
    hint: isOurs
      ? "It brings steps their files. Name one that the subnets can reach with `aws: { toolImage: … }` of the environment in shipway.yml."
      : "Check its name and tag, that the subnets reach its registry, and that it is there for the architecture of the tasks. A private registry needs `username` and `password`; one in ECR, that the execution role may pull from it.",
  });
}

const SHOWN_LINES = 5;

/** Nothing of the user's ran. */
export async function notSetUp(run: StepRun, arn: string, why: string) {
  const said = await lastLinesOf(run, SETUP, arn, SHOWN_LINES);
  const told = said.length === 0 ? "" : `: ${said.join(" / ")}`;
  return fail("AWS_TASK_FAILED", {
    message: `The task for step "${run.step.name}" could not be set up: ${why}${told}`,
    hint: "Usually the subnets do not reach S3, CloudWatch Logs or the registry (NAT, public address or VPC endpoints): `shipway doctor aws` looks.",
  });
}

/** How long Fargate is asked again for a place: nothing is running meanwhile. */
export function newPatience({ now, options, remark, times }: StepRun) {
  const startedAt = now();
  let pauses = 0;
  return {
    /** Returns also when the step is canceled meanwhile. @throws AWS_CAPACITY, AWS_QUOTA when there was none for too long */
    async pause(why: string): Promise<void> {
      if (now() - startedAt >= times.capacityMs) throw noPlace(why, now() - startedAt);
      // Full jitter: many steps that wait must not all come back in the same moment.
      const bound = Math.min(times.longestPauseMs, times.firstPauseMs * 2 ** pauses++);
      const pauseMs = bound * (0.5 + Math.random() / 2);
      remark(`Fargate has no place for the task (${why}): trying again in ${formatDurationMs(pauseMs)}`);
      await sleep(pauseMs, options.signal).catch(() => undefined);
    },
  };
}

function noPlace(why: string, waitedMs: number) {
  const message = `Fargate had no place for the step within ${formatDurationMs(waitedMs)}: ${why}`;
  if (/limit on the number of vCPUs|quota/i.test(why)) {
    return fail("AWS_QUOTA", {
      message,
      hint: "Ask for more Fargate vCPUs in the Service Quotas console (Fargate On-Demand vCPU resource count), or run fewer steps side by side.",
    });
  }
  return fail("AWS_CAPACITY", {
    message,
    hint: "AWS has no Fargate capacity in these subnets now; wait a few minutes, or add subnets in other zones.",
  });
}
