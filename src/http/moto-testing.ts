import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { findFreePort } from "../shared/free-port.ts";
import { until } from "../shared/until.ts";

/** Whether the emulator of AWS (`pip install "moto[server]"`) is there: an implementation of its own, not ours. */
export const hasMoto = spawnSync("moto_server", ["--help"], { stdio: "ignore" }).status === 0;

export type Moto = { endpoint: string; close(): Promise<void> };

/** An AWS of one's own, empty, that answers. */
export async function startMoto(): Promise<Moto> {
  const port = await findFreePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const moto = spawn("moto_server", ["-p", String(port)], { stdio: "ignore" });
  await until("moto answering", async () => (await fetch(`${endpoint}/moto-api/data.json`)).ok, { withinMs: 60_000 });
  return {
    endpoint,
    async close() {
      if (moto.exitCode !== null || moto.signalCode !== null) return;
      const gone = once(moto, "exit");
      moto.kill();
      await gone;
    },
  };
}
