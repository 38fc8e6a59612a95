import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { findStoredAnswer } from "./git-credential.ts";

let dir: string;
let file: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-git-credential-"));
  file = join(dir, "credentials.json");
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const REQUEST = "protocol=https\nhost=shipway.example.com:8443\nwwwauth[]=Basic\n\n";

it.each([
  { name: "a server at that origin", url: "https://shipway.example.com:8443", known: true },
  { name: "a server below a path of that origin", url: "https://shipway.example.com:8443/shipway", known: true },
  { name: "another port", url: "https://shipway.example.com", known: false },
  { name: "another scheme", url: "http://shipway.example.com:8443", known: false },
  { name: "no URL at all", url: "shipway.example.com:8443", known: false },
])("answers for $name: $known", async ({ url, known }) => {
  await writeFile(file, JSON.stringify({ servers: { [url]: { token: "abc" } } }));
  expect(await findStoredAnswer(file, REQUEST)).toBe(known ? "username=shipway\npassword=abc\n" : undefined);
});

it.each(["{ half", "null", "[]", '{"servers":{"https://shipway.example.com:8443":{"token":1}}}'])(
  "leaves a damaged file to the command: %s",
  async (text) => {
    await writeFile(file, text);
    expect(await findStoredAnswer(file, REQUEST)).toBeUndefined();
  },
);

it("has no answer without a file", async () => {
  expect(await findStoredAnswer(file, REQUEST)).toBeUndefined();
});
