import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { gitCommand } from "../source/git-command.ts";
import { AppSpec } from "../spec/app-spec.ts";
import { imageName, planImages } from "./plan-images.ts";

const run = promisify(execFile);
const git = gitCommand(process.env.PATH ?? "/usr/bin:/bin");
const dirs: string[] = [];
afterAll(async () => {
  for (const dir of dirs) await rm(dir, { recursive: true, force: true });
});

async function newRepository() {
  const dir = await mkdtemp(join(tmpdir(), "shipway-plan-"));
  dirs.push(dir);
  await run("git", ["-C", dir, "init", "-q"]);
  return dir;
}

async function commit(dir: string, files: Record<string, string>): Promise<string> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), content);
  }
  await run("git", ["-C", dir, "add", "-A"]);
  await run("git", ["-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", "x"]);
  return (await run("git", ["-C", dir, "rev-parse", "HEAD"])).stdout.trim();
}

const servicesOf = (services: Record<string, unknown>) => AppSpec.parse({ app: "shop", services }).services;
const plan = (repositoryDir: string, commit: string, services: Record<string, unknown>) =>
  planImages({ namespace: "shipway", app: "shop", services: servicesOf(services), repositoryDir, commit }, git);

describe("planImages", () => {
  it("plans each service with build, and none with image", async () => {
    const dir = await newRepository();
    const head = await commit(dir, { Dockerfile: "FROM a", "api/prod.Dockerfile": "FROM b" });
    const plans = await plan(dir, head, {
      web: { build: {} },
      cache: { image: "redis:7" },
      api: { build: { context: "./api/", dockerfile: "prod.Dockerfile", target: "run", args: { A: 1 } } },
    });
    expect(plans).toMatchObject([
      { service: "web", context: ".", dockerfile: "Dockerfile", args: {}, repositoryDir: dir, commit: head },
      { service: "api", context: "api", dockerfile: "prod.Dockerfile", target: "run", args: { A: "1" } },
    ]);
    expect(plans[0]?.name).toMatch(/^shipway\/shop\/web:[0-9a-f]{20}$/);
  });

  it("keeps the name while the context is the same, whatever else the commit changed", async () => {
    const dir = await newRepository();
    const services = { web: { build: { context: "web" } } };
    const first = await commit(dir, { "web/Dockerfile": "FROM a", "api/x": "1" });
    const second = await commit(dir, { "api/x": "2" });
    const third = await commit(dir, { "web/y": "3" });
    const names = await Promise.all([first, second, third].map(async (at) => (await plan(dir, at, services))[0]?.name));
    expect(names[1]).toBe(names[0]);
    expect(names[2]).not.toBe(names[0]);
  });

  it("names what is missing for every service, what is there instead, and the lines to write", async () => {
    const dir = await newRepository();
    const head = await commit(dir, { "docker/web.Dockerfile": "FROM a", "src/x": "1" });
    const problem = plan(dir, head, { web: { build: {} }, api: { build: { context: "server" } } });
    await expect(problem).rejects.toMatchObject({
      code: "DOCKERFILE_MISSING",
      message: `Service web: there is no Dockerfile at commit ${head.slice(0, 8)}.\nService api: the build context server is not a folder at commit ${head.slice(0, 8)}.`,
      hint: expect.stringContaining("`dockerfile: docker/web.Dockerfile` under services.web.build"),
    });
  });

  it("does not suggest a path outside the context", async () => {
    const dir = await newRepository();
    const head = await commit(dir, { "docker/Dockerfile": "FROM a", "web/x": "1" });
    await expect(plan(dir, head, { web: { build: { context: "web" } } })).rejects.toMatchObject({
      hint: expect.stringContaining("`context: docker` under services.web.build"),
    });
  });

  it("takes neither a folder called Dockerfile nor a file as the context", async () => {
    const dir = await newRepository();
    const head = await commit(dir, { "Dockerfile/x": "1", file: "2" });
    await expect(plan(dir, head, { web: { build: {} } })).rejects.toMatchObject({ code: "DOCKERFILE_MISSING" });
    await expect(plan(dir, head, { web: { build: { context: "file" } } })).rejects.toMatchObject({
      code: "DOCKERFILE_MISSING",
    });
  });

  it("says so when the commit is not there", async () => {
    const dir = await newRepository();
    await commit(dir, { Dockerfile: "FROM a" });
    await expect(plan(dir, "0".repeat(40), { web: { build: {} } })).rejects.toMatchObject({ code: "COMMIT_NOT_FOUND" });
  });
});

describe("imageName", () => {
  const content = { tree: "t", dockerfile: "Dockerfile", dockerfileBlob: "b", args: { A: "1", B: "2" } };

  it("is the same for the same content, whatever the order of the arguments", () => {
    expect(imageName("shipway", "shop", "web", { ...content, args: { B: "2", A: "1" } })).toBe(
      imageName("shipway", "shop", "web", content),
    );
  });

  it.each([
    ["tree", { tree: "t2" }],
    ["Dockerfile", { dockerfileBlob: "b2" }],
    ["Dockerfile's path", { dockerfile: "x" }],
    ["target", { target: "run" }],
    ["an argument", { args: { A: "1", B: "3" } }],
    ["where an argument ends", { args: { A: "1B2" } }],
  ])("changes with the %s", (_, change) => {
    expect(imageName("shipway", "shop", "web", { ...content, ...change })).not.toBe(
      imageName("shipway", "shop", "web", content),
    );
  });
});
