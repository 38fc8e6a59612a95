import { sql } from "kysely";
import { afterAll, beforeAll, expect, it } from "vitest";
import { until } from "../shared/until.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { type DurableEngine, type DurableStep, launchDurableEngine } from "./durable.ts";

let store: Store;
let engine: DurableEngine<{ work: (id: string, step: DurableStep) => Promise<void> }>;
const effects: string[] = [];
const ended: string[] = [];
/** What a workflow waits for in its second step, by id. */
const gates = new Map<string, Promise<void>>();

const launch = () =>
  launchDurableEngine(
    { connectionString: store.connectionString, executorId: "test", log: { info() {}, warn() {}, error() {} } },
    {
      work: async (id, step) => {
        const first = await step("first", async () => {
          effects.push(`${id} first`);
          return { from: id };
        });
        await step("second", async () => {
          await gates.get(id);
          if (id === "lost connection" && !effects.includes("connection lost")) {
            effects.push("connection lost");
            await sql`select pg_terminate_backend(pg_backend_pid())`.execute(store.db);
          }
          effects.push(`${id} second of ${first.from}`);
        });
        ended.push(id);
      },
    },
  );
beforeAll(async () => {
  store = await newTestStore();
  engine = await launch();
});
afterAll(async () => {
  await engine?.shutdown();
  await store?.close();
});

it("runs a workflow once per id, however often and however quickly it is started", async () => {
  await Promise.all([engine.start("work", "a"), engine.start("work", "a")]);
  await until("its end", () => ended.includes("a"));
  await engine.start("work", "a");
  await engine.start("work", "b");
  await until("the other's end", () => ended.includes("b"));
  expect(effects).toEqual(["a first", "a second of a", "b first", "b second of b"]);
});

it("goes on behind the last finished step after it was cut off", async () => {
  effects.length = 0;
  let open = () => {};
  gates.set(
    "c",
    new Promise((resolve) => {
      open = resolve;
    }),
  );
  await engine.start("work", "c");
  await until("the first step", () => effects.includes("c first"));
  await engine.shutdown();
  gates.delete("c");
  engine = await launch();
  await until("its end", () => ended.includes("c"));
  open();
  expect(effects.filter((effect) => effect === "c first")).toHaveLength(1);
});

it("goes on when the database was away for a moment", async () => {
  effects.length = 0;
  await engine.start("work", "lost connection");
  await until("its end", () => ended.includes("lost connection"));
  expect(effects).toEqual(["lost connection first", "connection lost", "lost connection second of lost connection"]);
});
