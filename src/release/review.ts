import type { Review } from "../events/event.ts";
import type { Place } from "../rollout/release.ts";
import type { Repositories } from "../source/repositories.ts";
import type { Database } from "../store/open-store.ts";
import type { RecordedImage } from "../store/schema.ts";
import { findRule } from "./gate.ts";
import { findRelease, getRelease } from "./releases.ts";
import { type ReleaseRecord, resolveRelease } from "./resolve-release.ts";

export type ReviewDeps = { db: Database; repositories: Pick<Repositories, "git" | "dirOf"> };

/** So many commits are named: a message to a chat has to be read. */
const SHOWN_COMMITS = 20;
/** How far back a release of the same bytes is looked for. */
const COMPARED_RELEASES = 200;

/** What those who are to approve a release in an environment have to know; nothing where nobody has to. */
export async function findReview(deps: ReviewDeps, place: Place, release: number): Promise<{ review?: Review }> {
  if ((await findRule(deps.db, place, release)) === undefined) return {};
  return { review: await reviewOf(deps, place, release) };
}

/** What a release would change in an environment as it is now, and where its bytes ran before. */
export async function reviewOf(deps: ReviewDeps, place: Place, release: number): Promise<Review> {
  const { db } = deps;
  const record = await getRelease(db, place.app, release);
  const environments = await db
    .selectFrom("environments")
    .select(["name", "live_release"])
    .where("app", "=", place.app)
    .execute();
  const from = environments.find(({ name }) => name === place.environment)?.live_release ?? null;
  const live = from === null ? undefined : await findRelease(db, place.app, from);
  return {
    from,
    ...(await changesBetween(deps, live, record)),
    ranIn: await ranBefore(db, place, record, (environment, number) =>
      environments.some((row) => row.name === environment && row.live_release === number),
    ),
  };
}

async function changesBetween(
  { repositories: { git, dirOf } }: ReviewDeps,
  live: ReleaseRecord | undefined,
  { app, commit }: ReleaseRecord,
): Promise<Pick<Review, "commits" | "more" | "takesBack">> {
  // 128: the repository has one of them no more, after a push that rewrote its history.
  const read = async (...args: string[]) =>
    (await git.run([`--git-dir=${dirOf(app)}`, ...args], { okExitCodes: [0, 128] })).stdout.toString("utf8").trim();
  const count = async (range: string) => Number((await read("rev-list", "--count", range)) || 0);
  const range = live === undefined ? commit : `${live.commit}..${commit}`;
  const shown = live === undefined ? 1 : SHOWN_COMMITS;
  const lines = (await read("log", `--max-count=${shown}`, "--format=%H%x00%s%x00%an", range)).split("\n");
  const commits = lines.filter(Boolean).map((line) => {
    const [id = "", subject = "", author = ""] = line.split("\0");
    return { commit: id, subject, author };
  });
  if (live === undefined) return { commits, more: 0, takesBack: 0 };
  return {
    commits,
    more: commits.length < shown ? 0 : (await count(range)) - commits.length,
    takesBack: await count(`${commit}..${live.commit}`),
  };
}

/** The last deployment in each other environment of this release, or of one with the same images: a tag makes a release of its own of what ran in staging. */
async function ranBefore(
  db: Database,
  { app, environment }: Place,
  record: ReleaseRecord,
  isLive: (environment: string, release: number) => boolean,
): Promise<Review["ranIn"]> {
  const releases = await db
    .selectFrom("releases")
    .select(["number", "images"])
    .where("app", "=", app)
    .orderBy("number", "desc")
    .limit(COMPARED_RELEASES)
    .execute();
  const same = releases.filter(({ images }) => bytesOf(images) === bytesOf(record.images)).map(({ number }) => number);
  const rows = await db
    .selectFrom("deployments")
    .selectAll()
    .distinctOn("environment")
    .where("app", "=", app)
    .where("environment", "!=", environment)
    .where("release", "in", [...same, record.number])
    .where("status", "in", ["succeeded", "failed"])
    .orderBy("environment")
    .orderBy("ended_at", "desc")
    .execute();
  return Promise.all(
    rows.map(async (row) => {
      const ran = await getRelease(db, app, row.release);
      const { verify } = resolveRelease(ran, row.environment).environmentSpec;
      // A rollback runs none.
      const verified = row.status === "succeeded" && row.kind === "deploy" ? verify.length : 0;
      return {
        environment: row.environment,
        release: row.release,
        status: row.status === "succeeded" ? ("succeeded" as const) : ("failed" as const),
        verified,
        isLive: isLive(row.environment, row.release),
        addresses: row.addresses,
        at: (row.ended_at ?? row.created_at).toISOString(),
      };
    }),
  );
}

const bytesOf = (images: readonly RecordedImage[]) =>
  JSON.stringify(images.map(({ service, digest }) => [service, digest]).sort());
