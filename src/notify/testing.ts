import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";

export type Received = { headers: IncomingHttpHeaders; body: string; atMs: number };

/** What a receiver answers next; `hang` never does, `cut` closes the connection. */
export type Reply = { status: number; text?: string; headers?: Record<string, string> } | "hang" | "cut";

/** A real HTTP server that takes notes. `replies` are used up in order, then it answers 200. */
export type Receiver = { url: string; received: Received[]; replies: Reply[]; close(): Promise<void> };

export async function startReceiver(): Promise<Receiver> {
  const received: Received[] = [];
  const replies: Reply[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      received.push({ headers: request.headers, body: Buffer.concat(chunks).toString(), atMs: Date.now() });
      const reply = replies.shift() ?? { status: 200, text: "ok" };
      if (reply === "hang") return;
      if (reply === "cut") request.socket.destroy();
      else response.writeHead(reply.status, reply.headers).end(reply.text);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/hook/s3cret-part`,
    received,
    replies,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
