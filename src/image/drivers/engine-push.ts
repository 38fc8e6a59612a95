import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type Docker from "dockerode";
import { z } from "zod";
import { errorCode, fail } from "../../shared/errors.ts";
import type { LogSink } from "../../shared/log-line.ts";
import { type Registry, RegistryError, reasonOf, withRepeats } from "../registry/ask-registry.ts";
import { digestAt, pushFailed } from "../registry/push-image.ts";
import { findImage, parseMessage, removeUnused, toDockerError } from "./engine-images.ts";

/** An image of an engine, and what it is to be called in a registry; `architecture` is that of the machines it is for. */
export type EnginePush = { service: string; image: string; architecture: string; repository: string; tag: string };

/** How often a push that goes on says how far it is. */
const PROGRESS_MS = 3_000;
/** What a registry says when trying again does not help (Docker Engine has it only as text). */
const REFUSED = /denied|unauthorized|authentication required|no basic auth|not exist|immutable|forbidden/i;

/**
 * Lets the engine push an image of its own: it knows which layers a registry has, takes those of another repository over there, compresses and sends the others
 * side by side. To get an image out of the engine and push it from here takes all of its layers each time.
 * @returns the image's digest, as the registry has it
 * @throws IMAGE_UNAVAILABLE when the engine does not have it, SPEC_INVALID when it is for other machines, IMAGE_PUSH_FAILED, DOCKER_UNREACHABLE
 */
export async function pushFromEngine(docker: Docker, registry: Registry, push: EnginePush, log: LogSink) {
  const { service, image, repository, tag } = push;
  const repo = `${new URL(registry.endpoint).host}/${repository}`;
  const toFailure = (error: unknown) =>
    errorCode(error) === undefined ? pushFailed(registry, repository, reasonOf(error), error) : error;
  const found = await findImage(docker, image);
  if (found === undefined) throw imageGone(service, image);
  if (found.Architecture !== push.architecture) throw otherMachines(service, found.Architecture, push.architecture);
  await docker
    .getImage(image)
    .tag({ repo, tag })
    .catch((error: unknown) => {
      throw toDockerError(error);
    });
  try {
    await withRepeats(() => pushOnce(docker, registry, `${repo}:${tag}`, log), toFailure);
  } finally {
    await removeUnused(docker, `${repo}:${tag}`);
  }
  const digest = await withRepeats(() => digestAt(registry, repository, tag), toFailure);
  if (digest !== undefined) return digest;
  throw pushFailed(registry, repository, `the engine pushed ${tag}, and the registry does not have it`);
}

/** Names that a push gave and had no time to take away again: it was killed. `prefix` is the part of repositories' names that is one app's. */
export async function removeLeftNames(docker: Docker, prefix: string): Promise<void> {
  const filters = { reference: [`*/${prefix}*:sha256-*`] };
  const images = await docker.listImages({ filters }).catch((error: unknown) => {
    throw toDockerError(error);
  });
  for (const name of images.flatMap(({ RepoTags }) => RepoTags ?? [])) {
    if (name.includes(`/${prefix}`)) await removeUnused(docker, name);
  }
}

/** On Fargate it would end at once, with an "exec format error". */
function otherMachines(service: string, is: string, wanted: string) {
  return fail("SPEC_INVALID", {
    message: `The image of ${service} was built for ${is} machines, as this server's engine has them, and the environment's tasks run on ${wanted}.`,
    hint: "Build it where such machines are (`ci: { images: codebuild }`), name an image that is there for them, or change `aws: { architecture }` in shipway.yml.",
  });
}

/** It was removed here, or built by an engine that this Shipway no longer has. */
export function imageGone(service: string, image: string) {
  return fail("IMAGE_UNAVAILABLE", {
    message: `The image of ${service} (${image.slice(0, 19)}) is not on this server any more, and was never pushed.`,
    hint: "Build it again with a push, or with `shipway deploy --ref BRANCH`.",
  });
}

async function pushOnce(docker: Docker, registry: Registry, name: string, log: LogSink): Promise<void> {
  const answer = await docker
    .getImage(name)
    .push({ authconfig: loginOf(registry) })
    .catch((error: unknown) => {
      throw toDockerError(error);
    });
  const progress = newProgress(log);
  for await (const line of createInterface({ input: answer as Readable })) {
    const message = parseMessage(line);
    if (typeof message.error !== "string") progress.see(message);
    else if (REFUSED.test(message.error)) throw new RegistryError(403, message.error);
    else throw new Error(message.error);
  }
}

/** As the engine takes it. Where nobody has to sign in it wants something all the same. */
export function loginOf({ endpoint, authorization }: Registry): Docker.AuthConfig {
  const text = Buffer.from((authorization ?? "").replace(/^Basic /, ""), "base64").toString();
  const colon = text.indexOf(":");
  return { username: text.slice(0, colon), password: text.slice(colon + 1), serveraddress: endpoint };
}

const Layer = z.object({
  id: z.string(),
  status: z.string(),
  progressDetail: z.object({ current: z.number(), total: z.number().optional() }).partial().optional(),
});

/** Layers report many times a second: what all of them have come to is worth a line now and then. */
function newProgress(log: LogSink) {
  const layers = new Map<string, { sent: number; size: number; isThere: boolean }>();
  let saidAt = Date.now();
  return {
    see(message: object) {
      const parsed = Layer.safeParse(message);
      if (!parsed.success) return;
      const { id, status, progressDetail } = parsed.data;
      const before = layers.get(id) ?? { sent: 0, size: 0, isThere: false };
      const sent = progressDetail?.current ?? before.sent;
      const size = progressDetail?.total ?? before.size;
      layers.set(id, { sent, size, isThere: /^(Pushed|Layer already exists|Mounted)/.test(status) });
      if (Date.now() - saidAt < PROGRESS_MS) return;
      saidAt = Date.now();
      log([{ at: saidAt, stream: "meta", text: progressText([...layers.values()]) }]);
    },
  };
}

function progressText(layers: { sent: number; size: number; isThere: boolean }[]): string {
  const there = layers.filter(({ isThere }) => isThere).length;
  const sum = (sizes: number[]) => Math.ceil(sizes.reduce((all, one) => all + one, 0) / 2 ** 20);
  const size = sum(layers.map((one) => one.size));
  const sent = sum(layers.map((one) => Math.min(one.sent, one.size)));
  return `${there} of ${layers.length} layers are there${size === 0 ? "" : `, ${sent} of ${size} MiB sent`}`;
}
