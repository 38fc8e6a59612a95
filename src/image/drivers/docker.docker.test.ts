import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasCode } from "../../shared/errors.ts";
import type { LogLine } from "../../shared/log-line.ts";
import { until } from "../../shared/until.ts";
import { gitCommand } from "../../source/git-command.ts";
import type { BuildFailure, ImageBuilder } from "../builder.ts";
import { describeImageBuilder } from "../contract.ts";
import { dockerBuilder } from "./docker.ts";
import { findBase, Workshop } from "./testing.ts";

const docker = new Docker({ socketPath: "/var/run/docker.sock" });
const git = gitCommand(process.env.PATH ?? "/usr/bin:/bin");
const run = promisify(execFile);

const base = await findBase(docker);
if (base === undefined) {
  console.warn(
    "image builder on Docker: skipped, there is neither debian:bookworm-slim nor node:20-bookworm-slim; run scripts/offline-images",
  );
}

async function close(shop: Workshop): Promise<void> {
  await dockerBuilder({ docker, git }).prune(shop.app, []);
  await shop.close();
}

describe.skipIf(base === undefined)("on the Docker Engine", () => {
  describeImageBuilder("docker", async () => {
    const shop = new Workshop(git);
    const withRun = (command: string) => (service: string) =>
      shop.plan(service, `FROM ${base}\nCOPY nonce.txt /\nRUN ${command}\n`);
    return {
      builder: dockerBuilder({ docker, git }),
      app: shop.app,
      goodPlan: withRun("cat /nonce.txt"),
      brokenPlan: withRun("cat /nonce.txt && echo && echo compiling && exit 3"),
      slowPlan: withRun("echo begun && sleep 90"),
      presentImage: base ?? "",
      absentImage: `shipway-nowhere-${shop.app}/none:1`,
      close: () => close(shop),
    };
  });

  describe("docker builder", () => {
    let shop: Workshop;
    let builder: ImageBuilder;
    beforeAll(() => {
      shop = new Workshop(git);
      builder = dockerBuilder({ docker, git });
    });
    afterAll(() => close(shop));

    const logged = async (plan: Awaited<ReturnType<Workshop["plan"]>>) => {
      const lines: LogLine[] = [];
      const outcome = await builder.build(plan, (some) => lines.push(...some));
      return { outcome, text: lines.map(({ text }) => text) };
    };
    const failureOf = async (dockerfile: string, files: Record<string, string> = {}): Promise<BuildFailure> => {
      const outcome = await builder.build(await shop.plan("web", dockerfile, files), () => {});
      if (outcome.status === "built") throw new Error("the build did not fail");
      return outcome.failure;
    };

    it("shows each step, its output and what came from the cache", async () => {
      const files = { "a.txt": "a" };
      const dockerfile = `FROM ${base}\nARG WHO\nCOPY a.txt /\nRUN echo hello $WHO; echo oops >&2\nCOPY nonce.txt /\n`;
      const args = { args: { WHO: shop.app } };
      const first = await logged(await shop.plan("web", dockerfile, files, args));
      expect(first.text).toEqual(
        expect.arrayContaining([`[3/4] RUN echo hello ${shop.app}; echo oops >&2`, `hello ${shop.app}`, "oops"]),
      );
      expect(first.text.some((line) => /^\[3\/4\] done in \d/.test(line))).toBe(true);
      const second = await logged(await shop.plan("web", dockerfile, files, args));
      // A step that was seen to begin, before the engine found it in its cache, ends on a line of its own.
      expect(
        second.text.some((line) => /^\[3\/4\] (RUN .* )?CACHED$/.test(line)),
        second.text.join("\n"),
      ).toBe(true);
      expect(second.text).not.toContain(`hello ${shop.app}`);
    });

    it("builds a stage with cache mounts and copies from other stages and images, with no registry", async () => {
      const dockerfile = [
        `FROM ${base} AS tools`,
        "RUN --mount=type=cache,target=/c echo tool > /c/x && cp /c/x /tool",
        `FROM ${base} AS runtime`,
        "COPY --from=tools /tool /tool",
        `COPY --from=${base} /bin/sh /other`,
        "EXPOSE 8080 9090/udp",
        "FROM runtime AS later",
        "RUN exit 9",
      ].join("\n");
      const { outcome } = await logged(await shop.plan("web", dockerfile, {}, { target: "runtime" }));
      expect(outcome).toMatchObject({ status: "built", image: { exposedPorts: [8080, 9090] } });
    });

    it("labels the image with app and service", async () => {
      const plan = await shop.plan("api", `FROM ${base}\nCOPY nonce.txt /\n`);
      await builder.build(plan, () => {});
      const { Config } = await docker.getImage(plan.name).inspect();
      expect(Config.Labels).toMatchObject({ "shipway.app": shop.app, "shipway.service": "api" });
    });

    it("leaves out what .dockerignore names, and nothing that .gitattributes marks", async () => {
      const files = {
        ".dockerignore": "**/*.log\nsecret\n!secret/public\n",
        ".gitattributes": "kept.txt export-ignore\n",
        "kept.txt": "k",
        "x.log": "l",
        "deep/er/y.log": "l",
        "secret/private": "s",
        "secret/public": "p",
      };
      const { text } = await logged(
        await shop.plan("web", `FROM ${base}\nCOPY . /ctx\nRUN cd /ctx && find . -type f | sort\n`, files),
      );
      const found = text.filter((line) => line.startsWith("./"));
      expect(found).toEqual([
        "./.dockerignore",
        "./.gitattributes",
        "./Dockerfile",
        "./kept.txt",
        "./nonce.txt",
        "./secret/public",
      ]);
    });

    it("says where a command failed, also behind another stage and a continued line", async () => {
      const failure = await failureOf(
        `FROM ${base} AS one\nCOPY nonce.txt /\nFROM one AS two\n# why\nRUN echo a \\\n  && echo b\nRUN echo last words; exit 4\n`,
      );
      expect(failure).toMatchObject({ dockerfileLine: 7, lastLines: ["last words"] });
      expect(failure.message).toBe("Dockerfile:7: RUN echo last words; exit 4 ended with exit code 4");
    });

    it.each([
      { name: "an unknown instruction", body: "RNU x", line: 2, message: /unknown instruction: RNU/ },
      {
        name: "a file that is not committed",
        body: "COPY dist /app",
        line: 2,
        message: /"dist" is not in the build context/,
      },
    ])("says where $name stands", async ({ body, line, message }) => {
      const failure = await failureOf(`FROM ${base}\n${body}\n`);
      expect(failure.message).toMatch(message);
      expect(failure.dockerfileLine).toBe(line);
    });

    it("says that a base image cannot be had, or that the syntax line wants one", async () => {
      const absent = await shop.plan("web", `FROM localhost:9/nowhere/base:1\n`);
      await expect(builder.build(absent, () => {})).rejects.toMatchObject({
        code: "IMAGE_UNAVAILABLE",
        message: expect.stringMatching(/Dockerfile:1 needs .*nowhere\/base:1/),
      });
      const frontend = await shop.plan("web", `# syntax=localhost:9/docker/dockerfile:1\nFROM ${base}\n`);
      await expect(builder.build(frontend, () => {})).rejects.toMatchObject({
        code: "IMAGE_UNAVAILABLE",
        hint: expect.stringMatching(/Remove the `# syntax=` line/),
      });
    });

    it("refuses to begin on a disk that is nearly full", async () => {
      const cramped = dockerBuilder({ docker, git, freeBytes: async () => 100 * 1024 * 1024 });
      const plan = await shop.plan("web", `FROM ${base}\nCOPY nonce.txt /\n`);
      await expect(cramped.build(plan, () => {})).rejects.toMatchObject({
        code: "DISK_FULL",
        message: expect.stringContaining("100 MiB"),
      });
    });

    it("says DOCKER_UNREACHABLE when there is no engine", async () => {
      const nowhere = dockerBuilder({ docker: new Docker({ socketPath: "/nonexistent/docker.sock" }), git });
      const plan = await shop.plan("web", `FROM ${base}\n`);
      await expect(nowhere.build(plan, () => {})).rejects.toSatisfy((error) => hasCode(error, "DOCKER_UNREACHABLE"));
    });

    it("breaks the build off, and does not hang, when git loses an object on the way", async () => {
      const plan = await shop.plan("web", `FROM ${base}\nCOPY . /\n`, { "z.txt": "z".repeat(10) });
      const { stdout } = await run("git", ["-C", plan.repositoryDir, "rev-parse", `${plan.commit}:z.txt`]);
      await rm(join(plan.repositoryDir, ".git/objects", stdout.slice(0, 2), stdout.slice(2).trim()));
      await expect(builder.build(plan, () => {})).rejects.toMatchObject({ code: "GIT_FAILED" });
      await expect(docker.getImage(plan.name).inspect()).rejects.toMatchObject({ statusCode: 404 });
    });

    it("says DOCKER_UNREACHABLE when the engine goes away in the middle", async () => {
      const socketPath = join(await mkdtemp(join(tmpdir(), "shipway-image-")), "docker.sock");
      const dying = createServer((request, response) => {
        if (request.method === "GET") return response.writeHead(404, { "content-type": "application/json" }).end("{}");
        response.writeHead(200).write('{"id":"moby.buildkit.trace","aux":""}\n{"id":"moby');
        request.resume().on("end", () => response.socket?.destroy());
      });
      await new Promise<void>((resolve) => dying.listen(socketPath, resolve));
      try {
        const plan = await shop.plan("web", `FROM ${base}\n`);
        const building = dockerBuilder({ docker: new Docker({ socketPath }), git }).build(plan, () => {});
        await expect(building).rejects.toSatisfy((error) => hasCode(error, "DOCKER_UNREACHABLE"));
      } finally {
        dying.close();
        await rm(dirname(socketPath), { recursive: true, force: true });
      }
    });

    it("stops the command inside the engine, too, when the build is aborted", async () => {
      const command = `sleep 61.${randomBytes(3).readUIntBE(0, 3)}`;
      const isRunning = async () => (await run("ps", ["-eo", "args"])).stdout.split("\n").includes(command);
      const plan = await shop.plan("web", `FROM ${base}\nCOPY nonce.txt /\nRUN ["sleep", "${command.slice(6)}"]\n`);
      const controller = new AbortController();
      const building = builder.build(plan, () => {}, controller.signal);
      building.catch(() => {});
      await until("the command runs", isRunning);
      controller.abort(new Error("a newer change came"));
      await expect(building).rejects.toThrow("a newer change came");
      await until("the end of the command", async () => !(await isRunning()));
    });
  });
});
