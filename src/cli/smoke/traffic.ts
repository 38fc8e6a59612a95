import { Agent as HttpAgent, request as httpRequest, type RequestOptions } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { z } from "zod";

/** Where a load balancer is spoken to. */
export type BalancerAddress = { host: string; port: number; secure: boolean };

/** What the test's own service says of itself. */
const Said = z.object({ release: z.string(), secret: z.string() });
export type Said = z.infer<typeof Said>;

/** Asks the service through the load balancer. Rejects with a word for anything but its answer: `502`, `ECONNRESET`. */
export type Ask = (path: string, options?: { fresh?: boolean }) => Promise<Said>;

const TIMEOUT_MS = 10_000;
/** Longer than any request that the test asks to be slow. */
const SLOW_TIMEOUT_MS = 90_000;

/** Connections are kept, as browsers and proxies keep them; `fresh` takes one of its own. */
export function newAsk(address: BalancerAddress, hostName: string): { ask: Ask; close(): void } {
  const kept = address.secure ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true });
  const start = address.secure ? httpsRequest : httpRequest;
  const ask: Ask = (path, { fresh = false } = {}) =>
    new Promise((resolve, reject) => {
      const options: RequestOptions & { rejectUnauthorized: boolean; servername: string } = {
        host: address.host,
        port: address.port,
        path,
        headers: { host: hostName },
        agent: fresh ? false : kept,
        timeout: path.includes("ms=") ? SLOW_TIMEOUT_MS : TIMEOUT_MS,
        // The name is the test's own and in nobody's certificate; what is said is no secret.
        servername: hostName,
        rejectUnauthorized: false,
      };
      const asked = start(options, (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.once("error", reject);
        answer.once("end", () => {
          if (answer.statusCode !== 200) return reject(new Error(String(answer.statusCode)));
          const said = Said.safeParse(parseJson(Buffer.concat(chunks).toString()));
          if (said.success) resolve(said.data);
          else reject(new Error("200 of somebody else"));
        });
      });
      asked.once("timeout", () => asked.destroy(new Error("no answer in time")));
      asked.once("error", reject);
      asked.end();
    });
  return { ask, close: () => kept.destroy() };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** One request and what came of it; ms since 1970. */
export type Answer = { sentAt: number; endedAt: number } & ({ release: string } | { problem: string });

/** Beyond this many that wait nothing is learnt from another one. */
const MOST_WAITING = 200;
/** Every so many requests one has a connection of its own. */
const FRESH_EVERY = 10;

/** Asks again and again, whether or not the last answer is there, until it is stopped; what comes of it is added to `answers`. */
export function startTraffic(ask: Ask, answers: Answer[], everyMs: number): { stop(): Promise<void> } {
  const waiting = new Set<Promise<void>>();
  let sent = 0;
  const sendOne = () => {
    if (waiting.size >= MOST_WAITING) return;
    const sentAt = Date.now();
    const asked = ask("/", { fresh: sent++ % FRESH_EVERY === 0 }).then(
      ({ release }) => void answers.push({ sentAt, endedAt: Date.now(), release }),
      (error: unknown) => void answers.push({ sentAt, endedAt: Date.now(), problem: wordFor(error) }),
    );
    waiting.add(asked);
    void asked.finally(() => waiting.delete(asked));
  };
  const timer = setInterval(sendOne, everyMs);
  return {
    async stop() {
      clearInterval(timer);
      await Promise.all(waiting);
    },
  };
}

function wordFor(error: unknown): string {
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.code;
  return error instanceof Error ? error.message : String(error);
}

/** How traffic moved, in ms since the call that moved it; undefined: no such answer. */
export type MoveFigures = {
  requests: number;
  failed: number;
  firstNewMs: number | undefined;
  lastOldMs: number | undefined;
  /** When the request was sent that the old release was the last to answer. */
  lastOldSentMs: number | undefined;
};

/** What was seen of a move to `release` that was asked for at `movedAt`, of the requests that were answered since. Pure. */
export function moveFigures(answers: Answer[], movedAt: number, release: string): MoveFigures {
  const since = answers.filter(({ endedAt }) => endedAt >= movedAt);
  const news = since.filter((one) => "release" in one && one.release === release);
  const olds = since.filter((one) => "release" in one && one.release !== release);
  const lastOld = olds.reduce(
    (last: Answer | undefined, one) => (last && last.endedAt >= one.endedAt ? last : one),
    undefined,
  );
  return {
    requests: since.length,
    failed: since.filter((one) => "problem" in one).length,
    firstNewMs: news.length === 0 ? undefined : Math.min(...news.map(({ endedAt }) => endedAt)) - movedAt,
    lastOldMs: lastOld && lastOld.endedAt - movedAt,
    lastOldSentMs: lastOld && lastOld.sentAt - movedAt,
  };
}

/** `3 × 502, 1 × ECONNRESET`. */
export function problemsIn(answers: Answer[]): string {
  const counts = new Map<string, number>();
  for (const one of answers) if ("problem" in one) counts.set(one.problem, (counts.get(one.problem) ?? 0) + 1);
  return [...counts].map(([problem, times]) => `${times} × ${problem}`).join(", ");
}
