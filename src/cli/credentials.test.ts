import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { chooseServer, normalizeServerUrl, readCredentials, rememberServer } from "./credentials.ts";

let dir: string;
let file: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-credentials-"));
  file = join(dir, "config", "shipway", "credentials.json");
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe("rememberServer", () => {
  it("keeps the other servers, makes the new one the default, and lets only the user read the file", async () => {
    await rememberServer(file, "http://localhost:7420/", "one");
    await rememberServer(file, "https://shipway.example.com", "two");
    await rememberServer(file, "http://localhost:7420", "three");
    expect(await readCredentials(file)).toEqual({
      servers: { "http://localhost:7420": { token: "three" }, "https://shipway.example.com": { token: "two" } },
      default: "http://localhost:7420",
    });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readdir(join(dir, "config", "shipway"))).toEqual(["credentials.json"]);
  });

  it("does not overwrite a file that it cannot read", async () => {
    await rememberServer(file, "http://localhost:7420", "one");
    await writeFile(file, "{ half");
    await expect(rememberServer(file, "http://localhost:1", "two")).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  });
});

describe("chooseServer", () => {
  it.each([
    { name: "the default", wanted: {}, expected: { baseUrl: "http://a:1", token: "ta" } },
    {
      name: "a named one with its own token",
      wanted: { server: "http://b:2/" },
      expected: { baseUrl: "http://b:2", token: "tb" },
    },
    { name: "a token for the default", wanted: { token: "x" }, expected: { baseUrl: "http://a:1", token: "x" } },
  ])("takes $name", async ({ wanted, expected }) => {
    await rememberServer(file, "http://b:2", "tb");
    await rememberServer(file, "http://a:1", "ta");
    expect(await chooseServer(wanted, file)).toEqual(expected);
  });

  it("never sends the token of one server to another", async () => {
    await rememberServer(file, "http://a:1", "ta");
    await expect(chooseServer({ server: "http://evil:1" }, file)).rejects.toMatchObject({ code: "TOKEN_INVALID" });
  });
});

it.each(["localhost:7420", "ftp://x", "x"])("refuses %s as the address of a server", (url) => {
  expect(() => normalizeServerUrl(url)).toThrow(/is not the address of a server/);
});
