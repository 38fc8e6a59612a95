import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasMoto, type Moto, startMoto } from "../infra/moto-testing.ts";
import { type Bucket, openBucket } from "./bucket.ts";

let moto: Moto;
let bucket: Bucket;
const calls: string[] = [];
beforeAll(async () => {
  if (!hasMoto) return console.warn("SKIPPED, for want of moto_server: a bucket of S3");
  // Else it takes a thousand objects to fill a page.
  process.env.MOTO_S3_DEFAULT_MAX_KEYS = "5";
  moto = await startMoto();
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" });
  await moto.aws(
    "s3api",
    "create-bucket",
    "--bucket",
    "work",
    "--create-bucket-configuration",
    "LocationConstraint=eu-central-1",
  );
  bucket = await open("work");
});
afterAll(() => moto?.close());

const open = (name: string) =>
  openBucket({
    region: "eu-central-1",
    endpoint: moto.endpoint,
    bucket: name,
    attempts: 1,
    onCall: ({ command }) => calls.push(command),
  });

describe.skipIf(!hasMoto)("a bucket", () => {
  it("gives back what was put, and nothing for what was not", async () => {
    await bucket.put("a/one", "text ä");
    expect(await bucket.get("a/one")).toBe("text ä");
    expect(await bucket.find("a/one")).toMatchObject({ key: "a/one", bytes: 7 });
    expect(await bucket.get("a/two")).toBeUndefined();
    expect(await bucket.find("a/two")).toBeUndefined();
  });

  it("lets one of several win who put the same new object, and tells all who it was", async () => {
    const told = await Promise.all(["a", "b", "c", "d"].map((who) => bucket.putNew("new/lock", who)));
    expect(new Set(told).size).toBe(1);
    expect(await bucket.get("new/lock")).toBe(told[0]);
    expect(await bucket.putNew("new/lock", "late")).toBe(told[0]);
  });

  it("uploads a stream of unknown length, in parts only when it is large", async () => {
    async function* chunks(count: number) {
      for (let n = 0; n < count; n++) yield Buffer.alloc(1_000_000, n);
    }
    expect(await bucket.upload("up/small", chunks(2))).toBe(2_000_000);
    expect(calls).not.toContain("CreateMultipartUpload");
    expect(await bucket.upload("up/large", chunks(19))).toBe(19_000_000);
    expect(calls.filter((call) => call === "UploadPart")).toHaveLength(3);
    const whole = Buffer.from(await (await fetch(await bucket.addressToGet("up/large", 60))).arrayBuffer());
    expect(whole.length).toBe(19_000_000);
    expect(whole.every((byte, at) => byte === Math.floor(at / 1_000_000))).toBe(true);
    expect(await bucket.upload("up/empty", chunks(0))).toBe(0);
    expect(await bucket.get("up/empty")).toBe("");
  });

  it("leaves neither object nor parts of a stream that broke", async () => {
    async function* broken() {
      for (let n = 0; n < 12; n++) yield Buffer.alloc(1_000_000);
      throw new Error("the disk is gone");
    }
    await expect(bucket.upload("up/broken", broken())).rejects.toThrow("the disk is gone");
    expect(await bucket.find("up/broken")).toBeUndefined();
    const left = await moto.aws<{ Uploads?: object[] }>("s3api", "list-multipart-uploads", "--bucket", "work");
    expect(left.Uploads ?? []).toEqual([]);
  });

  it("lists and removes more than one page", async () => {
    const keys = Array.from({ length: 23 }, (_, n) => `many/${n % 3}/${n}`);
    const never = Array.from({ length: 1_500 }, (_, n) => `never/${n}`);
    await Promise.all(keys.map((key) => bucket.put(key, "")));
    expect((await bucket.list("many/")).map(({ key }) => key).sort()).toEqual([...keys].sort());
    expect(await bucket.listNames("many/")).toEqual(["0", "1", "2"]);
    await bucket.remove([...never, ...keys]);
    expect(await bucket.list("many/")).toEqual([]);
  });

  it("signs addresses that need no credentials, for one object and one way only", async () => {
    const to = await bucket.addressToPut("signed/one", 60);
    expect((await fetch(to, { method: "PUT", body: "from outside" })).status).toBe(200);
    expect(await bucket.get("signed/one")).toBe("from outside");
    expect(await (await fetch(await bucket.addressToGet("signed/one", 60))).text()).toBe("from outside");
    expect(to).toMatch(/X-Amz-Expires=60&/);
    expect(to).not.toMatch(/checksum/i);
  });

  it("says what is missing, and what to allow, in public codes", async () => {
    const none = await open("none-there");
    await expect(none.put("a", "")).rejects.toMatchObject({
      code: "AWS_NOT_FOUND",
      message: expect.stringContaining("s3:PutObject for arn:aws:s3:::none-there/*"),
    });
    await fetch(`${moto.endpoint}/moto-api/reset-auth`, { method: "POST", body: "0" });
    try {
      await expect(bucket.find("a/one")).rejects.toMatchObject({
        code: expect.stringMatching(/^AWS_(DENIED|CREDENTIALS)$/),
      });
    } finally {
      await fetch(`${moto.endpoint}/moto-api/reset-auth`, { method: "POST", body: "Infinity" });
    }
  });
});
