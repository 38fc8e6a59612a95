import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type Docker from "dockerode";
import type { GitCommand } from "../../source/git-command.ts";
import { AppSpec } from "../../spec/app-spec.ts";
import type { ImagePlan } from "../builder.ts";
import { type ImageSource, planImages } from "../plan-images.ts";

const run = promisify(execFile);

/** The smallest local image with a shell; made by scripts/offline-images, or pulled. */
export async function findBase(docker: Docker): Promise<string | undefined> {
  for (const name of ["debian:bookworm-slim", "node:20-bookworm-slim"]) {
    const there = await docker
      .getImage(name)
      .inspect()
      .then(
        () => true,
        () => false,
      );
    if (there) return name;
  }
  return undefined;
}

/** A repository of its own per commit of some files, and plans for the images in it. */
export class Workshop {
  readonly app = `t${randomBytes(5).toString("hex")}`;
  readonly #dirs: string[] = [];
  readonly #git: GitCommand;

  constructor(git: GitCommand) {
    this.#git = git;
  }

  async commit(files: Record<string, string>): Promise<Pick<ImageSource, "app" | "repositoryDir" | "commit">> {
    const dir = await mkdtemp(join(tmpdir(), "shipway-image-"));
    this.#dirs.push(dir);
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(dir, path)), { recursive: true });
      await writeFile(join(dir, path), content);
    }
    const as = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
    await run("git", ["-C", dir, "init", "-q"]);
    await run("git", ["-C", dir, "add", "-A"]);
    await run("git", ["-C", dir, ...as, "commit", "-q", "-m", "x"]);
    const { stdout } = await run("git", ["-C", dir, "rev-parse", "HEAD"]);
    return { app: this.app, repositoryDir: dir, commit: stdout.trim() };
  }

  async plan(
    service: string,
    dockerfile: string,
    files: Record<string, string> = {},
    build: Record<string, unknown> = {},
  ): Promise<ImagePlan> {
    const nonce = randomBytes(8).toString("hex");
    const source = await this.commit({ Dockerfile: dockerfile, "nonce.txt": nonce, ...files });
    const [plan] = await this.plans(source, { [service]: build });
    if (!plan) throw new Error("no plan");
    return plan;
  }

  plans(
    source: Pick<ImageSource, "app" | "repositoryDir" | "commit">,
    builds: Record<string, Record<string, unknown>>,
  ): Promise<ImagePlan[]> {
    const services = Object.fromEntries(Object.entries(builds).map(([name, build]) => [name, { build }]));
    const spec = AppSpec.parse({ app: "shop", services });
    return planImages({ namespace: "shipway", ...source, services: spec.services }, this.#git);
  }

  async close(): Promise<void> {
    for (const dir of this.#dirs) await rm(dir, { recursive: true, force: true });
  }
}
