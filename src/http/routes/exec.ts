import { z } from "zod";
import { fail } from "../../shared/errors.ts";
import { EXEC_PROTOCOL } from "../exec-messages.ts";
import { serveExec } from "../exec-socket.ts";
import type { Platform } from "../platform.ts";
import { identityOf, type TypedServer } from "../server.ts";

/** Commands inside running tasks, over a WebSocket. Any code with the environment's secrets: an operator's. */
export function execRoutes(server: TypedServer, { execs }: Platform): void {
  server.route({
    method: "GET",
    url: "/api/apps/:app/environments/:environment/exec",
    config: { role: "operator" },
    schema: {
      summary: `Run a command inside a running task, over a WebSocket (subprotocol \`${EXEC_PROTOCOL}\`, described in docs/operating.md)`,
      params: z.object({ app: z.string(), environment: z.string() }),
      response: { 101: z.null() },
    },
    handler: () => {
      throw fail("REQUEST_INVALID", {
        message: "This is a WebSocket: the request asked for no upgrade.",
        hint: "Use `shipway exec`. A proxy in between must pass `Connection: upgrade` on.",
      });
    },
    wsHandler: (socket, request) => {
      const { app, environment } = request.params as { app: string; environment: string };
      const actor = identityOf(request).name;
      void serveExec(socket, { execs, place: { app, environment }, actor, log: request.log });
    },
  });
}
