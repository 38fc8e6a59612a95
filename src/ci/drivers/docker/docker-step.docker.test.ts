import { existsSync } from "node:fs";
import { chmod, lstat, mkdir, readdir, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hasRegistry, newTestRegistry, newTokenServer } from "../../../image/registry/testing.ts";
import type { LogLine } from "../../../shared/log-line.ts";
import { newId } from "../../../shared/new-id.ts";
import { Secret } from "../../../shared/secret.ts";
import { until } from "../../../shared/until.ts";
import type { ServicePlan, StepPlan, StepProgress } from "../../executor.ts";
import { said, stepPlan } from "../contract.ts";
import { commitAll, type DockerSubject, openDockerSubject } from "./docker-subject.ts";

let subject: DockerSubject;
beforeEach(async () => {
  subject = await openDockerSubject({ serviceDeadlineMs: 60_000 });
});
afterEach(() => subject.close());

async function run(step: Partial<StepPlan> & Pick<StepPlan, "script">, runId = subject.context.runId) {
  const lines: LogLine[] = [];
  const progress: StepProgress[] = [];
  const plan = stepPlan({ image: subject.image, ...step });
  const outcome = await subject.executor.runStep({ ...subject.context, runId }, plan, (batch) => lines.push(...batch), {
    alreadyLogged: 0,
    onProgress: (event) => progress.push(event),
  });
  const remarks = lines.filter(({ stream }) => stream === "meta").map(({ text }) => text);
  return { outcome, progress, said: said(lines), remarks };
}

/** A step that is running: its container's name and, later, its outcome. */
function begin(step: Partial<StepPlan> & Pick<StepPlan, "script">) {
  const lines: LogLine[] = [];
  const plan = stepPlan({ image: subject.image, ...step });
  const outcome = subject.executor.runStep(subject.context, plan, (batch) => lines.push(...batch), {
    alreadyLogged: 0,
  });
  return { outcome, said: () => said(lines) };
}

const containers = (role: string) =>
  subject.docker.listContainers({
    filters: { label: [`shipway.instance=${subject.instance}`, `shipway.role=${role}`] },
  });

