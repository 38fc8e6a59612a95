import { createServer, request as forward, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/**
 * What happens to one call. `lost`: it is done, and its answer never arrives. `slow`: it is done, and its answer arrives after whoever asked has given up.
 * `refused`: it never arrives, as when the process is gone. `stale`: it is answered as the same question was before, where it was. `says`: it never arrives, and
 * is answered with this.
 */
export type Fate =
  | "pass"
  | "lost"
  | "slow"
  | "refused"
  | "throttled"
  | "denied"
  | "broken"
  | "stale"
  | { says: object };

export type Call = {
  /** `ecs:CreateService`. */
  name: string;
  isRead: boolean;
  /** What is asked, the same text for the same question. */
  question: string;
  /** How often this question was asked before. */
  before: number;
  /** How many writes AWS had accepted by then. */
  writes: number;
};

export type FaultProxy = {
  endpoint: string;
  calls: Call[];
  close(): Promise<void>;
};

/** An answer from before so many writes is not given any more: AWS is consistent within seconds, not minutes. */
const STALE_WRITES = 3;

type Answer = { status: number; headers: IncomingMessage["headers"]; body: Buffer };

/** Stands between the driver and the emulator and decides each call's fate. */
export async function newFaultProxy(upstream: string, fateOf: (call: Call) => Fate): Promise<FaultProxy> {
  const calls: Call[] = [];
  const asked = new Map<string, number>();
  const answers = new Map<string, Answer & { writes: number }>();
  let writes = 0;
  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const body = await readBody(incoming);
    const call = toCall(incoming, body, asked, writes);
    calls.push(call);
    const fate = fateOf(call);
    const before = answers.get(call.question);
    if (typeof fate === "object") return give(outgoing, inJson(fate.says));
    if (fate === "refused") return void incoming.socket.destroy();
    if (fate === "throttled") return refuse(incoming, outgoing, { status: 400, code: "ThrottlingException" });
    if (fate === "denied") return refuse(incoming, outgoing, { status: 400, code: "AccessDeniedException" });
    if (fate === "broken") return refuse(incoming, outgoing, { status: 503, code: "ServerException" });
    if (fate === "stale" && before !== undefined && call.writes - before.writes <= STALE_WRITES)
      return give(outgoing, before);
    const answer = await ask(upstream, incoming, body);
    if (call.isRead) answers.set(call.question, { ...answer, writes: call.writes });
    else if (answer.status < 300) writes++;
    if (fate === "lost") return void incoming.socket.destroy();
    if (fate === "slow") return void incoming.socket.once("close", () => outgoing.destroy());
    give(outgoing, answer);
  };
  const server = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => incoming.socket.destroy());
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

function ask(upstream: string, { method, url, headers }: IncomingMessage, body: Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const onward = forward(`${upstream}${url ?? "/"}`, { method, headers }, (reply) => {
      readBody(reply).then(
        (text) => resolve({ status: reply.statusCode ?? 502, headers: reply.headers, body: text }),
        reject,
      );
    });
    onward.once("error", reject);
    onward.end(body);
  });
}

function give(outgoing: ServerResponse, { status, headers, body }: Answer): void {
  outgoing.writeHead(status, headers);
  outgoing.end(body);
}

const inJson = (says: object): Answer => ({
  status: 200,
  headers: { "content-type": "application/x-amz-json-1.1" },
  body: Buffer.from(JSON.stringify(says)),
});

/** An error in the form of the service: XML where the request is a form, JSON elsewhere. */
function refuse(incoming: IncomingMessage, outgoing: ServerResponse, error: { status: number; code: string }): void {
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

function toCall(incoming: IncomingMessage, body: Buffer, asked: Map<string, number>, writes: number): Call {
  const name = nameOf(incoming, body);
  const question = `${name} ${incoming.url ?? ""} ${body.toString()}`;
  const before = asked.get(question) ?? 0;
  asked.set(question, before + 1);
  return { name, question, before, writes, isRead: /:(Describe|List|Get|GET$|HEAD$)/.test(name) };
}

/**
 * JSON services name the operation in a header, the load balancer's in the form that is sent, S3's is the method; the service is in the signature's scope.
 */
function nameOf(incoming: IncomingMessage, body: Buffer): string {
  const service = /Credential=[^/]+\/\d+\/[^/]+\/([^/]+)\//.exec(incoming.headers.authorization ?? "")?.[1] ?? "?";
  const target = incoming.headers["x-amz-target"];
  const operation =
    typeof target === "string" ? target.split(".").at(-1) : new URLSearchParams(body.toString()).get("Action");
  return `${service}:${operation ?? incoming.method ?? "?"}`;
}
