import { execFile, spawnSync } from "node:child_process";
import { createWriteStream } from "node:fs";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import Docker from "dockerode";
import { pack } from "tar-stream";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { digestAt } from "../../registry/push-image.ts";
import { newBuildProgress } from "../build-progress.ts";
import { findBase } from "../testing.ts";
import type { BuildJob } from "./build-job.ts";
import { type BuildEnding, newRecordReader } from "./build-log.ts";
import { type BuildStage, hasBuildStage, newBuildStage } from "./testing.ts";

const docker = new Docker({ socketPath: "/var/run/docker.sock" });
const base = hasBuildStage ? await findBase(docker) : undefined;
const hasBuildx = spawnSync("docker", ["buildx", "version"], { stdio: "ignore" }).status === 0;
if (!hasBuildx) console.warn("SKIPPED: build.py with the real buildx, which `docker` does not have here");

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-build-script-"));
  await copyFile(join(import.meta.dirname, "build.py"), join(dir, "build.py"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const plain = { dockerfile: "Dockerfile", target: null, args: {}, labels: {}, cache: null, login: null };

/** What CodeBuild does with a folder, as Shipway reads it. */
async function run(job: BuildJob, dockerfile: string, env: Record<string, string> = {}) {
  const tar = pack();
  tar.entry({ name: "Dockerfile" }, dockerfile);
  tar.finalize();
  await pipeline(tar, createGzip(), createWriteStream(join(dir, "context.tar.gz")));
  await writeFile(join(dir, "job.json"), JSON.stringify(job));
  const { PATH = "", DOCKER_CONFIG } = process.env;
  const environment = { PATH, HOME: dir, ...(DOCKER_CONFIG !== undefined && { DOCKER_CONFIG }), ...env };
  const stdout = await new Promise<string>((resolve) => {
    // Its exit code is told by its last record, too.
    execFile("python3", [join(dir, "build.py")], { cwd: dir, env: environment }, (_error, out) => resolve(out));
  });
  const reader = newRecordReader();
  const lines: string[] = [];
  const progress = newBuildProgress((some) => lines.push(...some.map(({ text }) => text)));
  let ending: BuildEnding | undefined;
  for (const record of reader.read(stdout)) {
    if (record.kind === "said") lines.push(record.text);
    if (record.kind === "trace") progress.add(record.trace);
    if (record.kind === "ended") ending = record.ending;
  }
  return { lines, ending, others: reader.others() };
}

describe.skipIf(base === undefined)("build.py", () => {
  let stage: BuildStage;
  let host: string;
  beforeAll(async () => {
    stage = await newBuildStage();
    host = new URL(stage.registryEndpoint).host;
  });
  afterAll(() => stage?.cleanUp());
  const login = () => ({ host, region: stage.settings.region });
  const aws = () => ({ AWS_ENDPOINT_URL: stage.stage.endpoint, AWS_ACCESS_KEY_ID: "x", AWS_SECRET_ACCESS_KEY: "x" });

  it("signs in to ECR with AWS's command line, builds and pushes", async () => {
    const image = `${host}/script/signed-in:1`;
    const { ending, lines, others } = await run(
      { ...plain, image, login: login() },
      `FROM ${base}\nRUN echo built # ${dir}\n`,
      aws(),
    );
    expect({ ending, others }).toEqual({ ending: {}, others: [] });
    expect(lines).toContain("built");
    expect(await digestAt({ endpoint: stage.registryEndpoint }, "script/signed-in", "1")).toMatch(/^sha256:/);
    await docker.getImage(image).remove({ force: true });
  });

  it("says that it could not sign in, and builds nothing", async () => {
    const refused = { ...aws(), AWS_ENDPOINT_URL: "http://127.0.0.1:9", AWS_MAX_ATTEMPTS: "1" };
    const { ending, lines } = await run({ ...plain, image: `${host}/a:1`, login: login() }, `FROM ${base}\n`, refused);
    expect(ending).toMatchObject({ at: "setup", error: expect.stringContaining("signing in to Amazon ECR failed") });
    expect(lines).toEqual([]);
  });

  it("tells a registry that does not take the image from a Dockerfile that fails", async () => {
    const pushed = await run({ ...plain, image: "127.0.0.1:9/a:1" }, `FROM ${base}\n`);
    expect(pushed.ending).toMatchObject({ at: "push", error: expect.stringContaining("127.0.0.1:9") });
    await docker.getImage("127.0.0.1:9/a:1").remove({ force: true });
    const failed = await run({ ...plain, image: "127.0.0.1:9/b:1" }, `FROM ${base}\nRUN exit 7\n`);
    expect(failed.ending).toMatchObject({ at: "build", error: expect.stringContaining("exit code: 7") });
  });

  it("says that there is no engine", async () => {
    const { ending } = await run({ ...plain, image: "a:1" }, `FROM ${base}\n`, {
      DOCKER_HOST: "unix:///nonexistent.sock",
    });
    expect(ending?.at).toBe("setup");
  });

  it.skipIf(!hasBuildx)("does without the layers of earlier builds where BuildKit's image cannot be had", async () => {
    const image = `${host}/script/buildx:1`;
    const { ending, lines } = await run(
      { ...plain, image, cache: `${host}/script/buildx/cache:cache`, args: { TEXT: 'a "b"\nc' } },
      `FROM ${base}\nARG TEXT\nRUN printf '%s' "$TEXT" | od -An -c\n`,
      { SHIPWAY_BUILDKIT_IMAGE: "127.0.0.1:9/moby/buildkit:none" },
    );
    expect(ending).toEqual({});
    expect(lines[0]).toContain("the layers of earlier builds are not used");
    expect(lines.join("\n")).toContain('a       "   b   "  \\n   c');
    expect(await digestAt({ endpoint: stage.registryEndpoint }, "script/buildx", "1")).toMatch(/^sha256:/);
    await docker.getImage(image).remove({ force: true });
  });

  /** In buildx's place: BuildKit in a container needs an image that only a registry has. It writes down how it is called, and prints what buildx 0.13 printed. */
  const withPlayedBuildx = async (build: string) => {
    const bin = join(dir, "bin");
    await mkdir(bin);
    await writeFile(
      join(bin, "docker"),
      `#!/bin/sh\nfor one in "$@"; do printf '%s\\0' "$one"; done >> ${dir}/called\nprintf '\\n\\0' >> ${dir}/called\n[ "$2" = build ] || exit 0\ncat > /dev/null\n${build}\n`,
    );
    await chmod(join(bin, "docker"), 0o755);
    const called = async () =>
      (await readFile(join(dir, "called"), "utf8")).split("\n\0").map((one) => one.split("\0").slice(0, -1));
    return { env: { PATH: `${bin}:${process.env.PATH}` }, called };
  };

  it("hands arguments to buildx as they are, and keeps its layers in the registry", async () => {
    const { env, called } = await withPlayedBuildx("exit 0");
    const args = { QUOTED: `it's "so" $HOME \`id\` ; #`, LINES: "first\nsecond" };
    const job = { ...plain, image: `${host}/a:1`, cache: `${host}/a/cache:cache`, args, target: "one two" };
    const { ending } = await run({ ...job, labels: { "shipway.app": "shop" } }, "FROM x\n", env);
    expect(ending).toEqual({});
    const [, created = [], built = []] = await called();
    expect(created.slice(0, 2)).toEqual(["buildx", "create"]);
    for (const words of [
      ["--build-arg", `QUOTED=${args.QUOTED}`],
      ["--build-arg", `LINES=${args.LINES}`],
      ["--label", "shipway.app=shop"],
      ["--target", "one two"],
      ["--cache-from", `type=registry,ref=${host}/a/cache:cache`],
      [
        "--cache-to",
        `type=registry,ref=${host}/a/cache:cache,mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true`,
      ],
      ["--output", `type=image,name=${host}/a:1,push=true`],
    ])
      expect(built.slice(built.indexOf(words[1] ?? "") - 1).slice(0, 2)).toEqual(words);
    expect(built.at(-1)).toBe("-");
  });

  it("reads what buildx says, in indented JSON or a line each, and its last error", async () => {
    const vertex = { digest: "sha256:a", name: "[2/2] RUN false", started: "2026-11-26T08:00:00.1Z" };
    const failed = { ...vertex, completed: "2026-11-26T08:00:01.1Z", error: "exit code: 1" };
    const logs = [
      { vertex: "sha256:a", stream: 1, data: Buffer.from("so {\n").toString("base64"), timestamp: vertex.started },
    ];
    const printed = [
      JSON.stringify({ vertexes: [vertex] }, null, 2),
      JSON.stringify({ logs }),
      JSON.stringify({ vertexes: [failed] }, null, 2),
      "------",
      " > [2/2] RUN false:",
      'ERROR: failed to solve: process "/bin/sh -c false" did not complete successfully: exit code: 1',
    ].join("\n");
    await writeFile(join(dir, "printed"), `${printed}\n`);
    const { env } = await withPlayedBuildx(`cat ${dir}/printed >&2; exit 1`);
    const { ending, lines } = await run({ ...plain, image: `${host}/a:1` }, "FROM x\n", env);
    expect(ending?.at).toBe("build");
    expect(ending?.error).toMatch(/^failed to solve: process .* exit code: 1$/);
    expect(lines).toEqual(["[2/2] RUN false", "so {", "[2/2] failed after 1.0 s"]);
  });
});