describe("a script", () => {
  it("is one shell: directory, variables and an `if` over several entries carry on, in bash where there is one", async () => {
    const script = [
      "cd /tmp",
      "X=1",
      "if true; then",
      'echo "$PWD $X"',
      "fi",
      "[[ $X == 1 ]] && echo bash",
      "printf 'a\\nb'",
    ];
    const { said, outcome } = await run({ script });
    expect(outcome.status).toBe("passed");
    expect(said).toEqual(expect.arrayContaining(["/tmp 1", "bash", "a", "b"]));
  });

  it("keeps the order of both streams, and hides its markers even from `set -x`", async () => {
    const script = ["set -x", "for n in 1 2 3; do echo out$n; echo err$n >&2; done", "echo end"];
    const { said, outcome } = await run({ script });
    const plain = said.filter((line) => /^(out|err)\d$/.test(line));
    expect(plain).toEqual(["out1", "err1", "out2", "err2", "out3", "err3"]);
    expect(said.join("\n")).not.toMatch(/\u001d|scriptEnd|proc\/1/);
    expect(outcome.commands).toHaveLength(3);
  });

  it("cannot be fooled by output that imitates its markers", async () => {
    // The script can read its own nonce; its standard output and error are no way for it to use it.
    const forge =
      "nonce=$(sed -n \"s/.*scriptEnd %s.n' '\\\\([0-9a-f]*\\\\)'.*/\\\\1/p\" /opt/atlassian/pipelines/agent/scripts/main.sh)";
    const script = [
      forge,
      'test -n "$nonce"',
      "printf '\\035%s scriptEnd 0\\n' $nonce | tee /dev/stderr",
      "set -v",
      "exit 6",
    ];
    const { outcome } = await run({ script });
    expect(outcome).toMatchObject({ status: "failed", exitCode: 6, failedCommand: "exit 6" });
  });

  it("shows long lines whole, multi-byte characters unbroken and only the last state of a progress bar", async () => {
    const script = [
      `head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'ä%.0s' $(seq 12000); echo; printf '1%%\\r2%%\\r100%%\\n'`,
    ];
    const { said } = await run({ script });
    expect(said.filter((line) => line === "x".repeat(40_000))).toHaveLength(1);
    expect(said.filter((line) => line === "ä".repeat(12_000))).toHaveLength(1);
    expect(said.at(-1)).toBe("100%");
  });

  it("has the checkout on its branch at the commit, and Bitbucket's variables", async () => {
    const script = [
      'echo "$(git rev-parse HEAD) $(git branch --show-current) $PWD"',
      'echo "$CI $BITBUCKET_BRANCH $BITBUCKET_BUILD_NUMBER $BITBUCKET_COMMIT $BITBUCKET_CLONE_DIR"',
    ];
    const { said } = await run({ script, image: "node:20-bookworm-slim" });
    const { commit } = subject.context;
    expect(said).toContain(`true main 7 ${commit} /opt/atlassian/pipelines/agent/build`);
  });

  it("cannot reach the repository that it was cloned from", async () => {
    const objects = join(subject.repositoryDir, ".git/objects");
    await run({ script: ["find .git/objects -type f -exec chmod u+w {} + -exec sh -c 'echo broken > $1' sh {} ';'"] });
    const [first] = (await readdir(objects)).filter((name) => name.length === 2);
    const [object = ""] = await readdir(join(objects, first ?? ""));
    expect((await lstat(join(objects, first ?? "", object))).nlink).toBe(1);
    await expect(commitAll(subject.repositoryDir, "still whole").catch((error) => String(error))).resolves.not.toMatch(
      /corrupt/,
    );
  });

  it("never shows a secret in arguments or labels", async () => {
    subject.context.secrets.TOKEN = new Secret("TOKEN", "very-s3cret");
    const { outcome, said } = begin({ script: ["echo begun", "sleep 30"] });
    await until("the step begins", () => said().includes("begun"));
    const [step] = await containers("step");
    const { Config, Args, Path, Name } = await subject.docker.getContainer(step?.Id ?? "").inspect();
    expect(JSON.stringify([Config.Labels, Config.Cmd, Config.Entrypoint, Args, Path, Name])).not.toContain(
      "very-s3cret",
    );
    await subject.docker.getContainer(step?.Id ?? "").remove({ force: true });
    await outcome;
  });
});

describe.skipIf(!hasRegistry)("a private image", () => {
  it("is fetched with the team's login, which is shown nowhere, and says so where that is wrong", async () => {
    const tokens = await newTokenServer("ada:r3gistry-password");
    const registry = await newTestRegistry(tokens.auth);
    const repo = `${new URL(registry.endpoint).host}/private/base`;
    const ofAda = { username: "ada", password: "r3gistry-password", serveraddress: registry.endpoint };
    const remove = () => subject.docker.getImage(`${repo}:1`).remove({ force: true });
    try {
      await subject.docker.getImage(subject.image).tag({ repo, tag: "1" });
      const pushing = await subject.docker.getImage(`${repo}:1`).push({ tag: "1", authconfig: ofAda });
      await new Promise<void>((resolve, reject) => {
        subject.docker.modem.followProgress(pushing, (error) => (error ? reject(error) : resolve()));
      });
      await remove();
      subject.context.variables.R_USER = "ada";
      const login = { username: "$R_USER", password: `$\{R_PASSWORD}` };
      const service: ServicePlan = { name: "beside", image: `${repo}:1`, login, variables: {}, memoryMiB: 128 };
      subject.context.secrets.R_PASSWORD = new Secret("R_PASSWORD", "wr0ng-password");
      const refused = run({ script: ["echo never"], image: `${repo}:1`, login });
      await expect(refused).rejects.toMatchObject({
        code: "IMAGE_UNAVAILABLE",
        hint: expect.stringContaining("the values that its `username` and `password` take"),
        message: expect.not.stringContaining("wr0ng"),
      });
      subject.context.secrets.R_PASSWORD = new Secret("R_PASSWORD", "r3gistry-password");
      const step = await run({ script: ["echo fetched"], image: `${repo}:1`, login });
      expect(step).toMatchObject({ outcome: { status: "passed" }, said: expect.arrayContaining(["fetched"]) });
      await remove();
      const beside = await run({ script: ["echo beside"], services: [service] }, newId("run"));
      expect(beside.outcome.status).toBe("passed");
    } finally {
      await remove().catch(() => undefined);
      await Promise.all([registry.cleanUp(), tokens.cleanUp()]);
    }
  }, 90_000);
});

