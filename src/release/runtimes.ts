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
function registryKey(runtime: RuntimeSettings): string | undefined {
  if (runtime.kind === "docker") return undefined;
  // arn:aws:elasticloadbalancing:REGION:ACCOUNT:…
  const [, , , region, account] = runtime.settings.listener.split(":");
  return runtime.settings.architecture === "arm64" ? `${account}.${region}.arm64` : `${account}.${region}`;
}

/** In place of a registry's name: what is recorded there is in this server's engine, by its content id. */
const ENGINE = "engine";

const placeOf = (runtime: RuntimeSettings): string => registryKey(runtime) ?? ENGINE;

/** Whether an image was built elsewhere and is named by where it is, rather than by the engine's content id. */
const isElsewhere = (image: string): boolean => image.includes("@");

/** Whether the release's tasks start from what this server's engine has built itself: nothing has to be brought anywhere. */
export const isAtHome = (release: Release, runtime: RuntimeSettings): boolean =>
  runtime.kind === "docker" && !release.services.some(({ image }) => isElsewhere(image));

/** What tasks are started from there, by what a release names its images. */
async function publishedAt(db: Database, app: string, registry: string): Promise<Map<string, string>> {
  const rows = await db
    .selectFrom("published_images")
    .select(["service", "digest", "reference"])
    .where("app", "=", app)
    .where("registry", "=", registry)
    .execute();
  return new Map(rows.map((row) => [`${row.service} ${row.digest}`, row.reference]));
}

/** The release as its runtime can start it: with the references that its images were pushed as, or the ids of those that were pulled. */
export async function publishedRelease(db: Database, release: Release, runtime: RuntimeSettings): Promise<Release> {
  if (isAtHome(release, runtime)) return release;
  const published = await publishedAt(db, release.app, placeOf(runtime));
  const services = release.services.map((service) => {
    const reference = published.get(`${service.name} ${service.image}`);
    return reference === undefined ? service : { ...service, image: reference };
  });
  return { ...release, services };
}

/** The services whose images have to be brought to where the runtime's tasks fetch them; `isNew`: they never were. */
export async function unpublished(
  db: Database,
  release: Release,
  runtime: RuntimeSettings,
): Promise<{ service: string; digest: string; isNew: boolean }[]> {
  const published = await publishedAt(db, release.app, placeOf(runtime));
  const images = release.services.map(({ name, image }) => ({
    service: name,
    digest: image,
    isNew: !published.has(`${name} ${image}`),
  }));
  if (runtime.kind !== "docker") return images.filter(({ isNew }) => isNew);
  // An engine may have lost since what it had pulled: somebody made room.
  return images.filter(({ digest }) => isElsewhere(digest));
}

export async function recordPublished(
  db: Database,
  image: { app: string; service: string; digest: string; reference: string },
  runtime: RuntimeSettings,
): Promise<void> {
  const { reference } = image;
  await db
    .insertInto("published_images")
    .values({ ...image, registry: placeOf(runtime) })
    .onConflict((conflict) => conflict.columns(["app", "service", "digest", "registry"]).doUpdateSet({ reference }))
    .execute();
}

/** `ACCOUNT.REGION` of an image that Shipway put into ECR; undefined for what is anywhere else. */
function registryOf(reference: string | undefined): string | undefined {
  const [, account, region] =
    /^(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?\/shipway\//.exec(reference ?? "") ?? [];
  return account === undefined ? undefined : `${account}.${region}`;
}

/** Registries (`ACCOUNT.REGION`) that images of the app may be in. */
export async function registriesOf(db: Database, app: string): Promise<string[]> {
  const [published, runtimes, releases] = await Promise.all([
    db.selectFrom("published_images").select("registry").distinct().where("app", "=", app).execute(),
    db.selectFrom("runtimes").select("settings").where("app", "=", app).execute(),
    db.selectFrom("releases").select("images").where("app", "=", app).execute(),
  ]);
  const used = runtimes.map((row) => registryKey(parseRuntime(row.settings)));
  const built = releases.flatMap(({ images }) => images.map(({ reference }) => registryOf(reference)));
  const all = new Set([...published.map((row) => row.registry), ...used, ...built]);
  all.delete(ENGINE);
  return [...all].filter((one) => one !== undefined);
}

/**
 * Forgets where images are that only releases outside of retention need, before they are removed there: a deployment that is asked for from now on pushes
 * such an image anew, or says that it is gone. @returns the digests that are kept, or references where images are named by those
 */
export async function forgetPublished(db: Database, app: string): Promise<string[]> {
  const named = async () =>
    (await keptReleases(db, app)).flatMap(({ images }) => images.map(({ digest, reference }) => reference ?? digest));
  const kept = await named();
  let others = db.deleteFrom("published_images").where("app", "=", app);
  if (kept.length > 0) others = others.where("digest", "not in", kept);
  await others.execute();
  // Asked again: a deployment that began meanwhile may have read what is forgotten now.
  return await named();
}
