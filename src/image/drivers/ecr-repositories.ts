import { noneWithout } from "../../aws/aws-errors.ts";
import { hasCode } from "../../shared/errors.ts";
import type { EcrRegistry } from "./ecr-registry.ts";

/** BatchDeleteImage takes at most 100 (Amazon ECR API reference). */
const DELETED_A_CALL = 100;

/** Repositories under a prefix, with what follows it; `registryId`: of this account, which is the credentials' own unless it is said. */
export async function repositoriesUnder(
  ecr: EcrRegistry,
  prefix: string,
  registryId?: string,
): Promise<{ repository: string; rest: string }[]> {
  const api = await ecr.client();
  const found: { repository: string; rest: string }[] = [];
  let nextToken: string | undefined;
  do {
    const page = await api.describeRepositories({
      maxResults: 1_000,
      ...(registryId !== undefined && { registryId }),
      ...(nextToken !== undefined && { nextToken }),
    });
    for (const { repositoryName = "" } of page.repositories ?? [])
      if (repositoryName.startsWith(prefix))
        found.push({ repository: repositoryName, rest: repositoryName.slice(prefix.length) });
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
  return found;
}

export async function tagsIn(ecr: EcrRegistry, repository: string): Promise<string[]> {
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
  return tags;
}

/** Takes away tags, and the images that have no other. */
export async function deleteTags(ecr: EcrRegistry, repository: string, tags: string[]): Promise<void> {
  const api = await ecr.client();
  for (let at = 0; at < tags.length; at += DELETED_A_CALL) {
    const imageIds = tags.slice(at, at + DELETED_A_CALL).map((imageTag) => ({ imageTag }));
    await api.batchDeleteImage({ repositoryName: repository, imageIds });
  }
}

/** A repository with all of its images; one that is gone is no error. */
export async function deleteRepository(ecr: EcrRegistry, repository: string): Promise<void> {
  const api = await ecr.client();
  await api.deleteRepository({ repositoryName: repository, force: true }).catch(noneWithout("RepositoryNotFound"));
}

/** Whether a repository that is there was made by this installation. */
export async function isOurs(ecr: EcrRegistry, repository: string, app: string): Promise<boolean> {
  try {
    await ecr.ensureRepository(repository, app);
    return true;
  } catch (error) {
    if (hasCode(error, "AWS_NAME_TAKEN")) return false;
    throw error;
  }
}
