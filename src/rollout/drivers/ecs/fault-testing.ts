import { createServer, request as forward, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What happens to one call. `lost`: it is done, and its answer never arrives. `refused`: it never arrives, as when the process is gone. */
export type Fate = "pass" | "lost" | "refused" | "throttled" | "denied" | "broken";

export type FaultProxy = {
  endpoint: string;
  /** Calls so far, as `ecs:CreateService`. */
  calls: string[];
  close(): Promise<void>;
};

/** Stands between the driver and the emulator and decides each call's fate by its number, from 1, and its name. */
export async function newFaultProxy(
  upstream: string,
  fateOf: (call: { n: number; name: string }) => Fate,
): Promise<FaultProxy> {
  const calls: string[] = [];
  const server = createServer((incoming, outgoing) => {
    void readBody(incoming).then((body) => {
      const name = nameOf(incoming, body);
      calls.push(name);
      answer(upstream, incoming, body, outgoing, fateOf({ n: calls.length, name }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    calls,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answer(upstream: string, incoming: IncomingMessage, body: Buffer, outgoing: ServerResponse, fate: Fate): void {
  if (fate === "refused") incoming.socket.destroy();
  else if (fate === "throttled") say(incoming, outgoing, { status: 400, code: "ThrottlingException" });
  else if (fate === "denied") say(incoming, outgoing, { status: 400, code: "AccessDeniedException" });
  else if (fate === "broken") say(incoming, outgoing, { status: 503, code: "ServerException" });
  else passOn(upstream, incoming, body, outgoing, fate);
}

function passOn(upstream: string, incoming: IncomingMessage, body: Buffer, outgoing: ServerResponse, fate: Fate): void {
  const { method, url, headers } = incoming;
  const onward = forward(`${upstream}${url ?? "/"}`, { method, headers }, (reply) => {
    if (fate === "lost") {
      reply.resume();
      return void reply.once("end", () => incoming.socket.destroy());
    }
    outgoing.writeHead(reply.statusCode ?? 502, reply.headers);
    reply.pipe(outgoing);
  });
  onward.once("error", () => incoming.socket.destroy());
  onward.end(body);
}

/** An error in the form of the service: XML where the request is a form, JSON elsewhere. */
function say(incoming: IncomingMessage, outgoing: ServerResponse, error: { status: number; code: string }): void {
  const isQuery = incoming.headers["x-amz-target"] === undefined;
  const { status, code } = error;
  outgoing.writeHead(status, { "content-type": isQuery ? "text/xml" : "application/x-amz-json-1.1" });
  outgoing.end(
    isQuery
      ? `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>no</Message></Error><RequestId>1</RequestId></ErrorResponse>`
      : JSON.stringify({ __type: code, message: "no" }),
  );
}

async function readBody(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** JSON services name the operation in a header, the load balancer's in the form that is sent; the service is in the signature's scope. */
function nameOf(incoming: IncomingMessage, body: Buffer): string {
  const service = /Credential=[^/]+\/\d+\/[^/]+\/([^/]+)\//.exec(incoming.headers.authorization ?? "")?.[1] ?? "?";
  const target = incoming.headers["x-amz-target"];
  const operation =
    typeof target === "string" ? target.split(".").at(-1) : new URLSearchParams(body.toString()).get("Action");
  return `${service}:${operation ?? "?"}`;
}
