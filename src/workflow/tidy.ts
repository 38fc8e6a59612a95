import { listEnvironments } from "../environment/environments.ts";
import type { Sealer } from "../environment/sealing.ts";
import type { ImageBuilder } from "../image/builder.ts";
import type { ImagePublisher } from "../image/publisher.ts";
import type { InfraCode } from "../infra/infra-code.ts";
import { openDeliveries } from "../release/deliveries.ts";
import { getRelease, imagesToKeep, keptReleases } from "../release/releases.ts";
import { resolveRelease } from "../release/resolve-release.ts";
import { currentRuntimes, forgetPublished, registriesOf } from "../release/runtimes.ts";
import type { RolloutTarget } from "../rollout/target.ts";
import { listInfraRepositories } from "../source/infra-repositories.ts";
import type { Repositories } from "../source/repositories.ts";
import type { CiSettings } from "../spec/ci-settings.ts";
import type { Database, Store } from "../store/open-store.ts";
import { findCiSettings } from "./ci-settings.ts";

export type TidyDeps = {
  store: Store;
  target: Pick<RolloutTarget, "tidy">;
  sealer: Sealer;
  /** By where images are built. */
  builderOf(images: CiSettings["images"]): Pick<ImageBuilder, "prune">;
  /** Where images were pushed to, by its name. */
  publisherAt(registry: string): Pick<ImagePublisher, "prune">;
  repositories: Repositories;
  code: Pick<InfraCode, "maintain">;
};

/** What nobody waits for: packing repositories, and what no release needs any more. What fails is reported, and keeps nothing else from being tidied. */
export async function tidy(deps: TidyDeps, signal: AbortSignal, report: (error: unknown) => void): Promise<void> {
  const { db } = deps.store;
  const attempt = async (work: () => Promise<unknown>) => {
    if (!signal.aborted) await work().catch(report);
  };
  await attempt(async () => {
    for (const { name } of await listInfraRepositories(db)) await deps.repositories.maintain(name);
  });
  const apps = await db
    .selectFrom("apps")
    .select("name")
    .execute()
    .catch((error: unknown) => {
      report(error);
      return [];
    });
  for (const { name } of apps) {
    await attempt(() => deps.repositories.maintain(name));
    await attempt(() => deps.code.maintain(name));
    await attempt(async () => {
      // An image that was just built belongs to no release yet.
      if ((await openDeliveries(db, name)).length > 0) return;
      await deps.builderOf({ kind: "docker" }).prune(name, await imagesToKeep(db, name));
      await pruneRegistries(deps, name);
      await pruneBuilds(deps, name);
    });
    await attempt(() => tidyEnvironments(deps, name, signal));
  }
}

async function pruneRegistries({ store, publisherAt }: TidyDeps, app: string): Promise<void> {
  const registries = await registriesOf(store.db, app);
  if (registries.length === 0) return;
  const kept = await forgetPublished(store.db, app);
  for (const registry of registries) await publisherAt(registry).prune(app, kept);
}

/** What was built away from this machine, by where the newest release that was says. */
async function pruneBuilds({ store: { db }, sealer, builderOf }: TidyDeps, app: string): Promise<void> {
  for (const { number } of await keptReleases(db, app)) {
    const { spec } = await getRelease(db, app, number);
    if ((spec.ci?.images ?? "docker") === "docker") continue;
    const { images } = await findCiSettings(db, sealer, spec);
    await builderOf(images).prune(app, await imagesToKeep(db, app));
    return;
  }
}

/** On Docker nothing is left of a release beside its image. */
async function tidyEnvironments({ store, target }: TidyDeps, app: string, signal: AbortSignal): Promise<void> {
  const runtimeOf = await currentRuntimes(store.db);
  for (const row of await listEnvironments(store.db, app)) {
    const place = { app, environment: row.name };
    if (
      signal.aborted ||
      row.running_deployment !== null ||
      row.stopped_at !== null ||
      runtimeOf(place).kind === "docker"
    )
      continue;
    await target.tidy(place, await keptIn(store.db, app, row.name), signal);
  }
}

async function keptIn(db: Database, app: string, environment: string) {
  const kept = await keptReleases(db, app);
  const records = await Promise.all(kept.map(({ number }) => getRelease(db, app, number)));
  return records.map((record) => resolveRelease(record, environment).release);
}
