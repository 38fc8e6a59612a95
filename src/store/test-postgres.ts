import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startEmbeddedPostgres } from "./embedded-postgres.ts";
import { openStore } from "./open-store.ts";
import { onServer } from "./test-server.ts";

/** One real Postgres for a test run, with a migrated template that each test file clones. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dir = await mkdtemp(join(tmpdir(), "shipway-test-postgres-"));
  await chmod(dir, 0o711);
  const postgres = await startEmbeddedPostgres(join(dir, "postgres"));
  await onServer(postgres.connectionString, "create database shipway_template");
  const template = new URL(postgres.connectionString);
  template.pathname = "/shipway_template";
  await (await openStore(template.href, { error: () => undefined })).close();
  project.provide("postgresUrl", postgres.connectionString);
  return async () => {
    await postgres.stop();
    await rm(dir, { recursive: true, force: true });
  };
}
