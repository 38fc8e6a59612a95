import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type Docker from "dockerode";
import { fail, ShipwayError } from "../../shared/errors.ts";
import type { LogSink } from "../../shared/log-line.ts";
import { diskFull } from "./build-failure.ts";

/** Undefined when the engine has no image of that name, digest or id. */
export async function findImage(docker: Docker, name: string): Promise<Docker.ImageInspectInfo | undefined> {
  try {
    return await docker.getImage(name).inspect();
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw toDockerError(error);
  }
}

/** @throws IMAGE_UNAVAILABLE, DOCKER_UNREACHABLE */
export async function pullImage(
  docker: Docker,
  reference: string,
  { log, now, signal, login }: { log: LogSink; now: () => number; signal?: AbortSignal; login?: Docker.AuthConfig },
): Promise<void> {
  const say = (text: string) => log([{ at: now(), stream: "meta", text }]);
  say(`${reference} is not on this machine: pulling it`);
  try {
    const options = { ...(signal && { abortSignal: signal }), ...(login && { authconfig: login }) };
    const stream = await docker.pull(withTag(reference), options);
    for await (const line of createInterface({ input: stream as Readable })) {
      const message: { error?: unknown; status?: unknown; id?: unknown } = parseMessage(line);
      if (typeof message.error === "string") throw new Error(message.error);
      // Each layer reports its progress many times a second; only its end is worth a line.
      if (typeof message.status === "string" && /^(Pull complete|Digest|Status)/.test(message.status))
        say(`${message.id ?? ""} ${message.status}`.trim());
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (isUnreachable(error)) throw toDockerError(error);
    throw fail("IMAGE_UNAVAILABLE", {
      message: `The image ${reference} cannot be pulled: ${textOf(error)}`,
      hint: "Check the name and the engine's network; `docker pull` shows the same error.",
      cause: error,
    });
  }
}

/** Without a tag the engine would pull every tag of the repository. */
function withTag(reference: string): string {
  return /@sha256:|:[\w.-]+$/.test(reference) ? reference : `${reference}:latest`;
}

/** A line of the engine's answer to a build or a pull. */
export function parseMessage(line: string): { id?: unknown; aux?: unknown; error?: unknown } {
  try {
    const message: unknown = JSON.parse(line);
    return typeof message === "object" && message !== null ? message : {};
  } catch {
    // A connection that breaks off leaves half a line; the missing end is what counts, and it is seen by the caller.
    return {};
  }
}

/** Takes a name away, and the image with its last. False when a container uses the image, or somebody else removed it. */
export async function removeUnused(docker: Docker, name: string): Promise<boolean> {
  try {
    await docker.getImage(name).remove();
    return true;
  } catch (error) {
    if (statusOf(error) === 409 || statusOf(error) === 404) return false;
    throw toDockerError(error);
  }
}

export function toDockerError(error: unknown): ShipwayError {
  if (error instanceof ShipwayError) return error;
  if (isUnreachable(error)) {
    return fail("DOCKER_UNREACHABLE", {
      message: `The Docker Engine does not answer: ${textOf(error)}.`,
      hint: "Start it, and check that this user may open its socket: `docker info`.",
      cause: error,
    });
  }
  if (/no space left on device/i.test(textOf(error)))
    return diskFull(`The engine has no space left: ${textOf(error)}.`);
  return fail("DOCKER_FAILED", { message: `The Docker Engine refused: ${textOf(error)}`, cause: error });
}

function isUnreachable(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return (
    typeof code === "string" && ["ECONNREFUSED", "ECONNRESET", "ENOENT", "EACCES", "EPIPE", "ETIMEDOUT"].includes(code)
  );
}

function statusOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "statusCode" in error ? error.statusCode : undefined;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
