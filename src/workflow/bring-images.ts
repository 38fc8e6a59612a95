import type { ImagePublisher } from "../image/publisher.ts";
import { isAtHome, publishedRelease, recordPublished, unpublished } from "../release/runtimes.ts";
import type { PhaseTime, RolloutEvent } from "../rollout/outcome.ts";
import type { Release } from "../rollout/release.ts";
import type { RuntimeSettings } from "../rollout/runtime.ts";
import { formatDurationMs } from "../shared/duration.ts";
import type { LogSink } from "../shared/log-line.ts";
import type { Database } from "../store/open-store.ts";
import type { DurableStep } from "./durable.ts";

export type Bringing = {
  db: Database;
  /** Undefined where images need not be brought, or cannot be. */
  publisher: Pick<ImagePublisher, "publish"> | undefined;
  /** What images are called in the release, by service. */
  names: ReadonlyMap<string, string>;
  step: DurableStep;
  log: LogSink;
  emit(event: RolloutEvent): Promise<void>;
};

/** A layer over a slow line takes minutes, and nobody should wonder whether it hangs. */
const QUIET_MS = 10_000;

/**
 * Images are brought to where tasks fetch them once, in a step of its own; what an engine has built itself is there.
 * @returns the release as the runtime can start it, and how long that took where something was brought
 */
export async function bringImages(
  { db, publisher, names, step, log, emit }: Bringing,
  release: Release,
  runtime: RuntimeSettings,
): Promise<{ release: Release; phases: PhaseTime[] }> {
  // By the release alone, which never changes: a workflow that is repeated has to meet the same steps.
  if (publisher === undefined || isAtHome(release, runtime)) return { release, phases: [] };
  const took = await step("publish-images", async () => {
    const { app } = release;
    const images = await unpublished(db, release, runtime);
    const startedAt = Date.now();
    let isTold = false;
    for (const { service, digest, isNew } of images) {
      const doing = `${runtime.kind === "docker" ? "pulling" : "pushing"} the image of ${service}`;
      if (isNew) await emit({ kind: "phase-started", phase: "images", detail: doing });
      isTold ||= isNew;
      const name = names.get(service);
      const reference = await tellingQuiet(doing, { log, emit }, (tellingLog) =>
        publisher.publish({ app, service, digest, ...(name !== undefined && { name }) }, tellingLog),
      );
      await recordPublished(db, { app, service, digest, reference }, runtime);
    }
    if (!isTold) return null;
    const durationMs = Date.now() - startedAt;
    await emit({ kind: "phase-ended", phase: "images", result: "ok", durationMs });
    return { durationMs };
  });
  return {
    release: await publishedRelease(db, release, runtime),
    phases: took === null ? [] : [{ name: "images", durationMs: took.durationMs }],
  };
}

/** Does what may take long, and says now and then how far it is: with the last line of its log. */
async function tellingQuiet<T>(
  doing: string,
  { log, emit }: Pick<Bringing, "log" | "emit">,
  work: (log: LogSink) => Promise<T>,
): Promise<T> {
  let last = "";
  let forMs = 0;
  const timer = setInterval(() => {
    forMs += QUIET_MS;
    const detail = `${doing} for ${formatDurationMs(forMs)}${last === "" ? "" : `: ${last}`}`;
    emit({ kind: "waiting", phase: "images", forMs, detail }).catch(() => undefined);
  }, QUIET_MS);
  try {
    return await work((lines) => {
      last = lines.at(-1)?.text ?? last;
      log(lines);
    });
  } finally {
    clearInterval(timer);
  }
}
