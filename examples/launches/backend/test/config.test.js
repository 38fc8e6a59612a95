import assert from "node:assert/strict";
import { test } from "node:test";
import { readConfig } from "../src/config.js";

test("reads the address of the database from DB_URL, with an escaped password", () => {
  const { database } = readConfig({ DB_URL: "mysql://app:p%40ss%2Fw@db:3307/shop" });
  assert.deepEqual(database, { host: "db", port: 3307, user: "app", password: "p@ss/w", database: "shop" });
});

test("reads single variables when there is no DB_URL", () => {
  const { database } = readConfig({ DB_HOST: "db", DB_USER: "u", DB_PASSWORD: "p", DB_NAME: "n" });
  assert.deepEqual(database, { host: "db", port: 3306, user: "u", password: "p", database: "n" });
});

test("says which variables are missing", () => {
  assert.throws(() => readConfig({}), /Set DB_URL/);
});
