import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { installationKey, newSealer } from "./sealing.ts";

describe("a sealed value", () => {
  const sealer = newSealer(Buffer.alloc(32, 1));
  const sealed = sealer.seal("pässword", "shop/production/KEY/1");

  it("opens with its key in its context, and shows nothing of itself", () => {
    expect(sealer.open(sealed, "shop/production/KEY/1")).toBe("pässword");
    expect(sealed.toString("utf8")).not.toContain("ssword");
    expect(sealer.seal("pässword", "shop/production/KEY/1").equals(sealed)).toBe(false);
  });

  it("does not open when any of its bytes changed, or some are missing", () => {
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed);
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
      expect(() => sealer.open(changed, "shop/production/KEY/1"), `byte ${at}`).toThrow(/does not open/);
    }
    for (const length of [0, 5, 12, 27, sealed.length - 1])
      expect(() => sealer.open(sealed.subarray(0, length), "shop/production/KEY/1")).toThrow(/does not open/);
  });

  it("does not open in another row, nor with another key, and says what to do", () => {
    expect(() => sealer.open(sealed, "shop/production/KEY/2")).toThrow(/does not open/);
    const wrong = () => newSealer(Buffer.alloc(32, 2)).open(sealed, "shop/production/KEY/1");
    expect(wrong).toThrow(
      expect.objectContaining({ code: "SECRET_KEY_WRONG", hint: expect.stringContaining("back-up") }),
    );
  });
});

describe("the key of an installation", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "shipway-key-"));
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  it("makes a key that only its owner can read, once", async () => {
    const file = join(dir, "data", "secret.key");
    const key = await installationKey(undefined, file);
    expect(key).toHaveLength(32);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await installationKey(undefined, file)).toEqual(key);
  });

  it.each(["", "\n", "c2hvcnQ=", "not a key"])("never replaces a damaged file: %j", async (text) => {
    const file = join(dir, "secret.key");
    await writeFile(file, text);
    await expect(installationKey(undefined, file)).rejects.toMatchObject({ code: "SECRET_KEY_WRONG" });
    expect(await readFile(file, "utf8")).toBe(text);
  });

  it("never replaces what it cannot read", async () => {
    await expect(installationKey(undefined, dir)).rejects.toMatchObject({ code: "EISDIR" });
  });

  it("is the one that is given, and then no file is made", async () => {
    const given = randomBytes(32).toString("base64");
    const file = join(dir, "given.key");
    expect((await installationKey(`${given}\n`, file)).toString("base64")).toBe(given);
    expect(await readFile(file, "utf8").catch(() => "none")).toBe("none");
  });

  it("is refused where it is none, and where the data directory has another", async () => {
    const file = join(dir, "kept.key");
    const kept = await installationKey(undefined, file);
    expect(await installationKey(kept.toString("base64"), file)).toEqual(kept);
    for (const wrong of ["c2hvcnQ=", randomBytes(32).toString("base64")])
      await expect(installationKey(wrong, file)).rejects.toMatchObject({ code: "SECRET_KEY_WRONG" });
  });
});
