import { Agent, request } from "node:http";

/** Requests that flow while the demo deploys, so that a lost one is seen. */
export type Traffic = { counts(): TrafficCounts; stop(): Promise<TrafficCounts> };
/** `reasons`: how often which answer or error was a failure, such as `503` or `ECONNRESET`. */
export type TrafficCounts = { total: number; failed: number; reasons: Record<string, number> };

/** 25 requests a second, half over kept-alive connections and half over fresh ones. */
const EVERY_MS = 40;
const TIMEOUT_MS = 10_000;

type Address = { port: number; host: string };

export function startTraffic(address: Address): Traffic {
  const kept = new Agent({ keepAlive: true, maxSockets: 16 });
  const counts: TrafficCounts = { total: 0, failed: 0, reasons: {} };
  const open = new Set<Promise<void>>();
  let sent = 0;
  const settle = (failure: string | undefined) => {
    counts.total += 1;
    if (failure === undefined) return;
    counts.failed += 1;
    counts.reasons[failure] = (counts.reasons[failure] ?? 0) + 1;
  };
  const timer = setInterval(() => {
    sent += 1;
    const one = fetchPage({ ...address, ...(sent % 2 === 0 && { agent: kept }) })
      .then(({ status }) => (status < 500 ? undefined : String(status)), failureOf)
      .then((failure) => {
        settle(failure);
        open.delete(one);
      });
    open.add(one);
  }, EVERY_MS);
  return {
    counts: () => ({ ...counts, reasons: { ...counts.reasons } }),
    async stop() {
      clearInterval(timer);
      await Promise.all(open);
      kept.destroy();
      return counts;
    },
  };
}

const failureOf = (error: NodeJS.ErrnoException) => error.code ?? error.message;

/** One request to the loopback address under the app's host name: not every resolver knows names below localhost. */
export function fetchPage({
  port,
  host,
  agent = false,
}: Address & { agent?: Agent | false }): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request(
      { host: "127.0.0.1", port, path: "/", agent, timeout: TIMEOUT_MS, headers: { host: `${host}:${port}` } },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
        );
      },
    );
    call.on("timeout", () => call.destroy(new Error("no answer in time")));
    call.on("error", reject);
    call.end();
  });
}
