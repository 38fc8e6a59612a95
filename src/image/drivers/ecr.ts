import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ECR } from "@aws-sdk/client-ecr";
import type Docker from "dockerode";
import { isAws, toAwsError } from "../../aws/aws-errors.ts";
import { type AwsOptions, clientConfig, GUARD_AT, newAwsGuard } from "../../aws/calls.ts";
import { fail } from "../../shared/errors.ts";
import type { LogSink } from "../../shared/log-line.ts";
import type { ImagePublisher } from "../publisher.ts";
import type { Registry } from "../registry/ask-registry.ts";
import { digestAt, pushImage } from "../registry/push-image.ts";
import { type KnownLayers, readSavedImage } from "../registry/saved-image.ts";

export type EcrOptions = {
  docker: Docker;
  /** Tagged on repositories and part of their names: what another installation made is never touched. */
  install: string;
  aws: AwsOptions;
  /** Where images are really pushed to; undefined for ECR itself. Their references name ECR in any case. */
  registryEndpoint?: string | undefined;
};

/** A token is good for 12 hours (Amazon ECR API, GetAuthorizationToken); it is asked for anew this long before. */
const RENEW_MS = 10 * 60_000;
const INSTALL_TAG = "shipway:install";

/** Images in Amazon ECR: a repository a service, made on demand, with tags that cannot be moved. */
export function ecrPublisher(options: EcrOptions): ImagePublisher {
  const { docker, install } = options;
  const guard = newAwsGuard(options.aws);
  let client: Promise<ECR> | undefined;
  const knownLayers: KnownLayers = new Map();
  let login: { authorization: string; expiresAt: number } | undefined;

  // Loaded by the first push: on Docker nobody needs it.
  const ecr = (): Promise<ECR> => {
    client ??= import("@aws-sdk/client-ecr").then(({ ECR }) => {
      const made = new ECR(clientConfig(options.aws));
      made.middlewareStack.add(guard.of("ecr"), GUARD_AT);
      return made;
    });
    return client;
  };

  /** @returns the repository's address: `ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME` */
  async function ensureRepository(name: string, app: string): Promise<string> {
    const api = await ecr();
    const found = await findRepository(api, name);
    if (found !== undefined) return found;
    try {
      const { repository } = await api.createRepository({
        repositoryName: name,
        imageTagMutability: "IMMUTABLE",
        imageScanningConfiguration: { scanOnPush: true },
        tags: [
          { Key: INSTALL_TAG, Value: install },
          { Key: "shipway:app", Value: app },
        ],
      });
      return repository?.repositoryUri ?? "";
    } catch (error) {
      if (!isAws(error, "RepositoryAlreadyExists")) throw error;
      return (await findRepository(api, name)) ?? "";
    }
  }

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

  async function registryFor(uri: string): Promise<Registry> {
    if (login === undefined || login.expiresAt - RENEW_MS < Date.now()) {
      const { authorizationData } = await (await ecr()).getAuthorizationToken({});
      const [data] = authorizationData ?? [];
      login = {
        authorization: `Basic ${data?.authorizationToken ?? ""}`,
        expiresAt: data?.expiresAt?.getTime() ?? 0,
      };
    }
    const endpoint = options.registryEndpoint ?? `https://${uri.split("/")[0]}`;
    return { endpoint, authorization: login.authorization };
  }

  async function publish(image: { app: string; service: string; digest: string }, log: LogSink): Promise<string> {
    const name = `shipway/${install}/${image.app}/${image.service}`;
    const uri = await ensureRepository(name, image.app);
    const registry = await registryFor(uri);
    // The tag is the content it was pushed from: the same image is found again, and none is ever moved.
    const tag = image.digest.replace(":", "-");
    const known = await digestAt(registry, name, tag);
    if (known !== undefined) return `${uri}@${known}`;
    const dir = await mkdtemp(join(tmpdir(), "shipway-push-"));
    try {
      const startedAt = Date.now();
      const saved = await readSavedImage(await save(docker, image), dir, knownLayers);
      const digest = await pushImage(registry, name, tag, saved);
      const mib = Math.ceil(saved.layers.reduce((total, layer) => total + layer.size, 0) / 2 ** 20);
      log([{ at: Date.now(), stream: "meta", text: `pushed ${name} (${mib} MiB, ${Date.now() - startedAt} ms)` }]);
      return `${uri}@${digest}`;
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }

  return {
    publish: (image, log) =>
      publish(image, log).catch((error: unknown) => {
        throw toAwsError(error, guard.askedOf(error));
      }),
  };
}

async function save(docker: Docker, { service, digest }: { service: string; digest: string }) {
  const stream = await docker
    .getImage(digest)
    .get()
    .catch((cause: unknown) => {
      throw fail("IMAGE_UNAVAILABLE", {
        message: `The image of ${service} (${digest.slice(0, 19)}) is not on this server any more, and was never pushed.`,
        hint: "Build it again with a push, or with `shipway deploy --ref BRANCH`.",
        cause,
      });
    });
  return stream as unknown as AsyncIterable<Buffer>;
}
