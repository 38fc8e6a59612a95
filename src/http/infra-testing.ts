import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { terraformCli } from "../infra/drivers/terraform-cli.ts";
import type { StartedRun } from "../infra/runs.ts";
import type { Terraform } from "../infra/terraform.ts";
import type { StartedTeardown } from "../release/teardowns.ts";
import { assertNever } from "../shared/assert-never.ts";
import { runProgram } from "../shared/run-program.ts";
import { until } from "../shared/until.ts";
import { createApp } from "../source/apps.ts";
import type { DurableStep } from "../workflow/durable.ts";
import { applyInfra, type InfraStageDeps, runInfra } from "../workflow/infra-stages.ts";
import { finishTeardown, runTeardown, type TeardownDeps } from "../workflow/teardown.ts";
import type { InfraRunView, InfraView, RecoveryView } from "./infra-schemas.ts";
import { serveGit } from "./serve-git.ts";
import { newTestPlatform, type TestPlatform } from "./testing.ts";

export type InfraTest = TestPlatform & {
  /** Commits these files to `main` of the app `shop`, the rest staying as it is, and returns the commit. */
  commit(files: Record<string, string>): Promise<string>;
  /** As an admin. */
  ask<T>(method: "GET" | "POST", path: string, body?: object): Promise<T>;
  /** The status and body of a request that may be refused. */
  tryAsk(
    method: "GET" | "POST",
    path: string,
    body?: object,
  ): Promise<{ status: number; code: string; message: string }>;
  /** Asks for a run and waits until it is neither queued nor running. */
  run(body: { kind: "plan" | "apply" | "drift"; ref?: string; again?: true }): Promise<InfraRunView>;
  settled(id: string): Promise<InfraRunView>;
  infra(): Promise<InfraView>;
  recovery(): Promise<RecoveryView>;
  /** Waits for the workflows that are under way. */
  idle(): Promise<void>;
  /** Runs a workflow again, as recovery after a crash does. */
  resume(run: StartedRun | StartedTeardown, step?: DurableStep): Promise<void>;
  deps: InfraStageDeps;
  teardown: TeardownDeps;
  dir: string;
};

/** Where the program is missing its tests are skipped, and say so. */
export const hasTerraform = spawnSync("terraform", ["version"], { stdio: "ignore" }).status === 0;

export const IN_PRODUCTION = "/api/apps/shop/environments/production/infra";

/**
 * The platform over HTTP with the real Terraform and real git; workflows run in process, without their durability. `reattach` is what `serveReattach`
 * of `src/provider/protocol` gives.
 */