describe("a step that ends badly", () => {
  it("says that its container was removed by hand", async () => {
    const { outcome, said } = begin({ script: ["echo begun", "sleep 60"] });
    await until("the step begins", () => said().includes("begun"));
    const [step] = await containers("step");
    await subject.docker.getContainer(step?.Id ?? "").remove({ force: true });
    expect(await outcome).toMatchObject({
      status: "failed",
      reason: "the step's container was removed while it ran: start the pipeline again",
    });
  });

  it("says that it ran out of memory", async () => {
    const { outcome } = await run({ script: ["tail /dev/zero"], memoryMiB: 32 });
    expect(outcome.status).toBe("failed");
    expect(outcome.reason).toMatch(/^`tail \/dev\/zero` ran out of memory \(the step has 32 MB\)/);
  });

  it("says that its container was killed", async () => {
    const { outcome, said } = begin({ script: ["echo begun", "sleep 60"] });
    await until("the step begins", () => said().includes("begun"));
    const [step] = await containers("step");
    await subject.docker.getContainer(step?.Id ?? "").kill();
    expect(await outcome).toMatchObject({
      status: "failed",
      exitCode: 137,
      failedCommand: "sleep 60",
      reason: "the step's container was stopped during `sleep 60` (exit code 137)",
    });
  });
});

describe("services", () => {
  const redis: ServicePlan = { name: "redis", image: "redis:7", variables: {}, memoryMiB: 256 };
  const mysql: ServicePlan = {
    name: "mysql",
    image: "mariadb:10.11",
    variables: {
      MYSQL_DATABASE: "shop",
      MYSQL_USER: "app",
      MYSQL_PASSWORD: "$DB_PASSWORD",
      MYSQL_ROOT_PASSWORD: "root",
    },
    memoryMiB: 512,
  };

  it("answer on localhost when the script starts, the declared user on the declared database", async () => {
    subject.context.secrets.DB_PASSWORD = new Secret("DB_PASSWORD", "pw-of-app");
    const query = 'mariadb -h127.0.0.1 -uapp -ppw-of-app shop -e "create table t (id int); show tables"';
    const script = [query, "(echo PING; sleep 0.2) > /dev/tcp/localhost/6379"];
    const { outcome, progress, remarks } = await run({ image: "mariadb:10.11", script, services: [mysql, redis] });
    expect(outcome).toMatchObject({ status: "passed" });
    expect(progress.filter(({ kind }) => kind === "serviceReady")).toHaveLength(2);
    expect(remarks.some((text) => text.startsWith("service mysql ready after"))).toBe(true);
    expect(await subject.left()).toBe(0);
  }, 90_000);

  it("fail the step with their own last lines when they stop before they answer", async () => {
    const broken = { ...mysql, variables: {} };
    const { outcome, said } = await run({ script: ["echo never"], services: [broken] });
    expect(outcome.status).toBe("failed");
    expect(outcome.reason).toMatch(/^service mysql \(mariadb:10\.11\) stopped with exit code \d+ before it answered/);
    expect(outcome.lastLines.join("\n")).toMatch(/PASSWORD/);
    expect(said).toEqual([]);
    expect(await subject.left()).toBe(0);
  }, 60_000);

  it("outlive a crash together with their step", async () => {
    const lines: LogLine[] = [];
    const script = [
      "echo begun",
      "sleep 3",
      "(printf 'PING\\r\\n'; sleep 0.3) | bash -c 'exec 3<>/dev/tcp/localhost/6379; cat >&3; head -1 <&3'",
    ];
    const step = stepPlan({ image: subject.image, script, services: [redis] });
    const cut = subject.executor.runStep(subject.context, step, (batch) => lines.push(...batch), { alreadyLogged: 0 });
    cut.catch(() => undefined);
    await until("the step begins", () => said(lines).includes("begun"));
    const restarted = await subject.crash();
    await cut.catch(() => undefined);
    const outcome = await restarted.runStep(subject.context, step, (batch) => lines.push(...batch), {
      alreadyLogged: lines.length,
    });
    expect(outcome.status).toBe("passed");
    expect(said(lines).at(-1)).toContain("PONG");
    expect(await subject.left()).toBe(0);
  }, 60_000);

  it("are not waited for when the step is canceled", async () => {
    const cancel = new AbortController();
    const step = stepPlan({ image: subject.image, script: ["echo never"], services: [mysql] });
    const running = subject.executor.runStep(subject.context, step, () => undefined, {
      alreadyLogged: 0,
      signal: cancel.signal,
    });
    await until("the service starts", async () => (await containers("service")).length > 0);
    cancel.abort();
    expect(await running).toMatchObject({ status: "canceled" });
    expect(await subject.left()).toBe(0);
  }, 60_000);
});

