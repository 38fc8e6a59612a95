import { sql } from "kysely";
import type { Place, Release } from "../rollout/release.ts";
import { parseRuntime, type RuntimeSettings, runtimeKey } from "../rollout/runtime.ts";
import type { Database } from "../store/open-store.ts";
import { keptReleases } from "./releases.ts";

const DOCKER: RuntimeSettings = { kind: "docker" };

/** Where an environment is and was. One that never was anywhere else is on Docker. */
export async function runtimesOf(
  db: Database,
  { app, environment }: Place,
): Promise<{ current: RuntimeSettings; all: RuntimeSettings[] }> {
  const rows = await db
    .selectFrom("runtimes")
    .select(["settings", "is_current"])
    .where("app", "=", app)
    .where("environment", "=", environment)
    .execute();
  const current = rows.find((row) => row.is_current);
  const all = [DOCKER, ...rows.map((row) => parseRuntime(row.settings))];
  return { current: current ? parseRuntime(current.settings) : DOCKER, all };
}

/** Where every environment is now, read at once. */
export async function currentRuntimes(db: Database): Promise<(place: Place) => RuntimeSettings> {
  const rows = await db
    .selectFrom("runtimes")
    .select(["app", "environment", "settings"])
    .where("is_current", "=", true)
    .execute();
  const byPlace = new Map(rows.map((row) => [`${row.app}/${row.environment}`, parseRuntime(row.settings)]));
  return ({ app, environment }) => byPlace.get(`${app}/${environment}`) ?? DOCKER;
}

/** Before anything is made there, so that removing the environment finds it, whatever comes of the deployment. */
export async function recordRuntime(
  db: Database,
  { app, environment }: Place,
  runtime: RuntimeSettings,
): Promise<void> {
  if (runtime.kind === "docker") return;
  const settings = JSON.stringify(runtime);
  await db
    .insertInto("runtimes")
    .values({ app, environment, key: runtimeKey(runtime), settings, is_current: false })
    .onConflict((conflict) => conflict.columns(["app", "environment", "key"]).doUpdateSet({ settings }))
    .execute();
}

/** The environment is on this runtime from now on; what is on another is left as it is. */
export async function moveTo(db: Database, { app, environment }: Place, runtime: RuntimeSettings): Promise<void> {
  await db
    .updateTable("runtimes")
    .set({ is_current: sql<boolean>`key = ${runtimeKey(runtime)}` })
    .where("app", "=", app)
    .where("environment", "=", environment)
    .execute();
}

/**
 * The account and Region that an image was pushed to, and for which machines where that is not the usual kind: of one for several kinds only the tasks' own is
 * there. Undefined where tasks are started from the engine's own images.
 */
export function registryKey(runtime: RuntimeSettings): string | undefined {
  if (runtime.kind === "docker") return undefined;
  // arn:aws:elasticloadbalancing:REGION:ACCOUNT:…
  const [, , , region, account] = runtime.settings.listener.split(":");
  return runtime.settings.architecture === "arm64" ? `${account}.${region}.arm64` : `${account}.${region}`;
}

/** References in the runtime's registry, by the engine's content id. */
async function publishedAt(db: Database, app: string, registry: string): Promise<Map<string, string>> {
  const rows = await db
    .selectFrom("published_images")
    .select(["service", "digest", "reference"])
    .where("app", "=", app)
    .where("registry", "=", registry)
    .execute();
  return new Map(rows.map((row) => [`${row.service} ${row.digest}`, row.reference]));
}

/** The release as its runtime can start it: with the references that its images were pushed as. */
export async function publishedRelease(db: Database, release: Release, runtime: RuntimeSettings): Promise<Release> {
  const registry = registryKey(runtime);
  if (registry === undefined) return release;
  const published = await publishedAt(db, release.app, registry);
  const services = release.services.map((service) => {
    const reference = published.get(`${service.name} ${service.image}`);
    return reference === undefined ? service : { ...service, image: reference };
  });
  return { ...release, services };
}

/** The services whose images were not pushed yet. */
export async function unpublished(
  db: Database,
  release: Release,
  registry: string,
): Promise<{ service: string; digest: string }[]> {
  const published = await publishedAt(db, release.app, registry);
  return release.services
    .map(({ name, image }) => ({ service: name, digest: image }))
    .filter(({ service, digest }) => !published.has(`${service} ${digest}`));
}

export async function recordPublished(
  db: Database,
  image: { app: string; service: string; digest: string; registry: string; reference: string },
): Promise<void> {
  const { reference } = image;
  await db
    .insertInto("published_images")
    .values(image)
    .onConflict((conflict) => conflict.columns(["app", "service", "digest", "registry"]).doUpdateSet({ reference }))
    .execute();
}

/** Registries (`ACCOUNT.REGION`) that images of the app may be in. */
export async function registriesOf(db: Database, app: string): Promise<string[]> {
  const [published, runtimes] = await Promise.all([
    db.selectFrom("published_images").select("registry").distinct().where("app", "=", app).execute(),
    db.selectFrom("runtimes").select("settings").where("app", "=", app).execute(),
  ]);
  const used = runtimes.map((row) => registryKey(parseRuntime(row.settings)));
  return [...new Set([...published.map((row) => row.registry), ...used])].filter((one) => one !== undefined);
}

/**
 * Forgets where images are that only releases outside of retention need, before they are removed there: a deployment that is asked for from now on pushes
 * such an image anew, or says that it is gone. @returns the digests that are kept
 */
export async function forgetPublished(db: Database, app: string): Promise<string[]> {
  const digests = async () => (await keptReleases(db, app)).flatMap(({ images }) => images.map(({ digest }) => digest));
  const kept = await digests();
  let others = db.deleteFrom("published_images").where("app", "=", app);
  if (kept.length > 0) others = others.where("digest", "not in", kept);
  await others.execute();
  // Asked again: a deployment that began meanwhile may have read what is forgotten now.
  return await digests();
}
