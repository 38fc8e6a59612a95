import assert from "node:assert/strict";
import { test } from "node:test";
import { splitStatements } from "../src/migrations.js";

test("splits at semicolons that end a line, and only there", () => {
  assert.deepEqual(
    splitStatements("-- why\nCREATE TABLE a (\n  b INT COMMENT 'x; y'\n);\n\n-- next\nDROP TABLE c;\n"),
    ["CREATE TABLE a (\n  b INT COMMENT 'x; y'\n)", "DROP TABLE c"],
  );
});

test("a file of comments has no statement", () => {
  assert.deepEqual(splitStatements("-- nothing\n"), []);
});
