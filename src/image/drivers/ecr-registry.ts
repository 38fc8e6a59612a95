import type { ECR } from "@aws-sdk/client-ecr";
import { isAws, toAwsError } from "../../aws/aws-errors.ts";
import { type AwsOptions, newAwsCalls } from "../../aws/calls.ts";
import { fail } from "../../shared/errors.ts";
import type { Registry } from "../registry/ask-registry.ts";

export type EcrOptions = {
  /** Tagged on repositories and part of their names: what another installation made is never touched. */
  install: string;
  aws: AwsOptions;
  /** Where images really are, of a registry beside ECR; their references name ECR in any case. */
  registryEndpoint?: string | undefined;
};

export type EcrRegistry = {
  client(): Promise<ECR>;
  /**
   * The repository's address, `ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME`; made where there is none, with tags that cannot be moved unless `mutable`.
   * @throws AWS_NAME_TAKEN
   */
  ensureRepository(name: string, app: string, options?: { mutable?: boolean }): Promise<string>;
  /** The address's host as a registry to push to and read from, signed in. */
  signIn(host: string): Promise<Registry>;
  /** An error of a call made here in public codes. */
  toError(error: unknown): unknown;
};

/** A token is good for 12 hours (Amazon ECR API, GetAuthorizationToken); it is asked for anew this long before. */
const RENEW_MS = 10 * 60_000;
const INSTALL_TAG = "shipway:install";

/** Only what no tag names any more, such as layers of a push that broke off: what a release needs has a tag, and is removed by our own list alone. */
const FORGET_UNTAGGED = JSON.stringify({
  rules: [
    {
      rulePriority: 1,
      selection: { tagStatus: "untagged", countType: "sinceImagePushed", countUnit: "days", countNumber: 7 },
      action: { type: "expire" },
    },
  ],
});

/** Of a service's images; what is below it is for Shipway's own use, such as the cache of builds. */
export const repositoryName = (install: string, app: string, service: string): string =>
  `shipway/${install}/${app}/${service}`;

export const hostOfUri = (uri: string): string => uri.split("/")[0] ?? "";

/** Amazon ECR of an account and Region: its repositories through AWS's API, their contents as any registry has them. */
export function ecrRegistry(options: EcrOptions): EcrRegistry {
  const { install } = options;
  const calls = newAwsCalls(options.aws);
  let made: Promise<ECR> | undefined;
  const hasPolicy = new Set<string>();
  let login: { registry: Registry; expiresAt: number } | undefined;

  // Loaded by the first call: on Docker nobody needs it.
  const client = (): Promise<ECR> => {
    made ??= import("@aws-sdk/client-ecr").then(({ ECR }) => calls.open(ECR, "ecr"));
    return made;
  };

  async function findRepository(api: ECR, name: string): Promise<string | undefined> {
    const found = await api.describeRepositories({ repositoryNames: [name] }).catch((error: unknown) => {
      if (isAws(error, "RepositoryNotFound")) return undefined;
      throw error;
    });
    const repository = found?.repositories?.[0];
    if (repository === undefined) return undefined;
    const { tags } = await api.listTagsForResource({ resourceArn: repository.repositoryArn });
    if (tags?.some((tag) => tag.Key === INSTALL_TAG && tag.Value === install)) return repository.repositoryUri;
    throw fail("AWS_NAME_TAKEN", {
      message: `The ECR repository ${name} exists already and was not made by this Shipway; it was left as it is.`,
      hint: "Remove or rename it in the AWS account.",
    });
  }

  /** Once a process: a repository may have been made by one that was killed right after. */
  async function forgetUntagged(api: ECR, name: string): Promise<void> {
    if (hasPolicy.has(name)) return;
    await api.putLifecyclePolicy({ repositoryName: name, lifecyclePolicyText: FORGET_UNTAGGED });
    hasPolicy.add(name);
  }

  return {
    client,
    async ensureRepository(name, app, { mutable = false } = {}) {
      const api = await client();
      const found = await findRepository(api, name);
      if (found !== undefined) {
        await forgetUntagged(api, name);
        return found;
      }
      try {
        const { repository } = await api.createRepository({
          repositoryName: name,
          imageTagMutability: mutable ? "MUTABLE" : "IMMUTABLE",
          imageScanningConfiguration: { scanOnPush: !mutable },
          tags: [
            { Key: INSTALL_TAG, Value: install },
            { Key: "shipway:app", Value: app },
          ],
        });
        await forgetUntagged(api, name);
        return repository?.repositoryUri ?? "";
      } catch (error) {
        if (!isAws(error, "RepositoryAlreadyExists")) throw error;
        return (await findRepository(api, name)) ?? "";
      }
    },
    async signIn(host) {
      if (login !== undefined && login.expiresAt - RENEW_MS >= Date.now()) return login.registry;
      const { authorizationData } = await (await client()).getAuthorizationToken({});
      const [data] = authorizationData ?? [];
      const endpoint = options.registryEndpoint ?? `https://${host}`;
      const registry = { endpoint, authorization: `Basic ${data?.authorizationToken ?? ""}` };
      login = { registry, expiresAt: data?.expiresAt?.getTime() ?? 0 };
      return registry;
    },
    toError: (error) => toAwsError(error, calls.askedOf(error)),
  };
}
