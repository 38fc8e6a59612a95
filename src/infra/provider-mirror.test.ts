import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { PROVIDER_ADDRESS } from "../provider/shipway-provider.ts";
import {
  EARLIER_VERSIONS,
  isFoundInPath,
  layProviderMirror,
  PROVIDER_LAUNCHER,
  PROVIDER_SOURCE,
  providerProgramBeside,
} from "./provider-mirror.ts";

const run = promisify(execFile);
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-mirror-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe("the launcher of the provider", () => {
  it("never changes: lock files of users hold a hash of it", () => {
    const hash = createHash("sha256").update(PROVIDER_LAUNCHER).digest("hex");
    expect(hash).toBe("002648b1afcc385a43d80b776eeb23237c01bea6917690f3dab40205dfa439a6");
    expect(PROVIDER_SOURCE).toBe(PROVIDER_ADDRESS);
  });

  /** An installation whose provider prints what it was started as. */
  async function installed(name: string): Promise<{ main: string; bin: string }> {
    const main = join(dir, name, "dist", "main.js");
    const bin = join(dir, name, "bin");
    const program = providerProgramBeside(main);
    await mkdir(join(program, ".."), { recursive: true });
    await mkdir(bin);
    await writeFile(join(dir, name, "package.json"), '{"type":"module"}');
    await writeFile(program, `console.log("${name}", ...process.argv.slice(2));\n`);
    await writeFile(main, "", { mode: 0o755 });
    await symlink(main, join(bin, "shipway"));
    return { main, bin };
  }
  const launch = async (env: Record<string, string>, ...args: string[]) => {
    const [launcher = ""] = await layProviderMirror(join(dir, "mirror"), "1.2.3");
    return run(launcher, args, { env: { PATH: process.env.PATH ?? "", ...env } });
  };

  it("starts the provider that it is told", async () => {
    const { main } = await installed("told");
    const env = { SHIPWAY_PROVIDER: providerProgramBeside(main), SHIPWAY_PROVIDER_NODE: process.execPath };
    expect((await launch(env, "a b")).stdout).toBe("told a b\n");
  });

  it("else that of the shipway in PATH, through whatever links", async () => {
    const { main, bin } = await installed("in path");
    const PATH = `${bin}:${process.env.PATH}`;
    expect((await launch({ PATH })).stdout).toBe("in path\n");
    expect(await isFoundInPath(PATH, main)).toBe(true);
    expect(await isFoundInPath(PATH, join(dir, "other", "main.js"))).toBe(false);
    expect(await isFoundInPath("", main)).toBe(false);
  });

  it("says what it needs where there is none", async () => {
    const { stderr } = await launch({ PATH: "/usr/bin:/bin" }).catch((error) => error);
    expect(stderr).toContain("needs the program shipway in PATH");
  });
});

describe("the provider's mirror", () => {
  it("has the same launcher for every platform, alone in its folder, and is whole again after whatever happened to it", async () => {
    const files = await layProviderMirror(dir, "1.2.3");
    expect(files.map((file) => file.slice(dir.length + 1))).toContain(
      "shipway.internal/shipway/shipway/1.2.3/linux_amd64/terraform-provider-shipway_v1.2.3",
    );
    for (const file of files) {
      expect(await readFile(file, "utf8")).toBe(PROVIDER_LAUNCHER);
      expect((await stat(file)).mode & 0o777).toBe(0o755);
      expect(await readdir(join(file, ".."))).toHaveLength(1);
    }
    const [first = ""] = files;
    await writeFile(first, "half of it");
    const { ino } = await stat(files[1] ?? "");
    await layProviderMirror(dir, "1.2.3");
    expect(await readFile(first, "utf8")).toBe(PROVIDER_LAUNCHER);
    expect((await stat(files[1] ?? "")).ino).toBe(ino);
    expect(await readdir(dir)).toEqual(["shipway.internal"]);
  });

  it("has every version that was ever released, for lock files that name it", async () => {
    const changelog = await readFile(new URL("../../CHANGELOG.md", import.meta.url), "utf8");
    const released = [...changelog.matchAll(/^## \[(\d+\.\d+\.\d+)\]/gm)].map(([, version]) => version);
    expect([...EARLIER_VERSIONS, packageJson.version]).toEqual(expect.arrayContaining(released));
    expect(EARLIER_VERSIONS).not.toContain(packageJson.version);
  });

  it("keeps what earlier versions of Shipway laid", async () => {
    await layProviderMirror(dir, "1.2.3");
    await layProviderMirror(dir, "1.3.0");
    expect(await readdir(join(dir, PROVIDER_SOURCE))).toEqual(["1.2.3", "1.3.0"]);
  });
});
