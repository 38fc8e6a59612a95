import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseChallenge, type Registry } from "./ask-registry.ts";
import { pushImage } from "./push-image.ts";
import { endpointOf, parseImageReference, resolveImage } from "./resolve-image.ts";
import { hasRegistry, newTestImage, newTestRegistry, newTokenServer } from "./testing.ts";

const digest = `sha256:${"ab".repeat(32)}`;

describe("parseImageReference", () => {
  it.each([
    ["redis", "docker.io", "library/redis", "latest"],
    ["redis:7", "docker.io", "library/redis", "7"],
    ["team/app:1.2", "docker.io", "team/app", "1.2"],
    ["docker.io/redis:7", "docker.io", "library/redis", "7"],
    ["index.docker.io/team/app", "docker.io", "team/app", "latest"],
    ["ghcr.io/team/app:1.2", "ghcr.io", "team/app", "1.2"],
    ["localhost/app", "localhost", "app", "latest"],
    ["127.0.0.1:5000/deep/er/app", "127.0.0.1:5000", "deep/er/app", "latest"],
    [`redis@${digest}`, "docker.io", "library/redis", digest],
    [`ghcr.io/team/app:1.2@${digest}`, "ghcr.io", "team/app", digest],
  ])("reads %s", (text, host, repository, reference) => {
    expect(parseImageReference(text)).toEqual({ host, repository, reference });
  });

  it("asks in the clear on this machine alone", () => {
    expect(endpointOf("127.0.0.1:5000")).toBe("http://127.0.0.1:5000");
    expect(endpointOf("ghcr.io")).toBe("https://ghcr.io");
    expect(endpointOf("localhost.example.com")).toBe("https://localhost.example.com");
  });
});

describe("parseChallenge", () => {
  it("reads where a token is to be had, and no other way to sign in", () => {
    expect(parseChallenge('Bearer realm="https://t.io/token",service="s",scope="repository:a/b:pull,push"')).toEqual({
      realm: "https://t.io/token",
      service: "s",
      scope: "repository:a/b:pull,push",
    });
    expect(parseChallenge('bearer realm="https://t.io/token"')).toEqual({ realm: "https://t.io/token" });
    for (const header of [null, "", 'Basic realm="x"', 'Bearer realm="not an address"', "Bearer"])
      expect(parseChallenge(header)).toBeUndefined();
  });
});

const basic = (text: string) => `Basic ${Buffer.from(text).toString("base64")}`;

describe.skipIf(!hasRegistry)("a registry that wants tokens", () => {
  let tokens: Awaited<ReturnType<typeof newTokenServer>>;
  let registry: Awaited<ReturnType<typeof newTestRegistry>>;
  let host: string;
  beforeAll(async () => {
    tokens = await newTokenServer("team:swordfish");
    registry = await newTestRegistry(tokens.auth);
    host = new URL(registry.endpoint).host;
  });
  afterAll(async () => {
    await registry?.cleanUp();
    await tokens?.cleanUp();
  });

  const known = (): Registry => ({ endpoint: registry.endpoint, authorization: basic("team:swordfish") });
  const pushed = async (repository: string) => {
    return await pushImage(known(), repository, "1", newTestImage([randomBytes(2_000)]));
  };

  it("takes an image from who is known, and asks its server for as few tokens as rights", async () => {
    const before = tokens.asked.length;
    const digest = await pushed("private/app");
    // In which order a registry names the rights differs from time to time.
    const rights = tokens.asked.slice(before).map((scope) => scope.split(":").at(-1)?.split(",").sort());
    expect(rights).toEqual([["pull"], ["pull", "push"]]);
    expect(await resolveImage(`${host}/private/app:1`, known())).toEqual({
      digest,
      reference: `${host}/private/app@${digest}`,
    });
  });

  it("gives anybody what is public", async () => {
    const digest = await pushed("public/app");
    expect(await resolveImage(`${host}/public/app:1`)).toMatchObject({ digest });
  });

  it("is not told from one without the image by who may not look", async () => {
    await pushed("private/secret");
    for (const [name, login] of [
      ["private/secret:1", undefined],
      ["private/secret:1", "team:wrong"],
      ["nowhere/app:1", undefined],
    ] as const) {
      const asked = { endpoint: registry.endpoint, ...(login !== undefined && { authorization: basic(login) }) };
      await expect(resolveImage(`${host}/${name}`, asked)).rejects.toMatchObject({
        code: "IMAGE_UNAVAILABLE",
        message: expect.stringContaining("the registry does not have it, or wants a login for it"),
      });
    }
    await expect(resolveImage(`${host}/public/app:absent`, known())).rejects.toMatchObject({
      message: expect.stringContaining("the registry does not have it."),
    });
  });
});

describe("a registry that behaves badly", () => {
  /** Each answer is given once, the last one for ever. */
  const answering = async (...answers: { status: number; headers?: Record<string, string>; body?: string }[]) => {
    const seen: (string | undefined)[] = [];
    const server = createServer((request, response) => {
      seen.push(request.headers.authorization);
      const { status, headers, body } = answers[Math.min(seen.length, answers.length) - 1] ?? { status: 500 };
      response.writeHead(status, headers).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { host, seen, close: () => new Promise((resolve) => server.close(resolve)) };
  };

  it("is asked again while it is busy, and believed once it answers", async () => {
    const one = await answering(
      { status: 503 },
      { status: 429 },
      { status: 200, headers: { "docker-content-digest": digest } },
    );
    expect(await resolveImage(`${one.host}/a:1`)).toEqual({ digest, reference: `${one.host}/a@${digest}` });
    expect(one.seen).toHaveLength(3);
    await one.close();
  });

  it("is given up after four attempts, with what it said", async () => {
    const one = await answering({ status: 429 });
    await expect(resolveImage(`${one.host}/a:1`)).rejects.toMatchObject({
      code: "IMAGE_UNAVAILABLE",
      message: expect.stringContaining("too many requests"),
    });
    expect(one.seen).toHaveLength(4);
    await one.close();
  });
});

it("sends no password in the clear because a registry names such a token server", async () => {
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization);
    response.end(JSON.stringify({ access_token: "t" }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const realm = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const asked: (string | null)[] = [];
  const original = globalThis.fetch;
  // Nothing answers TLS here: only what would go to the registry is played.
  globalThis.fetch = (async (input: string | URL, init?: RequestInit) => {
    const url = new URL(input);
    if (url.protocol !== "https:") return original(input, init);
    const { authorization } = (init?.headers ?? {}) as Record<string, string>;
    asked.push(authorization ?? null);
    if (authorization === "Bearer t") return new Response(null, { headers: { "docker-content-digest": digest } });
    return new Response(null, { status: 401, headers: { "www-authenticate": `Bearer realm="${realm}"` } });
  }) as typeof fetch;
  try {
    const registry = { endpoint: "https://registry.example", authorization: basic("team:swordfish") };
    expect(await resolveImage("registry.example/a:1", registry)).toMatchObject({ digest });
    expect(asked).toEqual([basic("team:swordfish"), "Bearer t"]);
    expect(seen).toEqual([undefined]);
  } finally {
    globalThis.fetch = original;
    server.close();
  }
});
