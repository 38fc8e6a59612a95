import type { EcrRegistry } from "../ecr-registry.ts";
import { deleteTags, isOurs, repositoriesUnder, tagsIn } from "../ecr-repositories.ts";

/** Tags of images that are built here. Others in the same repository were pushed by a Docker Engine, or by somebody else. */
const BUILT_TAG = /^[0-9a-f]{20}$/;

/** Removes images of the app that were built in CodeBuild and are not to be kept. @returns their names */
export async function pruneImages(
  { ecr, install, namespace }: { ecr: EcrRegistry; install: string; namespace: string },
  app: string,
  keep: readonly string[],
): Promise<string[]> {
  const kept = new Set(keep);
  const removed: string[] = [];
  for (const { repository, rest: service } of await repositoriesUnder(ecr, `shipway/${install}/${app}/`)) {
    // What is below a service's is the cache of its builds.
    if (service.includes("/")) continue;
    const nameOf = (tag: string) => `${namespace}/${app}/${service}:${tag}`;
    const gone = (await tagsIn(ecr, repository)).filter((tag) => BUILT_TAG.test(tag) && !kept.has(nameOf(tag)));
    if (gone.length === 0 || !(await isOurs(ecr, repository, app))) continue;
    await deleteTags(ecr, repository, gone);
    removed.push(...gone.map(nameOf));
  }
  return removed;
}
