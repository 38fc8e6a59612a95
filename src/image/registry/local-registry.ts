import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findFreePort } from "../../shared/free-port.ts";
import { until } from "../../shared/until.ts";

export type LocalRegistry = { endpoint: string; close(): Promise<void> };

const STARTS_WITHIN_MS = 20_000;

/** Debian's docker-registry (CNCF distribution) on an empty directory: a real registry. With `auth` in its configuration's words, for who signs in so. */
export async function startLocalRegistry(options: {
  environment: NodeJS.ProcessEnv;
  auth?: object;
}): Promise<LocalRegistry> {
  const { environment: env, auth } = options;
  const dir = await mkdtemp(join(tmpdir(), "shipway-registry-store-"));
  const address = `127.0.0.1:${await findFreePort()}`;
  const storage = { filesystem: { rootdirectory: join(dir, "data") }, delete: { enabled: true } };
  const file = join(dir, "config.yml");
  const config = { version: "0.1", log: { level: "error" }, storage, http: { addr: address }, ...(auth && { auth }) };
  await writeFile(file, JSON.stringify(config));
  // A group of its own: Ctrl-C is for whoever started it.
  const server = spawn("docker-registry", ["serve", file], { env, stdio: "ignore", detached: true });
  const ended = new Promise<void>((resolve) => {
    server.once("exit", () => resolve());
    server.once("error", () => resolve());
  });
  const endpoint = `http://${address}`;
  const close = async () => {
    server.kill("SIGKILL");
    await ended;
    await rm(dir, { recursive: true, force: true });
  };
  try {
    const isUp = async () => [200, 401].includes((await fetch(`${endpoint}/v2/`)).status);
    await until("the registry answers", isUp, { withinMs: STARTS_WITHIN_MS });
    return { endpoint, close };
  } catch (error) {
    await close();
    throw error;
  }
}
