import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findFreePort } from "../../shared/free-port.ts";
import { until } from "../../shared/until.ts";

/** Where the program is missing its tests are skipped, and say so. */
export const hasRegistry = spawnSync("docker-registry", ["--version"], { stdio: "ignore" }).status === 0;
if (!hasRegistry) console.warn("SKIPPED: pushing to a real registry. It needs: apt-get install docker-registry");

/** Debian's docker-registry (CNCF distribution) on an empty directory. */
export async function newTestRegistry(): Promise<{ endpoint: string; cleanUp(): Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), "shipway-registry-store-"));
  const address = `127.0.0.1:${await findFreePort()}`;
  const storage = { filesystem: { rootdirectory: join(dir, "data") } };
  const file = join(dir, "config.yml");
  await writeFile(file, JSON.stringify({ version: "0.1", log: { level: "error" }, storage, http: { addr: address } }));
  const server = spawn("docker-registry", ["serve", file], { stdio: "ignore" });
  const endpoint = `http://${address}`;
  await until("the registry answers", async () => (await fetch(`${endpoint}/v2/`)).ok, { withinMs: 20_000 });
  return {
    endpoint,
    async cleanUp() {
      server.kill("SIGKILL");
      await rm(dir, { recursive: true, force: true });
    },
  };
}
