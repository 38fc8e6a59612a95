import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Role } from "../access/roles.ts";
import { type Receiver, startReceiver } from "../notify/testing.ts";
import { createApp } from "../source/apps.ts";
import { newTestPlatform, type TestPlatform } from "./testing.ts";

let test: TestPlatform;
let receiver: Receiver;
const tokens = new Map<string, string>();
beforeAll(async () => {
  test = await newTestPlatform();
  receiver = await startReceiver();
  for (const app of ["shop", "blog"]) {
    await createApp(test.platform.store.db, test.platform.repositories, app, "ada");
    tokens.set(app, await test.tokenFor("operator", app));
  }
  tokens.set("all", await test.tokenFor("operator"));
});
beforeEach(async () => {
  await test.platform.store.db.deleteFrom("notify_hooks").execute();
  receiver.received.length = 0;
});
afterAll(async () => {
  await receiver?.close();
  await test?.close();
});

async function ask(who: string, method: "GET" | "POST" | "DELETE", path: string, payload?: object) {
  const headers = { authorization: `Bearer ${tokens.get(who)}` };
  const answer = await test.server.inject({
    method,
    url: `/api/notify/hooks${path}`,
    headers,
    ...(payload && { payload }),
  });
  return { status: answer.statusCode, body: answer.body === "" ? undefined : answer.json() };
}
const add = (who: string, changes: object = {}) => ask(who, "POST", "", { url: receiver.url, ...changes });

describe("/api/notify/hooks", () => {
  it("shows the secret once, the URL shortened, and the defaults where nothing is chosen", async () => {
    const { status, body } = await add("all");
    expect([status, body.app, body.format, body.failingSince]).toEqual([201, null, "json", null]);
    expect(body.secret).toMatch(/^shh_.{32}$/);
    expect(body.on).toContain("infra.driftFound");
    const listed = await ask("all", "GET", "");
    expect(listed.body).toMatchObject([{ id: body.id }]);
    expect(JSON.stringify(listed.body)).not.toMatch(/s3cret-part|shh_/);
    const events = await test.platform.store.db.selectFrom("events").selectAll().execute();
    expect(JSON.stringify(events)).not.toMatch(/s3cret-part|shh_/);
  });

  it.each([
    [{ url: "ftp://example.com" }, /https:\/\/ or http:\/\//],
    [{ url: "http://169.254.169.254/" }, /link-local/],
    [{ on: ["infra.driftfound"] }, /did you mean infra\.driftFound/],
    [{ on: [] }, /body\.on/],
    [{ format: "teams" }, /body\.format/],
  ])("refuses %j with its reason", async (changes, reason) => {
    const { status, body } = await add("all", changes);
    expect([status, body.error.code]).toEqual([400, "REQUEST_INVALID"]);
    expect(body.error.message).toMatch(reason);
  });

  it("keeps a token of one app to the hooks of that app", async () => {
    const global = (await add("all")).body.id;
    const ofBlog = (await add("all", { app: "blog" })).body.id;
    const own = await add("shop");
    expect([own.status, own.body.app]).toEqual([201, "shop"]);
    expect((await add("shop", { app: "blog" })).status).toBe(403);
    expect((await ask("shop", "GET", "")).body.map(({ id }: { id: string }) => id)).toEqual([own.body.id]);
    for (const id of [global, ofBlog]) {
      expect((await ask("shop", "DELETE", `/${id}`)).status).toBe(403);
      expect((await ask("shop", "POST", `/${id}/test`)).status).toBe(403);
      expect((await ask("shop", "GET", `/${id}/deliveries`)).status).toBe(403);
    }
    expect(receiver.received).toEqual([]);
    expect((await ask("all", "GET", "")).body).toHaveLength(3);
  });

  it("sends a test at once, shows the answer and keeps it in the log", async () => {
    const { id } = (await add("shop", { format: "slack" })).body;
    receiver.replies.push({ status: 404, text: "no_service" });
    const sent = await ask("shop", "POST", `/${id}/test`);
    expect(sent.body).toMatchObject({
      status: "failed",
      attempts: 1,
      httpStatus: 404,
      answer: "no_service",
      eventId: null,
    });
    expect(JSON.parse(receiver.received[0]?.body ?? "").text).toMatch(/a test of Shipway's notifications/);
    expect((await ask("shop", "POST", `/${id}/test`)).body).toMatchObject({ status: "delivered", httpStatus: 200 });
    const log = (await ask("shop", "GET", `/${id}/deliveries?limit=5`)).body;
    expect(log.map(({ status }: { status: string }) => status)).toEqual(["delivered", "failed"]);
  });

  it("removes a hook once, and with its app", async () => {
    const { id } = (await add("shop")).body;
    expect((await ask("shop", "DELETE", `/${id}`)).status).toBe(204);
    expect((await ask("shop", "DELETE", `/${id}`)).status).toBe(404);
  });

  it("is for operators", async () => {
    for (const role of ["viewer", "tester"] satisfies Role[]) {
      tokens.set(role, await test.tokenFor(role));
      expect((await add(role)).status).toBe(403);
    }
  });
});
