import { createServer } from "node:http";

/**
 * Listens, and returns how to stop: no new connection is taken, idle ones are closed, requests in flight get their
 * answer, and after `graceMs` whatever is left is cut.
 * @param {import("node:http").RequestListener} handler
 * @param {number} port 0 picks a free one
 */
export async function serve(handler, port) {
  let stopping = false;
  const server = createServer((request, response) => {
    // A client that keeps its connection would otherwise send the next request into a closing server.
    if (stopping) response.setHeader("connection", "close");
    handler(request, response);
  });
  // Longer than a proxy keeps an idle connection to us, so that it is the proxy that closes it and no request meets a reset.
  server.keepAliveTimeout = 65_000;
  server.headersTimeout = 70_000;
  await new Promise((resolve, reject) =>
    server.once("error", reject).listen(port, "0.0.0.0", () => resolve(undefined)),
  );

  return {
    port: /** @type {import("node:net").AddressInfo} */ (server.address()).port,
    /** @param {number} [graceMs] */
    async stop(graceMs = 4_000) {
      stopping = true;
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeIdleConnections();
      const cut = setTimeout(() => server.closeAllConnections(), graceMs);
      await closed;
      clearTimeout(cut);
    },
  };
}

/** Calls `stop` on the first SIGTERM or SIGINT, then exits; a second signal does not wait. */
export function stopOnSignal(stop) {
  let stopping = false;
  for (const signal of ["SIGTERM", "SIGINT"])
    process.on(signal, async () => {
      if (stopping) process.exit(1);
      stopping = true;
      try {
        await stop(signal);
        process.exit(0);
      } catch {
        process.exit(1);
      }
    });
}
