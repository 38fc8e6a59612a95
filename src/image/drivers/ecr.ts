import type Docker from "dockerode";
import { formatDurationMs } from "../../shared/duration.ts";
import type { KeyedLock } from "../../shared/keyed-lock.ts";
import type { LogSink } from "../../shared/log-line.ts";
import type { ImagePublisher } from "../publisher.ts";
import type { Registry } from "../registry/ask-registry.ts";
import { digestAt, pushImage } from "../registry/push-image.ts";
import { readRemoteImage } from "../registry/read-remote-image.ts";
import { parseImageReference } from "../registry/resolve-image.ts";
import { ecrLogins } from "./ecr-login.ts";
import { type EcrOptions, ecrRegistry, hostOfUri, repositoryName } from "./ecr-registry.ts";
import { deleteRepository, deleteTags, isOurs, repositoriesUnder, tagsIn } from "./ecr-repositories.ts";
import { imageGone, pushFromEngine, removeLeftNames } from "./engine-push.ts";

export type PublisherOptions = EcrOptions & {
  /** Where images were built; undefined where they all come from registries. */
  docker: Docker | undefined;
  /** Of the tasks: an image for several kinds of machines is copied for this one. */
  architecture: "x86_64" | "arm64";
  /** Whose repositories are cleaned up; undefined for the credentials' own account. */
  account?: string;
  /** What is being pushed is not yet among what is kept: an app's images are pushed and cleaned up one after the other. */
  alone: KeyedLock;
};

/** Images of this machine's engine, and of registries elsewhere, in Amazon ECR: a repository a service, made on demand, with tags that cannot be moved. */
export function ecrPublisher(options: PublisherOptions): ImagePublisher {
  const { docker, install } = options;
  const ecr = ecrRegistry(options);
  const loginFor = ecrLogins();
  const platform = options.architecture === "arm64" ? "arm64" : "amd64";

  async function publish(image: { app: string; service: string; digest: string }, log: LogSink): Promise<string> {
    const name = repositoryName(install, image.app, image.service);
    const uri = await ecr.ensureRepository(name, image.app);
    const from = sourceOf(image, uri, log);
    if (from === undefined) return image.digest;
    const registry = await ecr.signIn(hostOfUri(uri));
    const known = await digestAt(registry, name, from.tag);
    if (known !== undefined) return `${uri}@${known}`;
    const startedAt = Date.now();
    const digest = await from.push(registry, name);
    log([{ at: Date.now(), stream: "meta", text: `pushed ${name} in ${formatDurationMs(Date.now() - startedAt)}` }]);
    return `${uri}@${digest}`;
  }

  /** The tag is the content it is pushed from: the same image is found again, and none is ever moved. Undefined for what is there already. */
  function sourceOf(image: { service: string; digest: string }, uri: string, log: LogSink) {
    const tag = tagOf(image.digest);
    if (!image.digest.includes("@")) {
      const push = (registry: Registry, repository: string) => {
        if (docker === undefined) throw imageGone(image.service, image.digest);
        const { service, digest } = image;
        const what = { service, image: digest, architecture: platform, repository, tag };
        return pushFromEngine(docker, registry, what, log);
      };
      return { tag, push };
    }
    const source = parseImageReference(image.digest);
    const isOurs = uri.startsWith(`${source.host}/`) && source.repository.startsWith(`shipway/${install}/`);
    if (isOurs) return undefined;
    const there = `${tag}-${platform}`;
    const push = async (registry: Registry, repository: string) => {
      const found = await readRemoteImage(image.digest, platform, await loginFor(source.host));
      return pushImage(registry, repository, there, found);
    };
    return { tag: there, push };
  }

  async function prune(app: string, digests: string[]): Promise<number> {
    const kept = new Set(digests.map(tagOf));
    const isGone = (tag: string) => PUSHED_TAG.test(tag) && !kept.has(tag.replace(/-(amd64|arm64)$/, ""));
    // Nothing is being pushed now, so these are of a push that was killed.
    if (docker !== undefined) await removeLeftNames(docker, prefixOf(app));
    let count = 0;
    for (const { repository } of await repositoriesUnder(ecr, prefixOf(app), options.account)) {
      const gone = (await tagsIn(ecr, repository)).filter(isGone);
      if (gone.length === 0 || !(await isOurs(ecr, repository, app))) continue;
      await deleteTags(ecr, repository, gone);
      count += gone.length;
    }
    return count;
  }

  /** Also what is below a service's own: the cache of its builds. */
  async function removeApp(app: string): Promise<string[]> {
    const removed: string[] = [];
    for (const { repository } of await repositoriesUnder(ecr, prefixOf(app), options.account)) {
      if (!(await isOurs(ecr, repository, app))) continue;
      await deleteRepository(ecr, repository);
      removed.push(repository);
    }
    return removed;
  }

  const prefixOf = (app: string) => repositoryName(install, app, "");
  const told = async <T>(work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      throw ecr.toError(error);
    });
  const { alone } = options;
  return {
    publish: (image, log) => alone(image.app, () => told(publish(image, log))),
    prune: (app, kept) => alone(app, () => told(prune(app, kept))),
    removeApp: (app) => alone(app, () => told(removeApp(app))),
  };
}

/** Tags that are given here; others in the same repository are those of builds, or somebody's own. */
const PUSHED_TAG = /^sha256-[0-9a-f]{64}(-amd64|-arm64)?$/;

/** The content an image is pushed from: `sha256-0123…` of `sha256:0123…` and of `registry/name@sha256:0123…`. */
const tagOf = (digest: string): string => digest.slice(digest.indexOf("@") + 1).replace(":", "-");
