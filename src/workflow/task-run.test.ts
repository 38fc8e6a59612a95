import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newSealer } from "../environment/sealing.ts";
import { newSecrets } from "../environment/secrets.ts";
import { readEvents } from "../events/event-stream.ts";
import { fileLogStore } from "../events/log-store.ts";
import { removeEnvironment } from "../release/remove-environment.ts";
import { cancelTaskRun, getTaskRun, logOf, RUNS_AT_ONCE, requestTaskRun } from "../release/task-runs.ts";
import { type MemoryTarget, memoryTarget } from "../rollout/drivers/memory.ts";
import { fail } from "../shared/errors.ts";
import { until } from "../shared/until.ts";
import { requireIdle } from "../source/apps.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { maskOf } from "./deployment-stages.ts";
import { forgetEndedRuns, runTask, type TaskRunDeps } from "./task-run.ts";

const place = { app: "shop", environment: "production" };
const sealer = newSealer(Buffer.alloc(32, 7));
let dir: string;
let store: Store;
let target: MemoryTarget;
let deps: TaskRunDeps;
/** What the target is told to do by the test, by method. */
let onCall: (method: string) => void;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-run-"));
  store = await newTestStore();
  onCall = () => undefined;
  target = memoryTarget({ onCall: (method) => onCall(method) });
  const log = { info: () => undefined, warn: () => undefined, error: () => undefined };
  deps = { store, sealer, secrets: newSecrets(store.db, sealer), logs: fileLogStore(join(dir, "logs")), target, log };
  const spec = parseAppSpec(
    "app: shop\nservices:\n  web:\n    build: {}\n    port: 3000\n    env: { COLOR: blue }\n    secrets: [API_KEY]\n",
  );
  await store.db.insertInto("apps").values({ name: "shop" }).execute();
  const image = { service: "web", name: "shop/web:1", digest: "web:1", reused: false };
  for (const number of [1, 2]) {
    const commit = { commit: "c".repeat(40), ref_name: "main", subject: "sell", author: "ada" };
    const record = { spec: JSON.stringify(spec), images: JSON.stringify([image]) };
    await store.db
      .insertInto("releases")
      .values({ app: "shop", number, change_id: `c${number}`, ...commit, ...record })
      .execute();
  }
  await store.db.insertInto("environments").values({ app: "shop", name: "production", live_release: 2 }).execute();
  await deps.secrets.set(place, "API_KEY", "s3cr3t-value", "ada");
});
afterEach(async () => {
  await store?.close();
  await rm(dir, { recursive: true, force: true });
});

const ask = async (line: string, more: { release?: number; service?: string } = {}) =>
  requestTaskRun(
    { db: store.db, sealer, mask: await maskOf(deps, place) },
    { ...place, service: "web", command: ["sh", "-c", line], deadlineMs: 60_000, actor: "ada", ...more },
  );
const run = (id: string) => runTask(deps, id, (_name, fn) => fn());
const printed = async (id: string) =>
  (await deps.logs.read(logOf({ id }), 0, 100)).map(({ stream, text }) => `${stream} ${text}`);
const events = async () => (await readEvents(store.db, { app: "shop" })).filter(({ kind }) => kind.startsWith("run."));

