import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { inflateRawSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { declareEnvironment } from "../environment/environments.ts";
import { hasMoto, type Moto, startMoto } from "../infra/moto-testing.ts";
import { planRun } from "../infra/plan-run.ts";
import { getRun } from "../infra/runs.ts";
import { removeEnvironment } from "../release/remove-environment.ts";
import { until } from "../shared/until.ts";
import type { InfraRunView } from "./infra-schemas.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";

const canRun = hasTerraform && hasMoto;
if (!canRun) console.warn("SKIPPED: state in S3 needs terraform and moto_server (pip install 'moto[server]')");

const SECRET_KEY = "s3-secret-key-of-nobody";
const BUCKET = "states";
const KEY = "shop/production.tfstate";
const BACKEND = `terraform {
  backend "s3" {
    bucket         = "${BUCKET}"
    use_lockfile   = true
    use_path_style = true
  }
}
`;
const MAIN = `
variable "size" { type = number }
resource "terraform_data" "disk" { input = "disk-\${var.size}" }
resource "terraform_data" "big" { count = var.size > 1 ? 1 : 0 }
output "disk" { value = terraform_data.disk.output }
`;
const SLOW = `
variable "size" {}
resource "terraform_data" "first" { input = "made" }
resource "terraform_data" "slow" {
  depends_on = [terraform_data.first]
  provisioner "local-exec" { command = "sleep 2" }
}
`;

describe.skipIf(!canRun)("state in S3 with its lock file (with the real Terraform, against moto)", () => {
  let moto: Moto;
  let test: InfraTest;
  beforeAll(async () => {
    moto = await startMoto();
  }, 60_000);
  afterAll(() => moto?.close());
  beforeEach(async () => {
    test = await newInfraTest({ lockWaitSeconds: 1 });
    await test.platform.secrets.set(IN_SHOP, "AWS_SECRET_ACCESS_KEY", SECRET_KEY, "ada");
    await s3("PUT", "");
  });
  afterEach(async () => {
    await Promise.all([KEY, `${KEY}.tflock`].map((key) => s3("DELETE", key)));
    await test?.close();
  });

  /** An object of the bucket, as anybody with the credentials reaches it. */
  async function s3(method: "PUT" | "GET" | "DELETE", key: string, body?: string): Promise<string | undefined> {
    const answer = await fetch(`${moto.endpoint}/${BUCKET}${key === "" ? "" : `/${key}`}`, {
      method,
      headers: { authorization: ANYBODY },
      ...(body !== undefined && { body }),
    });
    return answer.ok ? answer.text() : undefined;
  }
  const spec = (size: number, more: object = {}) =>
    specWith({
      dir: "infra",
      variables: { size },
      backend: { key: KEY },
      env: { AWS_ACCESS_KEY_ID: "testing", AWS_REGION: "us-east-1", AWS_ENDPOINT_URL: moto.endpoint },
      secrets: ["AWS_SECRET_ACCESS_KEY"],
      ...more,
    });
  const commit = (size: number, main = MAIN, more: object = {}) =>
    test.commit({ "shipway.yml": spec(size, more), "infra/main.tf": main, "infra/backend.tf": BACKEND });
  const apply = async (...of: Parameters<typeof commit>): Promise<InfraRunView> => {
    await commit(...of);
    return test.run({ kind: "apply" });
  };
  const lockBy = (who: string, id = "1111-2222") =>
    s3(
      "PUT",
      `${KEY}.tflock`,
      JSON.stringify({
        ID: id,
        Operation: "OperationTypeApply",
        Who: who,
        Version: "1.11.4",
        Created: WHEN,
        Path: KEY,
      }),
    );
  const stateInS3 = async () => JSON.parse((await s3("GET", KEY)) ?? "null");

  it("is emptied where it lies by a destroy; an environment that goes without one says where its state stays", async () => {
    await apply(1);
    await declareEnvironment(test.platform.store.db, IN_SHOP, { branch: null, tag: null }, "ada");
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/destroy`, {});
    expect(await test.settled(runId)).toMatchObject({ status: "waiting" });
    await test.ask("POST", `/api/infra/runs/${runId}/approve`);
    expect(await test.settled(runId)).toMatchObject({ status: "succeeded" });
    expect(await stateInS3()).toMatchObject({ resources: [] });
    expect(await s3("GET", `${KEY}.tflock`)).toBeUndefined();
    expect(await test.tryAsk("POST", `${IN_PRODUCTION}/destroy`, {})).toMatchObject({ code: "INFRA_NOT_DECLARED" });

    await apply(1);
    const { db } = test.platform.store;
    expect(await removeEnvironment({ db, target: test.platform.target }, IN_SHOP, "keep", "ada")).toEqual([
      expect.stringContaining(`s3 (bucket=${BUCKET}, key=${KEY})`),
    ]);
    expect(await stateInS3()).toMatchObject({ resources: [{ name: "disk" }] });
  });

  it("is where the code says: an apply writes it there, gives the outputs, frees the lock, and Shipway keeps none", async () => {
    const run = await apply(1);
    expect(run).toMatchObject({ status: "succeeded", problem: null });
    expect(await stateInS3()).toMatchObject({ serial: 1, resources: [{ name: "disk" }] });
    expect(await s3("GET", `${KEY}.tflock`)).toBeUndefined();
    expect(await test.infra()).toMatchObject({
      applied: { runId: run.id },
      stateIn: { type: "s3", config: { bucket: BUCKET, key: KEY } },
      lock: null,
      outputs: [{ name: "disk", value: "disk-1" }],
    });
    expect(await test.ask("GET", `${IN_PRODUCTION}/states`)).toEqual([]);

    const again = await test.run({ kind: "apply" });
    expect(again).toMatchObject({ status: "succeeded", plan: { changes: [] }, timings: { warm: 1 } });
    expect(await stateInS3()).toMatchObject({ serial: 1 });
    expect((await test.run({ kind: "drift" })).status).toBe("succeeded");
    expect((await test.infra()).drift?.resources).toEqual([]);
  });

  it("leaves no credential behind: not in Terraform's folder, not in the plan, not in a log", async () => {
    await commit(1);
    test.platform.engine.startInfra = async () => undefined;
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    await planRun(test.deps, await getRun(test.deps.db, runId));
    const files = await filesBelow(test.platform.infra.dir);
    expect(files.filter((file) => file.endsWith("plan.tfplan"))).toHaveLength(1);
    expect(files.filter((file) => file.endsWith("terraform.tfstate"))).toHaveLength(1);
    for (const file of files) {
      const content = await readFile(file);
      const parts = file.endsWith(".tfplan") ? [content, ...unzipped(content)] : [content];
      for (const part of parts) expect(part.includes(SECRET_KEY), file).toBe(false);
    }
  });

  it("takes no credential in the backend's settings, and says where it belongs", async () => {
    await commit(1, MAIN, { backend: { key: KEY, secret_key: SECRET_KEY } });
    const answer = await test.tryAsk("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    expect(answer.code).toBe("SPEC_INVALID");
    expect(answer.message).toContain("environment variable");
  });

  it("that somebody else has locked is not planned from: the holder is named, and an operator can take the lock by hand", async () => {
    await apply(1);
    await lockBy("eve@laptop");
    const refused = await apply(2);
    expect(refused).toMatchObject({ status: "failed", problem: { code: "INFRA_LOCKED" } });
    expect(refused.problem?.message).toContain("is locked: apply, as eve@laptop, for ");
    expect(refused.problem?.hint).toContain("shipway infra unlock 1111-2222");
    // A check of drift needs no lock, and gets its answer.
    expect((await test.run({ kind: "drift" })).status).toBe("succeeded");

    const wrong = await test.tryAsk("POST", `${IN_PRODUCTION}/unlock`, { lockId: "another" });
    expect(wrong).toMatchObject({ code: "INFRA_LOCKED" });
    expect(wrong.message).toContain("1111-2222");
    expect(await s3("GET", `${KEY}.tflock`)).toContain("eve@laptop");
    await test.ask("POST", `${IN_PRODUCTION}/unlock`, { lockId: "1111-2222" });
    expect(await s3("GET", `${KEY}.tflock`)).toBeUndefined();
    expect((await apply(2)).status).toBe("succeeded");
    const events = await test.ask<{ kind: string; actor: string; data: object }[]>(
      "GET",
      "/api/events?app=shop&limit=500",
    );
    expect(events.filter(({ kind }) => kind === "infra.lockForced")).toMatchObject([
      { actor: "admin", data: { lock: { who: "eve@laptop" } } },
    ]);
    expect(await test.tryAsk("POST", `${IN_PRODUCTION}/unlock`, { lockId: "1111-2222" })).toMatchObject({
      code: "INFRA_LOCKED",
    });
  }, 120_000);

  it("that moved on since the plan was made refuses that plan, in our words", async () => {
    await apply(2);
    const waiting = await apply(1);
    expect(waiting.status).toBe("waiting");
    const state = await stateInS3();
    await s3("PUT", KEY, JSON.stringify({ ...state, serial: state.serial + 1 }));
    await test.ask("POST", `/api/infra/runs/${waiting.id}/approve`);
    const run = await test.settled(waiting.id);
    expect(run).toMatchObject({ status: "failed", problem: { code: "INFRA_PLAN_STALE" } });
    expect(run.problem?.message).toContain("nothing was applied");
    expect(await test.infra()).toMatchObject({ blockedBy: null });
  });

  it("that is locked between plan and apply stops the apply before it begins", async () => {
    await apply(2);
    const waiting = await apply(1);
    await lockBy("eve@laptop");
    await test.ask("POST", `/api/infra/runs/${waiting.id}/approve`);
    const run = await test.settled(waiting.id);
    expect(run).toMatchObject({ status: "failed", problem: { code: "INFRA_LOCKED" } });
    expect(run.problem?.message).toContain("eve@laptop");
    expect((await stateInS3()).resources.map(({ name }: { name: string }) => name)).toContain("big");
  }, 60_000);

  it("keeps its lock when Terraform is killed: recovery shows both, frees the lock and imports what the state lacks", async () => {
    await commit(1, SLOW);
    const runId = await killedAfterTheFirst();
    const lock = JSON.parse((await s3("GET", `${KEY}.tflock`)) ?? "{}");
    expect(lock.Operation).toBe("OperationTypeApply");
    const recovery = await test.recovery();
    expect(recovery).toMatchObject({
      run: { id: runId },
      advice: "import",
      lock: { id: lock.ID, runId },
      finished: [{ address: "terraform_data.first" }],
      uncertain: [{ address: "terraform_data.slow" }],
    });
    const { runId: next } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/recover`, { way: "import" });
    expect(await s3("GET", `${KEY}.tflock`)).toBeUndefined();
    expect((await test.settled(next)).status).toBe("waiting");
    await test.ask("POST", `/api/infra/runs/${next}/approve`);
    expect((await test.settled(next)).status).toBe("succeeded");
    expect(JSON.stringify(await stateInS3())).toContain(recovery.finished[0]?.id);
  }, 60_000);

  it("is not taken from somebody else by a recovery", async () => {
    await commit(1, SLOW);
    await killedAfterTheFirst();
    await lockBy("eve@laptop");
    expect((await test.recovery()).lock).toMatchObject({ who: "eve@laptop", runId: null });
    expect(await test.tryAsk("POST", `${IN_PRODUCTION}/recover`, { way: "accept" })).toMatchObject({
      code: "INFRA_LOCKED",
    });
    await test.ask("POST", `${IN_PRODUCTION}/unlock`, { lockId: "1111-2222" });
    await test.ask("POST", `${IN_PRODUCTION}/recover`, { way: "accept" });
    expect(await test.infra()).toMatchObject({ blockedBy: null });
  }, 60_000);

  it("that could not be written is taken over from errored.tfstate, into S3", async () => {
    await commit(1, SLOW);
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    await untilFirst(runId);
    // Without its bucket S3 takes no state; the lock is gone with it.
    await s3("DELETE", `${KEY}.tflock`);
    await s3("DELETE", "");
    expect(await test.settled(runId)).toMatchObject({ status: "unknown" });
    await test.idle();
    await s3("PUT", "");
    expect(await test.recovery()).toMatchObject({ advice: "push", errored: { resources: 2 }, lock: null });
    await test.ask("POST", `${IN_PRODUCTION}/recover`, { way: "push" });
    expect((await stateInS3()).resources).toHaveLength(2);
    expect(await test.ask("GET", `${IN_PRODUCTION}/states`)).toEqual([]);
    expect((await test.run({ kind: "apply" })).plan?.changes).toEqual([]);
  }, 60_000);

  it("is not left for an empty one unseen: a plan with another backend waits", async () => {
    await apply(1);
    await test.commit({ "shipway.yml": spec(1, { backend: {} }), "infra/backend.tf": "# Shipway keeps it\n" });
    const run = await test.run({ kind: "apply" });
    expect(run.status).toBe("waiting");
    expect(run.plan?.approval[0]).toContain("its state lies in another place");
    expect(run.plan?.approval[0]).toContain(`s3 (bucket=${BUCKET}, key=${KEY})`);
  });

  it("is not shared by two environments", async () => {
    await apply(1);
    const both = JSON.parse(spec(1));
    both.environments.staging = both.environments.production;
    await test.commit({ "shipway.yml": JSON.stringify(both) });
    await test.platform.secrets.set(
      { app: "shop", environment: "staging" },
      "AWS_SECRET_ACCESS_KEY",
      SECRET_KEY,
      "ada",
    );
    const { runId } = await test.ask<{ runId: string }>(
      "POST",
      `${IN_PRODUCTION.replace("production", "staging")}/runs`,
      { kind: "apply" },
    );
    const run = await test.settled(runId);
    expect(run).toMatchObject({ status: "failed", problem: { code: "INFRA_INVALID" } });
    expect(run.problem?.message).toContain("would share its state with shop production");
  });

  async function untilFirst(runId: string): Promise<void> {
    await until("the first resource", async () => {
      const events = await test.ask<{ kind: string; subject: string }[]>("GET", "/api/events?app=shop&limit=500");
      return events.some(({ kind, subject }) => kind === "infra.resource" && subject === `infra:${runId}`);
    });
  }

  async function killedAfterTheFirst(): Promise<string> {
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    await untilFirst(runId);
    const text = await readFile(join(test.platform.infra.dir, "runs", runId, "apply.pid"), "utf8");
    process.kill(-JSON.parse(text).pid, "SIGKILL");
    const run = await test.settled(runId);
    expect(run).toMatchObject({ status: "unknown", problem: { code: "INFRA_OUTCOME_UNKNOWN" } });
    await test.idle();
    return runId;
  }
});

const IN_SHOP = { app: "shop", environment: "production" };
const WHEN = "2026-11-26T05:00:00Z";
/** moto reads the region and the account from it, and checks nothing. */
const ANYBODY =
  "AWS4-HMAC-SHA256 Credential=testing/20261126/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** What a zip archive holds (its central directory: PKWARE APPNOTE 4.3.12). */
function unzipped(zip: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = zip.indexOf("PK\u0001\u0002"); at !== -1; at = zip.indexOf("PK\u0001\u0002", at + 4)) {
    const [method, size, header] = [zip.readUInt16LE(at + 10), zip.readUInt32LE(at + 20), zip.readUInt32LE(at + 42)];
    const start = header + 30 + zip.readUInt16LE(header + 26) + zip.readUInt16LE(header + 28);
    const bytes = zip.subarray(start, start + size);
    found.push(method === 0 ? bytes : inflateRawSync(bytes));
  }
  return found;
}