describe("artifacts", () => {
  it("reach later stages, not siblings, with their modes", async () => {
    const make =
      "mkdir -p dist/deep && echo 1 > dist/a.js && echo 2 > dist/deep/b.js && chmod +x dist/a.js && echo 3 > other";
    const first = await run({ script: [make], artifacts: ["dist/**"] });
    expect(first.remarks).toContain("kept 2 artifact files");
    const look = "find . -path ./.git -prune -o -type f -print | sort; test -x dist/a.js";
    const later = await run({ id: "2", stage: 1, script: [look] });
    expect(later.said.filter((line) => line.startsWith("./"))).toEqual([
      "./README.md",
      "./dist/a.js",
      "./dist/deep/b.js",
      "./package-lock.json",
    ]);
    const sibling = await run({ id: "1.2", stage: 0, script: ["ls"] });
    expect(sibling.said).not.toContain("dist");
    const picky = await run({ id: "3", stage: 2, script: ["ls"], downloadArtifacts: [] });
    expect(picky.said).not.toContain("dist");
  });

  it("do not let links lead out of the checkout, neither when kept nor when restored", async () => {
    const outside = join(subject.workDir, "..", "outside");
    await mkdir(outside);
    await chmod(outside, 0o777);
    await writeFile(join(outside, "host-secret"), "x");
    const script = [
      `mkdir out && ln -s ${outside}/host-secret out/file && ln -s ${outside} out/dir && ln -s ../README.md out/good && mkdir target && echo mine > target/owned`,
    ];
    const { remarks } = await run({ script, artifacts: ["out/**", "target/**"] });
    expect(remarks.filter((text) => text.includes("it is a link out of the checkout"))).toHaveLength(2);
    // The next checkout has a committed link where the artifact's directory was.
    await symlink(outside, join(subject.repositoryDir, "target"));
    subject.context.commit = await commitAll(subject.repositoryDir, "a link");
    const later = await run({ id: "2", stage: 1, script: ["cat target/owned", "ls out"] });
    expect(later.said).toEqual(expect.arrayContaining(["mine", "good"]));
    expect(await readdir(outside)).toEqual(["host-secret"]);
  });

  it("say what to write when a directory is named alone", async () => {
    const { remarks, outcome } = await run({ script: ["mkdir dist && echo 1 > dist/a"], artifacts: ["dist"] });
    expect(outcome.status).toBe("passed");
    expect(remarks).toContain("artifact dist matches no file; for all files of a directory write dist/**");
  });
});