describe("a command that somebody asked for", () => {
  it("runs with the service's variables and secrets, its output masked and kept, and is on the record", async () => {
    const { id } = await ask("echo $COLOR $API_KEY; exit 3");
    await run(id);
    expect(await getTaskRun(store.db, id)).toMatchObject({ status: "failed", exit_code: 3, release: 2, sealed: null });
    expect(await printed(id)).toEqual(["out blue ****"]);
    expect(await events()).toMatchObject([
      { kind: "run.started", actor: "ada", environment: "production", data: { service: "web", release: 2 } },
      {
        kind: "run.ended",
        actor: "ada",
        data: { runId: id, status: "failed", exitCode: 3, durationMs: expect.any(Number) },
      },
    ]);
  });

  it("never shows a secret that was typed into it, and keeps the command sealed until it has run", async () => {
    const asked = await ask("echo s3cr3t-value");
    expect(asked.command).toBe("sh -c 'echo ****'");
    expect(JSON.stringify(await store.db.selectFrom("task_runs").selectAll().execute())).not.toContain("s3cr3t");
    await run(asked.id);
    expect(JSON.stringify(await events())).not.toContain("s3cr3t");
    expect(await printed(asked.id)).toEqual(["out ****"]);
  });

  it("is that of another release where one is named", async () => {
    const { id } = await ask("exit 0", { release: 1 });
    await run(id);
    expect(await getTaskRun(store.db, id)).toMatchObject({ status: "succeeded", release: 1 });
    await expect(ask("exit 0", { release: 9 })).rejects.toMatchObject({ code: "RELEASE_NOT_FOUND" });
    await expect(ask("exit 0", { service: "api" })).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  });

  it("is stopped when somebody wants it stopped, and asking twice is on the record once", async () => {
    const { id } = await ask("sleep 60");
    const running = run(id);
    await until("it having begun", async () => (await getTaskRun(store.db, id)).begun_at !== null);
    await cancelTaskRun(store.db, id, "maria");
    await cancelTaskRun(store.db, id, "ada");
    await running;
    expect(await getTaskRun(store.db, id)).toMatchObject({ status: "canceled", canceled_by: "maria", exit_code: null });
    expect((await events()).map(({ kind, actor }) => `${kind} ${actor}`)).toEqual([
      "run.started ada",
      "run.cancelRequested maria",
      "run.ended ada",
    ]);
  });

  it("is not begun when it was canceled before, and not taken where there are as many already", async () => {
    const runs = [];
    for (let n = 0; n < RUNS_AT_ONCE.environment; n++) runs.push(await ask("exit 0"));
    await expect(ask("exit 0")).rejects.toMatchObject({
      code: "RUN_LIMIT",
      message: expect.stringContaining("5 commands"),
    });
    const [{ id } = { id: "" }] = runs;
    await cancelTaskRun(store.db, id, "ada");
    await until("the workflow seeing it", async () => {
      await run(id);
      return (await getTaskRun(store.db, id)).status === "canceled";
    });
    await ask("exit 0");
  });

  it("keeps its environment and its app from being removed under it", async () => {
    const { id } = await ask("exit 0");
    const remove = () => removeEnvironment({ db: store.db, target }, place, "keep", "ada");
    await expect(remove()).rejects.toMatchObject({ code: "ENVIRONMENT_BUSY", hint: expect.stringContaining(id) });
    await expect(requireIdle(store.db, "shop")).rejects.toMatchObject({ code: "APP_BUSY" });
    await run(id);
    await requireIdle(store.db, "shop");
    await remove();
  });
});

describe("Shipway killed while a command runs", () => {
  /** Ends at the named step or call, as a kill does, once. */
  const killed = new Error("killed");

  it.each(["runOnce", "end-run", "forgetRun"])("at %s: runs it once, ends it once, forgets it", async (where) => {
    const { id } = await ask("echo hello; exit 4");
    let armed = true;
    const dieOnce = (at: string) => {
      if (!armed || at !== where) return;
      armed = false;
      throw killed;
    };
    onCall = dieOnce;
    const stepped = async <T>(name: string, fn: () => Promise<T>): Promise<T> => {
      dieOnce(name);
      // What a step says is lost with a kill inside it; a kill in the target's call is no outcome of the command.
      const result = await fn();
      if (!armed && where === "runOnce" && name === "run") throw killed;
      return result;
    };
    await runTask(deps, id, stepped).catch((error: unknown) => expect(error).toBe(killed));
    onCall = () => undefined;
    await run(id);
    await forgetEndedRuns(deps);
    expect(await getTaskRun(store.db, id)).toMatchObject({ exit_code: 4, forgotten_at: expect.any(Date) });
    expect(target.effects.filter((effect) => effect === `run ${id}`)).toHaveLength(1);
    expect((await events()).filter(({ kind }) => kind === "run.ended")).toHaveLength(1);
  });

  it("says that nobody can tell when the container is gone, and does not run it again", async () => {
    const { id } = await ask("exit 0");
    await store.db.updateTable("task_runs").set({ begun_at: new Date() }).where("id", "=", id).execute();
    await run(id);
    expect(await getTaskRun(store.db, id)).toMatchObject({
      status: "unknown",
      problem: { code: "RUN_OUTCOME_UNKNOWN" },
    });
    expect(target.effects).toEqual([]);
  });

  it("waits for an engine that goes away meanwhile", async () => {
    const { id } = await ask("exit 5");
    let calls = 0;
    const runOnce = target.runOnce;
    target.runOnce = async (...args) => {
      calls += 1;
      const result = await runOnce(...args);
      if (calls === 1) throw fail("DOCKER_UNREACHABLE", { message: "Docker does not answer." });
      return result;
    };
    await run(id);
    expect(calls).toBe(2);
    expect(await getTaskRun(store.db, id)).toMatchObject({ status: "failed", exit_code: 5 });
  });
});
