import { createHash } from "node:crypto";
import { fail } from "../../shared/errors.ts";
import type { LogSink } from "../../shared/log-line.ts";
import type { BuildOutcome, ImageBuilder, ImagePlan } from "../builder.ts";
import { shareInFlight } from "./share-in-flight.ts";

/** What the memory driver is told to do, by the plan's target or the name of an image. */
export const BROKEN_TARGET = "broken";
export const SLOW_TARGET = "slow";
export const MISSING_PREFIX = "missing/";

/**
 * An image builder without an engine. A plan with target `broken` fails in line 3, one with target `slow` builds until it is aborted, an image `missing/…` cannot be fetched;
 * everything else is built at once.
 */
export function memoryBuilder(options: { now?: () => number } = {}): ImageBuilder & { names(): string[] } {
  const { now = Date.now } = options;
  const images = new Map<string, { app: string; digest: string }>();
  const share = shareInFlight<BuildOutcome>();

  const buildNow = async (plan: ImagePlan, log: LogSink, signal: AbortSignal): Promise<BuildOutcome> => {
    const existing = images.get(plan.name);
    if (existing) return built(plan, existing.digest, true);
    log([{ at: now(), stream: "meta", text: "[1/1] RUN build" }]);
    if (plan.target === SLOW_TARGET) await aborted(signal);
    log([{ at: now(), stream: "out", text: "compiling" }]);
    if (plan.target === BROKEN_TARGET) return broken(plan);
    const digest = digestOf(plan.name);
    images.set(plan.name, { app: plan.app, digest });
    return built(plan, digest, false);
  };

  return {
    names: () => [...images.keys()],
    build: (plan, log, signal) => share(plan.name, log, signal, (all, stop) => buildNow(plan, all, stop)),
    async fetch(reference) {
      if (!reference.startsWith(MISSING_PREFIX)) return { digest: digestOf(reference) };
      throw fail("IMAGE_UNAVAILABLE", { message: `The image ${reference} cannot be pulled: not found` });
    },
    async prune(app, keep) {
      const gone = [...images]
        .filter(([name, image]) => image.app === app && !keep.includes(name))
        .map(([name]) => name);
      for (const name of gone) images.delete(name);
      return gone;
    },
  };
}

function built(plan: ImagePlan, digest: string, reused: boolean): BuildOutcome {
  return {
    status: "built",
    image: { service: plan.service, name: plan.name, digest, reused, durationMs: 0, exposedPorts: [] },
  };
}

function broken({ service, name, dockerfile }: ImagePlan): BuildOutcome {
  const message = `${dockerfile}:3: RUN build ended with exit code 1`;
  return { status: "failed", failure: { service, name, message, dockerfileLine: 3, lastLines: ["compiling"] } };
}

function digestOf(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
}
