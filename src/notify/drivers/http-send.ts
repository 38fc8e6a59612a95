import type { LookupAddress } from "node:dns";
import { lookup } from "node:dns/promises";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { LookupFunction } from "node:net";
import { hostOf, isBlockedAddress } from "../addresses.ts";
import { type Answer, KEPT_BYTES, type Outgoing, type Send } from "../send.ts";

/** Slack answers within a second; who needs longer should queue. */
const TIMEOUT_MS = 10_000;

/** Sends over HTTP. An address that a name leads to is looked at when the connection is made: a name may lead elsewhere than when the hook was added. */
export function httpSend(options: { timeoutMs?: number; lookup?: Resolve } = {}): Send {
  const guarded = allowedLookup(options.lookup ?? resolveName);
  return async ({ url, headers, body }, signal) => {
    const target = new URL(url);
    if (isBlockedAddress(hostOf(target))) throw new Error(blocked(hostOf(target)));
    const late = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
    return await post(target, { headers, body, url }, guarded, late, signal);
  };
}

function post(
  target: URL,
  { headers, body }: Outgoing,
  guarded: LookupFunction,
  late: AbortSignal,
  signal: AbortSignal,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const open = target.protocol === "https:" ? httpsRequest : httpRequest;
    const request = open(target, {
      method: "POST",
      lookup: guarded,
      // A connection of its own: a kept one that the receiver closes meanwhile would look like a failed delivery.
      agent: false,
      headers: {
        ...headers,
        "content-type": "application/json; charset=utf-8",
        "content-length": Buffer.byteLength(body),
      },
    });
    const onLate = () => request.destroy(new Error("it did not answer in time"));
    const onAbort = () => request.destroy(new Error("Shipway is stopping"));
    late.addEventListener("abort", onLate, { once: true });
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    const settle = () => {
      late.removeEventListener("abort", onLate);
      signal.removeEventListener("abort", onAbort);
    };
    request.on("error", (error: NodeJS.ErrnoException) => {
      settle();
      reject(new Error(describe(error), { cause: error }));
    });
    request.on("response", (response) => {
      readAnswer(response, (answer) => {
        settle();
        resolve(answer);
        request.destroy();
      });
    });
    request.end(body);
  });
}

/** Its beginning, and no more: a receiver must not fill our memory. One that breaks off after its status has answered all the same. */
function readAnswer(response: IncomingMessage, done: (answer: Answer) => void): void {
  const status = response.statusCode ?? 0;
  const retryAfterMs = parseRetryAfter(response.headers["retry-after"]);
  let kept = Buffer.alloc(0);
  let isDone = false;
  const finish = () => {
    if (isDone) return;
    isDone = true;
    const text = kept.subarray(0, KEPT_BYTES).toString("utf8");
    done({ status, text, ...(retryAfterMs !== undefined && { retryAfterMs }) });
  };
  response.on("data", (chunk: Buffer) => {
    kept = Buffer.concat([kept, chunk]);
    if (kept.length >= KEPT_BYTES) finish();
  });
  response.on("end", finish).on("close", finish).on("error", finish);
}

function parseRetryAfter(text: string | undefined): number | undefined {
  const seconds = Number(text);
  return text !== undefined && Number.isFinite(seconds) && seconds >= 0 ? seconds * 1_000 : undefined;
}

/** All addresses of a name. */
type Resolve = (
  hostname: string,
  options: { family?: number | "IPv4" | "IPv6" | undefined },
) => Promise<LookupAddress[]>;

const resolveName: Resolve = (hostname, { family }) =>
  lookup(hostname, { all: true, ...(family !== undefined && { family }) });

const allowedLookup =
  (resolve: Resolve): LookupFunction =>
  (hostname, options, callback) => {
    const refuse = (error: Error) => callback(error, "", 0);
    resolve(hostname, options).then((found) => {
      const [first] = found;
      const bad = found.find(({ address }) => isBlockedAddress(address));
      if (first === undefined) return refuse(new Error(`${hostname} has no address`));
      if (bad !== undefined) return refuse(new Error(blocked(bad.address)));
      return options.all === true ? callback(null, found) : callback(null, first.address, first.family);
    }, refuse);
  };

const blocked = (address: string) => `${address} is a link-local address, to which nothing is sent`;

/** In words, and without the address that Node puts behind them. */
function describe(error: NodeJS.ErrnoException): string {
  if (error.code === "ECONNREFUSED") return "the connection was refused";
  if (error.code === "ECONNRESET") return "the connection was cut";
  if (error.code === "ENOTFOUND" || error.code === "EAI_AGAIN") return "its host name leads nowhere";
  if (error.code === "EHOSTUNREACH" || error.code === "ENETUNREACH" || error.code === "ETIMEDOUT")
    return "its host cannot be reached";
  return error.code === undefined ? error.message : `${error.message.split("\n")[0]} (${error.code})`;
}