describe("caches", () => {
  const node = { name: "node", path: "node_modules", keyFiles: ["package-lock.json"] };
  const home = { name: "npm", path: "~/.npm", keyFiles: [] };

  it("are kept after the first step that passes, and restored as they were, in the checkout and outside", async () => {
    const script = ["mkdir -p node_modules/a ~/.npm/x", "echo 1 > node_modules/a/i.js", "echo 2 > ~/.npm/x/y"];
    const first = await run({ script, caches: [node, home] });
    expect(first.remarks.filter((text) => /^cache (node|npm): kept/.test(text))).toHaveLength(2);
    const second = await run({
      id: "2",
      script: ["cat node_modules/a/i.js ~/.npm/x/y", "echo changed > node_modules/a/i.js", "rm -rf node_modules"],
      caches: [node, home],
    });
    expect(second.outcome.status).toBe("passed");
    expect(second.said).toEqual(expect.arrayContaining(["1", "2"]));
    const third = await run({ id: "3", script: ["cat node_modules/a/i.js"], caches: [node, home] });
    expect(third.said).toContain("1");
  });

  it("are not kept after a step that failed, and are others when a key file changes", async () => {
    const failed = await run({ script: ["mkdir node_modules", "exit 1"], caches: [node] });
    expect(failed.remarks).not.toContain(expect.stringMatching(/kept/));
    const again = await run({ id: "2", script: ["mkdir node_modules && echo old > node_modules/v"], caches: [node] });
    expect(again.remarks).toContain("cache node: nothing kept yet");
    await writeFile(join(subject.repositoryDir, "package-lock.json"), '{"new":true}\n');
    subject.context.commit = await commitAll(subject.repositoryDir, "other lock");
    const other = await run({ id: "3", script: ["test ! -e node_modules"], caches: [node] });
    expect(other.outcome.status).toBe("passed");
  });

  it("are made anew after 7 days", async () => {
    await run({ script: ["mkdir node_modules"], caches: [node] });
    const dir = join(subject.workDir, "caches/shop");
    const [name = ""] = await readdir(dir);
    const longAgo = Date.now() / 1_000 - 8 * 24 * 3_600;
    await utimes(join(dir, name), longAgo, longAgo);
    const { remarks } = await run({ id: "2", script: ["mkdir node_modules"], caches: [node] });
    expect(remarks).toContain("cache node: older than 7 days, made anew");
    expect((await lstat(join(dir, name))).mtimeMs).toBeGreaterThan(longAgo * 1_000 + 1_000);
  });

  it("do not follow a committed link out of the checkout", async () => {
    const outside = join(subject.workDir, "..", "outside");
    await mkdir(outside);
    await writeFile(join(outside, "precious"), "x");
    await run({ script: ["mkdir node_modules && echo 1 > node_modules/a"], caches: [{ ...node, keyFiles: [] }] });
    await symlink(outside, join(subject.repositoryDir, "node_modules"));
    subject.context.commit = await commitAll(subject.repositoryDir, "a link");
    const { said } = await run({ id: "2", script: ["cat node_modules/a"], caches: [{ ...node, keyFiles: [] }] });
    expect(said).toContain("1");
    expect(await readdir(outside)).toEqual(["precious"]);
  });
});

describe("forget", () => {
  it("removes the caches of an app and of no other", async () => {
    const cache = { name: "node", path: "node_modules", keyFiles: [] };
    await run({ script: ["mkdir node_modules"], caches: [cache] });
    await subject.executor.forget("other");
    expect(await readdir(join(subject.workDir, "caches"))).toEqual(["shop"]);
    await subject.executor.forget("shop");
    await subject.executor.forget("shop");
    expect(await readdir(join(subject.workDir, "caches"))).toEqual([]);
  });
});

describe("cleanUp", () => {
  it("removes the containers and files of its run and of no other", async () => {
    const other = "run_other";
    await run({ script: ["echo 1 > a"], artifacts: ["a"] });
    await run({ script: ["echo 1 > a"], artifacts: ["a"] }, other);
    await subject.executor.cleanUp(subject.context.runId);
    expect(await readdir(join(subject.workDir, "runs"))).toEqual([other]);
    expect(existsSync(join(subject.workDir, "trash"))).toBe(true);
    expect(await readdir(join(subject.workDir, "trash"))).toEqual([]);
  });
});
