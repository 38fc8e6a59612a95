import { spawnSync } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LogLine } from "../../../shared/log-line.ts";
import { until } from "../../../shared/until.ts";
import { gitCommand } from "../../../source/git-command.ts";
import type { BuildOutcome, ImageBuilder, ImagePlan } from "../../builder.ts";
import { describeImageBuilder } from "../../contract.ts";
import { digestAt, pushImage } from "../../registry/push-image.ts";
import { newTestImage } from "../../registry/testing.ts";
import { findBase, Workshop } from "../testing.ts";
import { type CodeBuildOptions, openCodeBuilder } from "./codebuild-builder.ts";
import { type BuildStage, FAST, hasBuildStage, newBuildStage } from "./testing.ts";

const git = gitCommand(process.env.PATH ?? "/usr/bin:/bin");
const base = hasBuildStage ? await findBase(new Docker({ socketPath: "/var/run/docker.sock" })) : undefined;
if (hasBuildStage && base === undefined)
  console.warn("SKIPPED: builds in CodeBuild. They need a base image: run scripts/offline-images");

/** Builds are really made, by this machine's engine in CodeBuild's place; whatever is said of CodeBuild itself is our belief (test/aws/builds.py). */
describe.skipIf(base === undefined)("in AWS CodeBuild", () => {
  let stage: BuildStage;
  let shop: Workshop;
  beforeAll(async () => {
    stage = await newBuildStage();
    shop = new Workshop(git);
  });
  afterAll(async () => {
    await shop?.close();
    await stage?.cleanUp();
  });

  const sent: Call[] = [];
  const onCall = (call: { service: string; command: string; input: unknown }) => void sent.push(call as Call);
  const open = (changes: Partial<CodeBuildOptions> = {}): Promise<ImageBuilder> =>
    openCodeBuilder({
      settings: stage.settings,
      install: "test",
      git,
      aws: { ...stage.aws, onCall },
      registryEndpoint: stage.registryEndpoint,
      times: FAST,
      ...changes,
    });

  describeImageBuilder("codebuild", async () => {
    // Its own, since the suite is done before the tests below begin.
    const own = new Workshop(git);
    const withRun = (command: string) => (service: string) =>
      own.plan(service, `FROM ${base}\nCOPY nonce.txt /\nRUN ${command}\n`);
    await pushImage({ endpoint: stage.registryEndpoint }, "base/present", "1", newTestImage([]));
    const host = new URL(stage.registryEndpoint).host;
    return {
      builder: await open(),
      app: own.app,
      goodPlan: withRun("cat /nonce.txt"),
      brokenPlan: withRun("cat /nonce.txt && echo && echo compiling && exit 3"),
      slowPlan: withRun("echo begun && sleep 90"),
      presentImage: `${host}/base/present:1`,
      absentImage: `${host}/base/absent:1`,
      close: () => own.close(),
    };
  });

  const logged = async (builder: ImageBuilder, plan: ImagePlan) => {
    const lines: LogLine[] = [];
    const outcome = await builder.build(plan, (some) => lines.push(...some));
    return { outcome, text: lines.map(({ text }) => text) };
  };

  it("leaves an image that is fetched by its digest, and says as of a build here what it did", async () => {
    const plan = await shop.plan(
      "web",
      `FROM ${base} AS first\nCOPY nonce.txt /\nRUN echo one >&2\nFROM first\nRUN echo two\n`,
    );
    const { outcome, text } = await logged(await open(), plan);
    const image = imageOf(outcome);
    const hash = plan.name.split(":")[1] ?? "";
    expect(image.reference).toBe(
      `123456789012.dkr.ecr.eu-central-1.amazonaws.com/shipway/test/${shop.app}/web@${image.digest}`,
    );
    expect(await digestAt({ endpoint: stage.registryEndpoint }, `shipway/test/${shop.app}/web`, hash)).toBe(
      image.digest,
    );
    const shown = text.filter((line) => /RUN|^(one|two)$|done in/.test(line));
    expect(shown.map((line) => line.replace(/ in [\d.]+ m?s$/, " in …"))).toEqual([
      "[first 3/3] RUN echo one >&2",
      "one",
      "[first 3/3] done in …",
      "[stage-1 1/1] RUN echo two",
      "two",
      "[stage-1 1/1] done in …",
    ]);
  });

  it("hands arguments over as they are, whatever is in them", async () => {
    const args = {
      QUOTED: `it's "so" \\ $HOME \`id\` $(id) ; exit 1 #`,
      LINES: "first\nsecond\n\n  third",
      EMPTY: "",
      OTHER: "ünïcode → 日本",
    };
    const asked = Object.keys(args).map((name) => `ARG ${name}\n`);
    const printed = Object.keys(args).map((name) => `printf '%s' "$${name}" | od -An -v -tx1 | tr -d ' \\n' && echo .`);
    const dockerfile = `FROM ${base}\n${asked.join("")}COPY nonce.txt /\nRUN ${printed.join(" && ")}\n`;
    const { outcome, text } = await logged(await open(), await shop.plan("web", dockerfile, {}, { args }));
    expect(outcome.status).toBe("built");
    const told = text.flatMap((line) => /^([0-9a-f]*)\.$/.exec(line)?.[1] ?? []);
    expect(told.map((hex) => Buffer.from(hex, "hex").toString())).toEqual(Object.values(args));
  });

  it("sends a context once for all services that have the same, and their images differ by what they are built for", async () => {
    const dockerfile = `FROM ${base} AS one\nCOPY nonce.txt /\nFROM one AS two\nRUN touch /two\n`;
    const source = await shop.commit({ Dockerfile: dockerfile, "nonce.txt": shop.app });
    const plans = await shop.plans(source, { api: { target: "one" }, worker: { target: "two" } });
    const builder = await open();
    const texts: string[][] = [];
    const digests = new Set<string>();
    for (const plan of plans) {
      const { outcome, text } = await logged(builder, plan);
      texts.push(text);
      digests.add(imageOf(outcome).digest);
    }
    expect(digests.size).toBe(2);
    expect(texts.map((text) => text.filter((line) => line.includes("went to S3")).length)).toEqual([1, 0]);
  });

  /** Of a process that dies a build and its promise are left: nobody hears of it, and nothing of it runs on. */
  const leaveBehind = async (plan: ImagePlan, status: string) => {
    const before = (await stage.startedBuilds()).length;
    const first = await open({ times: { ...FAST, pollMs: 3_600_000 } });
    void first.build(plan, () => undefined).catch(() => undefined);
    await until(`a build that has ${status}`, async () => {
      const [id, ...others] = await stage.startedBuilds();
      if (others.length !== before || id === undefined) return false;
      return (await stage.clients.codebuild.batchGetBuilds({ ids: [id] })).builds?.[0]?.buildStatus === status;
    });
  };

  it("follows the build that runs when Shipway was killed and asks again, and starts no second one", async () => {
    const plan = await shop.plan("web", `FROM ${base}\nCOPY nonce.txt /\nRUN echo begun && sleep 2 && echo ended\n`);
    const before = (await stage.startedBuilds()).length;
    await leaveBehind(plan, "IN_PROGRESS");
    const { outcome, text } = await logged(await open(), plan);
    expect(imageOf(outcome).reused).toBe(false);
    expect(text.filter((line) => /^(begun|ended)$/.test(line))).toEqual(["begun", "ended"]);
    expect(await stage.startedBuilds()).toHaveLength(before + 1);
  });

  it("tells the rest of the log of a build that has left its image meanwhile", async () => {
    const plan = await shop.plan("web", `FROM ${base}\nCOPY nonce.txt /\nRUN echo the rest\n`);
    const before = (await stage.startedBuilds()).length;
    await leaveBehind(plan, "SUCCEEDED");
    const { outcome, text } = await logged(await open(), plan);
    expect(imageOf(outcome).reused).toBe(false);
    expect(text).toContain("the rest");
    expect(imageOf((await logged(await open(), plan)).outcome).reused).toBe(true);
    expect(await stage.startedBuilds()).toHaveLength(before + 1);
  });

  it("finds a build whose start was not recorded any more, by its token", async () => {
    const plan = await shop.plan("web", `FROM ${base}\nCOPY nonce.txt /\nRUN sleep 1\n`);
    const before = (await stage.startedBuilds()).length;
    const killed = await open({ aws: { ...stage.aws, onCall: dieAt("StartBuild") } });
    await expect(killed.build(plan, () => undefined)).rejects.toThrow("killed");
    const cut = await open({ aws: { ...stage.aws, onCall: dieAfterStart() } });
    await expect(cut.build(plan, () => undefined)).rejects.toThrow("killed");
    expect(await stage.startedBuilds()).toHaveLength(before + 1);
    expect(imageOf((await logged(await open(), plan)).outcome).reused).toBe(false);
    expect(await stage.startedBuilds()).toHaveLength(before + 1);
  });

  it("tells a failure that nobody heard of, once, and builds anew when it is asked again", async () => {
    const plan = await shop.plan("web", `FROM ${base}\nCOPY nonce.txt /\nRUN echo compiling && exit 4\n`);
    const before = (await stage.startedBuilds()).length;
    await leaveBehind(plan, "FAILED");
    const builder = await open();
    const told = { status: "failed", failure: { dockerfileLine: 3, lastLines: ["compiling"] } };
    expect((await logged(builder, plan)).outcome).toMatchObject(told);
    expect(await stage.startedBuilds()).toHaveLength(before + 1);
    expect((await logged(builder, plan)).outcome).toMatchObject(told);
    expect(await stage.startedBuilds()).toHaveLength(before + 2);
  });

  it("stops the build in CodeBuild, and the command in it, when it is aborted", async () => {
    const plan = await shop.plan("web", `FROM ${base}\nCOPY nonce.txt /\nRUN echo begun && sleep 90\n`);
    const controller = new AbortController();
    const building = (await open()).build(
      plan,
      (lines) => lines.some(({ text }) => text === "begun") && controller.abort(new Error("a newer change came")),
      controller.signal,
    );
    await expect(building).rejects.toThrow("a newer change came");
    const [id = ""] = await stage.startedBuilds();
    await until("it is stopped", async () => {
      const { builds } = await stage.clients.codebuild.batchGetBuilds({ ids: [id] });
      return builds?.[0]?.buildStatus === "STOPPED" && builds[0].buildComplete;
    });
  });

  it("says where a base image cannot be had, and what helps in CodeBuild", async () => {
    const plan = await shop.plan("web", "FROM localhost:9/nowhere/base:1\n");
    await expect((await open()).build(plan, () => undefined)).rejects.toMatchObject({
      code: "IMAGE_UNAVAILABLE",
      message: expect.stringMatching(
        /Dockerfile:1 needs .*nowhere\/base:1, and its registry does not answer CodeBuild/,
      ),
      hint: expect.stringContaining("public.ecr.aws"),
    });
  });

  const inProject = async (suffix: string, dockerfile: string) => {
    const buildProject = `shipway-${suffix}`;
    await stage.newProject(buildProject);
    const builder = await open({ settings: { ...stage.settings, buildProject } });
    return builder.build(await shop.plan("web", dockerfile), () => undefined);
  };

  it("returns a build that took too long as a result, with what it was doing", async () => {
    const outcome = await inProject("hasty", `FROM ${base}\nCOPY nonce.txt /\nRUN echo begun && sleep 90\n`);
    expect(outcome).toMatchObject({
      status: "failed",
      failure: {
        message: expect.stringContaining("did not end within 60 minutes"),
        lastLines: expect.arrayContaining(["begun"]),
      },
    });
  });

  it("tells a machine that was lost, or never there, from a build that failed", async () => {
    const dockerfile = `FROM ${base}\nCOPY nonce.txt /\nRUN echo begun && sleep 3\n`;
    await expect(inProject("lossy", dockerfile)).rejects.toMatchObject({
      code: "CODEBUILD_FAILED",
      message: expect.stringMatching(/BUILD: .*exit status 137/),
    });
    await expect(inProject("broken", dockerfile)).rejects.toMatchObject({
      code: "CODEBUILD_FAILED",
      message: expect.stringContaining("PROVISIONING: Build container found dead"),
    });
  });

  it("sends what AWS's own Python client takes", () => {
    expect(new Set(sent.map(({ command }) => command)).size).toBeGreaterThan(12);
    const withoutBodies = sent.map(({ service, command, input }) => ({
      service,
      command,
      input: "Body" in input ? { ...input, Body: "" } : input,
    }));
    const lines = withoutBodies.map((call) => JSON.stringify(call)).join("\n");
    const { stdout, stderr } = spawnSync("python3", [join(TEST_AWS, "validate.py"), "requests"], {
      input: lines,
      encoding: "utf8",
    });
    expect(`${stdout}${stderr}`).toBe("");
  });

  it("makes no call that the shipped policies do not name", async () => {
    const files = (await readdir(POLICIES)).filter((name) => name.startsWith("driver-"));
    const texts = await Promise.all(files.map((name) => readFile(join(POLICIES, name), "utf8")));
    const statements = texts.flatMap((text) => (JSON.parse(text) as { Statement: { Action: string[] }[] }).Statement);
    const allowed = new Set(statements.flatMap(({ Action }) => Action));
    const made = new Set(sent.map(({ service, command }) => `${service}:${S3_NAMES[command] ?? command}`));
    expect([...made].filter((action) => !allowed.has(action))).toEqual([]);
  });

  it("names the project that is not there", async () => {
    const plan = await shop.plan("web", `FROM ${base}\n`);
    const elsewhere = await open({ settings: { ...stage.settings, buildProject: "shipway-elsewhere" } });
    await expect(elsewhere.build(plan, () => undefined)).rejects.toMatchObject({
      code: "AWS_NOT_FOUND",
      message: expect.stringContaining("shipway-elsewhere"),
    });
  });
});

function imageOf(outcome: BuildOutcome) {
  if (outcome.status === "built") return outcome.image;
  throw new Error(`the build failed: ${outcome.failure.message}\n${outcome.failure.lastLines.join("\n")}`);
}

type Call = { service: string; command: string; input: object };

const TEST_AWS = join(import.meta.dirname, "../../../../test/aws");
const POLICIES = join(import.meta.dirname, "../../../../terraform/aws-fargate/policies");
/** What S3's calls are allowed as (service authorization reference, Amazon S3). */
const S3_NAMES: Record<string, string> = {
  CopyObject: "PutObject",
  DeleteObjects: "DeleteObject",
  HeadObject: "GetObject",
};

/** The process ends before this call. */
function dieAt(command: string) {
  return (call: { command: string }) => {
    if (call.command === command) throw new Error("killed");
  };
}

/** The process ends behind the start of the build: its first call after that is never made. */
function dieAfterStart() {
  let started = false;
  return (call: { command: string }) => {
    if (started) throw new Error("killed");
    started = call.command === "StartBuild";
  };
}
