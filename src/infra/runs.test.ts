import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { parseAppSpec } from "../spec/parse-spec.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { approveRun, waitForApproval } from "./approve-run.ts";
import { findRunIdentity, newRunCredential, runToken } from "./run-credential.ts";
import { findInfra, getRun, journalApply, requestRun } from "./runs.ts";

let store: Store;
beforeAll(async () => {
  store = await newTestStore();
});
afterAll(() => store?.close());
beforeEach(async () => {
  await store.db.deleteFrom("apps").execute();
  await store.db.insertInto("apps").values({ name: "shop" }).execute();
});

const place = { app: "shop", environment: "production" };
const text = JSON.stringify({
  app: "shop",
  services: { web: { build: {}, port: 80 } },
  environments: { production: { infra: { dir: "infra", approvers: "anyone" } } },
});

async function newApply(): Promise<string> {
  const spec = parseAppSpec(text).environments.production?.infra;
  if (!spec) throw new Error("no infra");
  const request = { ...place, kind: "apply" as const, commit: "c", refName: "main", actor: "ada", spec, inputs: "" };
  return (await store.db.transaction().execute((tx) => requestRun(tx, request))).id;
}

describe("a run at its gate", () => {
  it("goes on when it was approved, also where its wait is recorded once more after a crash", async () => {
    const id = await newApply();
    await waitForApproval(store.db, await getRun(store.db, id), ["it destroys"]);
    await approveRun(store.db, id, "bob");
    const password = await newRunCredential(store.db, id);
    expect(await waitForApproval(store.db, await getRun(store.db, id), ["it destroys"])).toBeUndefined();
    expect(await getRun(store.db, id)).toMatchObject({ status: "running", approved_by: "bob" });
    expect(await findRunIdentity(store.db, runToken(id, password))).toBeDefined();
    expect((await findInfra(store.db, place))?.running_run).toBe(id);
  });
});

describe("the token of an apply", () => {
  it("may change nothing while it plans, whatever the code does then, and what Terraform declares once it applies", async () => {
    const id = await newApply();
    const token = runToken(id, await newRunCredential(store.db, id));
    expect(await findRunIdentity(store.db, token)).toMatchObject({ role: "developer", run: { mayWrite: false } });
    await journalApply(store.db, id);
    expect(await findRunIdentity(store.db, token)).toMatchObject({ role: "operator", run: { mayWrite: true } });
  });
});
