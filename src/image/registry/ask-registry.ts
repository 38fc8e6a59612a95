import { Readable } from "node:stream";
import { z } from "zod";
import { errorCode } from "../../shared/errors.ts";
import { sleep } from "../../shared/until.ts";
import type { Blob } from "./blob.ts";

/** An OCI registry (distribution specification 1.1), as far as images are pushed to it, read from it and looked up in it. */
export type Registry = {
  /** `https://123456789012.dkr.ecr.eu-central-1.amazonaws.com`, without a path. */
  endpoint: string;
  /** The value of the header Authorization; undefined where none is needed. It goes to the registry, or to the token server that the registry names. */
  authorization?: string | undefined;
};

export type Asked = {
  method: "HEAD" | "GET" | "POST" | "PUT";
  body?: Blob;
  type?: string;
  accept?: string;
  expect: number[];
};

/** What the registry said instead of what was expected. */
export class RegistryError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const ATTEMPTS = 4;
const PAUSE_MS = 500;
/** Of a whole layer over a slow line. */
const TIMEOUT_MS = 15 * 60_000;

/** Tokens by the repository they were given for: the next request takes the last one, since it may carry a body that is only read once. */
const tokens = new WeakMap<Registry, Map<string, string>>();

/** @returns the answer, its body still to be read. @throws RegistryError for a status that is not expected */
export async function openAnswer(registry: Registry, path: string, asked: Asked): Promise<Response> {
  const repository = /\/v2\/(.+)\/(?:blobs|manifests)\//.exec(path)?.[1] ?? "";
  const known = tokens.get(registry) ?? new Map<string, string>();
  tokens.set(registry, known);
  const token = known.get(repository);
  const first = await send(registry, path, asked, token === undefined ? registry.authorization : `Bearer ${token}`);
  if (first.status !== 401) return expected(first, path, asked);
  const challenge = parseChallenge(first.headers.get("www-authenticate"));
  if (challenge === undefined) return expected(first, path, asked);
  await first.body?.cancel();
  const fresh = await fetchToken(registry, challenge);
  known.set(repository, fresh);
  return expected(await send(registry, path, asked, `Bearer ${fresh}`), path, asked);
}

/** As `openAnswer`, for who needs only the status and the headers. */
export async function askRegistry(registry: Registry, path: string, asked: Asked): Promise<Response> {
  const answer = await openAnswer(registry, path, asked);
  await answer.body?.cancel();
  return answer;
}

async function expected(answer: Response, path: string, { method, expect }: Asked): Promise<Response> {
  if (expect.includes(answer.status)) return answer;
  const said = (await answer.text()).slice(0, 300);
  throw new RegistryError(answer.status, `${method} ${path.split("?")[0]} → ${answer.status} ${said}`);
}

function send(
  registry: Registry,
  path: string,
  { method, body, type, accept }: Asked,
  authorization: string | undefined,
): Promise<Response> {
  return fetch(new URL(path, registry.endpoint), {
    method,
    headers: {
      ...(authorization !== undefined && { authorization }),
      ...(body !== undefined && { "content-length": String(body.size) }),
      ...(type !== undefined && { "content-type": type }),
      ...(accept !== undefined && { accept }),
    },
    ...(body !== undefined && { body: Readable.toWeb(body.open()) as ReadableStream, duplex: "half" }),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  } as RequestInit);
}

/** Where a registry sends its clients for a token, as Docker Hub, GHCR and GitLab do. */
export type Challenge = { realm: string; service?: string; scope?: string };

/** Reads `Bearer realm="…",service="…",scope="…"` (distribution specification, token authentication). Undefined for any other way to sign in. */
export function parseChallenge(header: string | null): Challenge | undefined {
  const parameters = /^bearer\s+(.*)$/i.exec(header ?? "")?.[1];
  if (parameters === undefined) return undefined;
  const found = new Map(
    [...parameters.matchAll(/(\w+)="([^"]*)"/g)].map(([, name = "", value = ""]) => [name.toLowerCase(), value]),
  );
  const [realm, service, scope] = [found.get("realm"), found.get("service"), found.get("scope")];
  if (realm === undefined || !URL.canParse(realm)) return undefined;
  return { realm, ...(service !== undefined && { service }), ...(scope !== undefined && { scope }) };
}

/** Some call it by one name, some by the other, some by both. */
const Token = z.union([
  z.object({ token: z.string().min(1) }).transform(({ token }) => token),
  z.object({ access_token: z.string().min(1) }).transform((answer) => answer.access_token),
]);

async function fetchToken(registry: Registry, { realm, service, scope }: Challenge): Promise<string> {
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set("service", service);
  if (scope !== undefined) url.searchParams.set("scope", scope);
  // A registry that is asked in the clear (this machine's) may name such a server; any other must not make us send a password in the clear.
  const isSafe = url.protocol === "https:" || new URL(registry.endpoint).protocol === "http:";
  const headers = registry.authorization !== undefined && isSafe ? { authorization: registry.authorization } : {};
  const answer = await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
  const body = await answer.text();
  if (!answer.ok) throw new RegistryError(answer.status, `${url.host} gave no token → ${answer.status}`);
  return Token.parse(JSON.parse(body));
}

/** Does it again after a pause while the registry is busy or does not answer: every request of ours may be repeated. */
export async function withRepeats<T>(work: () => Promise<T>, toFailure: (error: unknown) => unknown): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      // What was to be pushed could not be read: that was tried more than once already, and has words of its own.
      const cause = error instanceof Error ? error.cause : undefined;
      if (errorCode(cause) !== undefined) throw cause;
      const isFinal = error instanceof RegistryError && error.status < 500 && error.status !== 429;
      if (isFinal || attempt >= ATTEMPTS) throw toFailure(error);
      await sleep(Math.random() * PAUSE_MS * 2 ** attempt);
    }
  }
}

/** What went wrong, in the words of who knows most. */
export function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message : String(cause);
}
