import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

/** Below what a kernel hands out by itself (Linux from 32768, macOS from 49152): a connection somebody opens meanwhile cannot take the port. */
const [FIRST, LAST] = [10_000, 32_767];
const ATTEMPTS = 100;

/** A TCP port of the loopback address that nobody has at this moment; somebody else may take it before it is used. */
export async function findFreePort(): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const port = randomInt(FIRST, LAST + 1);
    try {
      const server = createServer().listen(port, "127.0.0.1");
      await once(server, "listening");
      server.close();
      await once(server, "close");
      return port;
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
    }
  }
}