export async function newInfraTest(
  options: { mirrorDir?: string; reattach?: string; lockWaitSeconds?: number; settledWithinMs?: number } = {},
): Promise<InfraTest> {
  const test = await newTestPlatform();
  const { platform, server } = test;
  const dir = await mkdtemp(join(tmpdir(), "shipway-infra-"));
  await serveGit(server, platform, { info: () => undefined, warn: () => undefined, error: console.error });
  await server.listen({ port: 0, host: "127.0.0.1" });
  const { port } = server.server.address() as AddressInfo;
  platform.infra.apiUrl = `http://127.0.0.1:${port}`;
  platform.infra.terraform = newTerraform(dir, options.mirrorDir, { reattach: options.reattach });
  const running = new Set<Promise<void>>();
  const deps: InfraStageDeps = {
    ...platform.infra,
    ...(options.lockWaitSeconds !== undefined && { lockWaitSeconds: options.lockWaitSeconds }),
    startInfra: async (run) => start(run),
    startTeardown: async (teardown) => start(teardown),
    log: { info: () => undefined, warn: () => undefined, error: (details) => console.error(details) },
  };
  const { repositories, secrets, target } = platform;
  const teardown: TeardownDeps = {
    ...{
      db: platform.store.db,
      repositories,
      secrets,
      target,
      code: platform.infra.code,
      infraDir: platform.infra.dir,
    },
    ...{ startInfra: deps.startInfra, startDeployment: platform.engine.startDeployment, log: deps.log },
  };
  const once: DurableStep = (_name, work) => work();
  const resume = ({ workflow, id }: StartedRun | StartedTeardown, step = once): Promise<void> => {
    switch (workflow) {
      case "infra":
        return runInfra(deps, id, step);
      case "infra-apply":
        return applyInfra(deps, id, step);
      case "teardown":
        return runTeardown(teardown, id, step);
      case "teardown-rest":
        return finishTeardown(teardown, id, step);
      default:
        return assertNever(workflow);
    }
  };
  const start = (run: StartedRun | StartedTeardown): void => {
    const work = resume(run).finally(() => running.delete(work));
    running.add(work);
  };
  platform.engine.startInfra = async (run) => start(run);
  platform.engine.startTeardown = async (one) => start(one);
  await createApp(platform.store.db, platform.repositories, "shop", "ada");
  const token = await test.tokenFor("admin");
  const checkout = join(dir, "checkout");
  const git = (...args: string[]) => runProgram(["git", ...args], { cwd: checkout, env: { ...process.env, ...WHO } });
  await runProgram(["git", "init", "--quiet", "--initial-branch=main", checkout]);

  const tryAsk: InfraTest["tryAsk"] = async (method, path, body) => {
    const answer = await server.inject({
      method,
      url: path,
      headers: { authorization: `Bearer ${token}` },
      ...(body && { payload: body }),
    });
    const { error } = answer.body.startsWith('{"error"') ? answer.json() : { error: { code: "", message: "" } };
    return { status: answer.statusCode, ...error };
  };
  async function ask<T>(method: "GET" | "POST", path: string, body?: object): Promise<T> {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await server.inject({ method, url: path, headers, ...(body && { payload: body }) });
    if (answer.statusCode >= 400) throw new Error(`${method} ${path}: ${answer.body}`);
    return (answer.body === "" ? undefined : answer.json()) as T;
  }
  const settled = (id: string) =>
    until<InfraRunView>(
      `run ${id} settling`,
      async () => {
        const run = await ask<InfraRunView>("GET", `/api/infra/runs/${id}`);
        return run.status !== "running" && run.status !== "queued" && run;
      },
      { withinMs: options.settledWithinMs ?? 120_000, everyMs: 20 },
    );

  return {
    ...test,
    deps,
    teardown,
    dir,
    ask,
    tryAsk,
    settled,
    resume,
    async commit(files) {
      for (const [path, text] of Object.entries(files)) {
        await mkdir(dirname(join(checkout, path)), { recursive: true });
        await writeFile(join(checkout, path), text);
      }
      await git("add", "--all");
      await git("commit", "--quiet", "--allow-empty", "--message", "Change infrastructure");
      await git("push", "--quiet", "--force", platform.repositories.dirOf("shop"), "main");
      return (await git("rev-parse", "HEAD")).stdout.trim();
    },
    async run(body) {
      const { runId } = await ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, body);
      return settled(runId);
    },
    infra: () => ask<InfraView>("GET", IN_PRODUCTION),
    recovery: () => ask<RecoveryView>("GET", `${IN_PRODUCTION}/recovery`),
    async idle() {
      while (running.size > 0) await Promise.all(running);
    },
    async close() {
      while (running.size > 0) await Promise.allSettled(running);
      await test.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

const WHO = {
  GIT_AUTHOR_NAME: "Ada",
  GIT_AUTHOR_EMAIL: "ada@example.com",
  GIT_COMMITTER_NAME: "Ada",
  GIT_COMMITTER_EMAIL: "ada@example.com",
};

/** As a life of Shipway of its own sees it: it knows no child process of another. */
export const newTerraform = (
  dir: string,
  mirrorDir: string | undefined,
  options: { program?: string; reattach?: string | undefined } = {},
): Terraform =>
  terraformCli({
    program: options.program ?? "terraform",
    ...(options.reattach !== undefined && { reattach: options.reattach }),
    searchPath: process.env.PATH ?? "",
    mirrorDir,
    configFile: join(dir, "terraform.rc"),
  });

/** A `shipway.yml` whose production has this `infra`. */
export const specWith = (infra: object): string =>
  JSON.stringify({ app: "shop", services: { web: { build: {}, port: 80 } }, environments: { production: { infra } } });
