import pLimit from "p-limit";
import { assertNever } from "../shared/assert-never.ts";
import type { LogSink } from "../shared/log-line.ts";
import type { BuildFailure, BuildOutcome, BuiltImage, ImageBuilder, ImagePlan } from "./builder.ts";

/** What happens to one image, in order: `started`, then one of the others. Plain JSON. */
export type ImageEvent =
  | { kind: "started"; service: string; name: string }
  | { kind: "reused"; service: string; name: string; digest: string }
  | { kind: "built"; service: string; name: string; digest: string; durationMs: number }
  | { kind: "failed"; service: string; name: string; failure: BuildFailure };

export type BuildImagesOutcome =
  | { status: "built"; images: BuiltImage[] }
  | { status: "failed"; failures: BuildFailure[] };

export type BuildImagesDeps = {
  logFor(service: string): LogSink;
  onEvent(event: ImageEvent): void;
  signal?: AbortSignal;
  /** How many builds run side by side. */
  atOnce?: number;
};

/**
 * Builds every plan, some side by side, and returns the images in the order of the plans, or every failure. A build that fails lets the others end, so that one push shows all of it.
 * An error (no engine, no space) stops the others and rejects.
 */
export async function buildImages(
  plans: ImagePlan[],
  builder: ImageBuilder,
  deps: BuildImagesDeps,
): Promise<BuildImagesOutcome> {
  const limit = pLimit(deps.atOnce ?? 2);
  const stop = new AbortController();
  const signal = deps.signal ? AbortSignal.any([deps.signal, stop.signal]) : stop.signal;
  const groups = groupBySource(plans);
  const building = groups.map((group) => limit(() => buildGroup(group, builder, { ...deps, signal })));
  // Wait for all, also when one broke: a build that goes on behind the caller's back would write to a log that is closed.
  const settled = await Promise.allSettled(
    building.map((group) =>
      group.catch((error) => {
        stop.abort(error);
        throw error;
      }),
    ),
  );
  deps.signal?.throwIfAborted();
  if (stop.signal.aborted) throw stop.signal.reason;
  const outcomes = settled.flatMap((group) => (group.status === "fulfilled" ? group.value : []));
  const failures = outcomes.flatMap((outcome) => (outcome.status === "failed" ? [outcome.failure] : []));
  if (failures.length > 0) return { status: "failed", failures };
  const images = outcomes.flatMap((outcome) => (outcome.status === "built" ? [outcome.image] : []));
  return { status: "built", images: plans.flatMap(({ name }) => images.find((image) => image.name === name) ?? []) };
}

/** Services that are built from the same content go one after the other: the second comes from the cache. */
function groupBySource(plans: ImagePlan[]): ImagePlan[][] {
  const groups = new Map<string, ImagePlan[]>();
  for (const plan of plans) {
    const source = plan.name.slice(plan.name.lastIndexOf(":") + 1);
    groups.set(source, [...(groups.get(source) ?? []), plan]);
  }
  return [...groups.values()];
}

async function buildGroup(group: ImagePlan[], builder: ImageBuilder, deps: BuildImagesDeps): Promise<BuildOutcome[]> {
  const outcomes: BuildOutcome[] = [];
  for (const plan of group) {
    const { service, name } = plan;
    deps.onEvent({ kind: "started", service, name });
    const outcome = await builder.build(plan, deps.logFor(service), deps.signal);
    outcomes.push(outcome);
    deps.onEvent(toEvent(plan, outcome));
  }
  return outcomes;
}

function toEvent({ service, name }: ImagePlan, outcome: BuildOutcome): ImageEvent {
  switch (outcome.status) {
    case "failed":
      return { kind: "failed", service, name, failure: outcome.failure };
    case "built": {
      const { digest, reused, durationMs } = outcome.image;
      return reused ? { kind: "reused", service, name, digest } : { kind: "built", service, name, digest, durationMs };
    }
    default:
      return assertNever(outcome);
  }
}
