import { hasCode } from "../../../shared/errors.ts";
import type { EcrRegistry } from "../ecr-registry.ts";

/** BatchDeleteImage takes at most 100 (Amazon ECR API reference). */
const DELETED_A_CALL = 100;

/** Tags of images that are built here. Others in the same repository were pushed by a Docker Engine, or by somebody else. */
const BUILT_TAG = /^[0-9a-f]{20}$/;

/** Removes images of the app that were built in CodeBuild and are not to be kept. @returns their names */
export async function pruneImages(
  { ecr, install, namespace }: { ecr: EcrRegistry; install: string; namespace: string },
  app: string,
  keep: readonly string[],
): Promise<string[]> {
  const api = await ecr.client();
  const kept = new Set(keep);
  const removed: string[] = [];
  for (const { repository, service } of await repositoriesOf(ecr, `shipway/${install}/${app}/`)) {
    const tags = await builtTags(ecr, repository);
    const nameOf = (tag: string) => `${namespace}/${app}/${service}:${tag}`;
    const gone = tags.filter((tag) => !kept.has(nameOf(tag)));
    if (gone.length === 0 || !(await isOurs(ecr, repository, app))) continue;
    for (let at = 0; at < gone.length; at += DELETED_A_CALL) {
      const imageIds = gone.slice(at, at + DELETED_A_CALL).map((imageTag) => ({ imageTag }));
      await api.batchDeleteImage({ repositoryName: repository, imageIds });
      removed.push(...imageIds.map(({ imageTag }) => nameOf(imageTag)));
    }
  }
  return removed;
}

async function isOurs(ecr: EcrRegistry, repository: string, app: string): Promise<boolean> {
  try {
    await ecr.ensureRepository(repository, app);
    return true;
  } catch (error) {
    if (hasCode(error, "AWS_NAME_TAKEN")) return false;
    throw error;
  }
}

async function repositoriesOf(ecr: EcrRegistry, prefix: string): Promise<{ repository: string; service: string }[]> {
  const api = await ecr.client();
  const found: { repository: string; service: string }[] = [];
  let nextToken: string | undefined;
  do {
    const page = await api.describeRepositories({ maxResults: 1_000, ...(nextToken !== undefined && { nextToken }) });
    for (const { repositoryName = "" } of page.repositories ?? []) {
      const service = repositoryName.startsWith(prefix) ? repositoryName.slice(prefix.length) : "";
      if (service !== "" && !service.includes("/")) found.push({ repository: repositoryName, service });
    }
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
  return found;
}

async function builtTags(ecr: EcrRegistry, repository: string): Promise<string[]> {
  const api = await ecr.client();
  const tags: string[] = [];
  let nextToken: string | undefined;
  do {
    const page = await api.describeImages({
      repositoryName: repository,
      filter: { tagStatus: "TAGGED" },
      maxResults: 1_000,
      ...(nextToken !== undefined && { nextToken }),
    });
    tags.push(...(page.imageDetails ?? []).flatMap(({ imageTags }) => imageTags ?? []));
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
  return tags.filter((tag) => BUILT_TAG.test(tag));
}
