import { toProblem } from "../shared/errors.ts";
import type { ReceivedPush } from "./change.ts";
import type { Backend } from "./git-backend.ts";
import { feed, type Outlet } from "./http-stream.ts";
import { encodeProgress, FLUSH, KEEP_ALIVE, PacketError } from "./pkt-line.ts";
import { newPushAnswerReader, type PushAnswerReader, type PushReport } from "./push-report.ts";
import { newPushHeadReader, type PushHead, type RefCommand } from "./push-request.ts";
import type { Repositories } from "./repositories.ts";

/**
 * Told of each push whose refs are stored, also when the client has gone meanwhile. Resolves once the push is on record;
 * what it resolves with are lines for the person who pushed. They are only shown: nothing may depend on their being read,
 * and reading stops early when `signal` aborts (the client left, or the server closes).
 */
export type OnPush = (push: ReceivedPush, signal: AbortSignal) => Promise<AsyncIterable<string>>;

/** One request to store a push. */
export type PushRequest = {
  app: string;
  actor: string;
  body: AsyncGenerator<Buffer, void>;
  outlet: Outlet;
  startBackend(): Promise<Backend>;
  maxPushBytes: number;
  /** How often an idle connection is proved alive. */
  keepAliveMs: number;
  /** Aborts when the server closes. */
  closing: AbortSignal;
};

export type PushSummary = { refs: string[]; bytes: number; unpack: string | undefined; problem: unknown };

// A push of 100,000 refs has a head of some 10 MB.
const MAX_HEAD_BYTES = 16 * 1024 * 1024;

/**
 * Passes a push through to git and git's answer back, then shows how the work goes on behind the answer.
 * When the client breaks off before all of the pack has arrived, nothing is stored; after that, git stores it all the same.
 * @throws PacketError when the request is no push
 */
export async function receivePush(
  request: PushRequest,
  services: { repositories: Repositories; onPush: OnPush },
): Promise<PushSummary> {
  const { app, actor, outlet } = request;
  const head = await readHead(request.body);
  const backend = await request.startBackend();
  // When the client breaks off, git finds the pack incomplete and removes what it had of it.
  const feeding = feed(backend.input, wholeRequest(head.chunks, request.body), outlet.cut);

  const unread = firstAborted(outlet.gone, request.closing);
  const record = (stored: RefCommand[]) =>
    recordPush({ app, actor, stored, options: head.options, unread: unread.signal }, services);
  let recorded: Promise<RecordedPush> | undefined;
  const answer = await relayAnswer(backend, outlet, head, (report) => {
    recorded = record(head.commands.filter(({ ref }) => report.stored.has(ref)));
  });
  // No report: the client did not ask for one, or git was killed between storing the refs and saying so.
  recorded ??= services.repositories.storedCommands(app, head.commands).then(record);

  const stopKeepAlive = keepAlive(request, answer);
  try {
    const { stored, lines, problem } = await recorded;
    await showProgress(lines, { outlet, unread: unread.signal, closing: request.closing, visible: answer.ended() });
    const unpack = answer.report()?.unpack;
    if (unpack !== undefined && unpack !== "ok" && feeding.received() > request.maxPushBytes) {
      await outlet.send(encodeProgress(tooLarge(request.maxPushBytes)));
    }
    return { refs: stored.map(({ ref }) => ref), bytes: feeding.received(), unpack, problem };
  } finally {
    stopKeepAlive();
    unread.release();
    if (answer.ended()) await outlet.send(FLUSH);
    outlet.end();
    await feeding.done;
  }
}

function tooLarge(maxBytes: number): string {
  return `This push is larger than the ${Math.floor(maxBytes / 1024 / 1024)} MiB that this Shipway takes in at once. Keep large files out of git, or push in parts.`;
}

// --- towards git

async function readHead(body: AsyncGenerator<Buffer, void>): Promise<PushHead & { chunks: Buffer[] }> {
  const reader = newPushHeadReader();
  const chunks: Buffer[] = [];
  for (let bytes = 0; bytes <= MAX_HEAD_BYTES; ) {
    const next = await body.next();
    if (next.done) throw new PacketError("the request ended in its head");
    chunks.push(next.value);
    bytes += next.value.length;
    const head = reader.write(next.value);
    if (head) return { ...head, chunks };
  }
  throw new PacketError("too many refs or push options in one push");
}

/** What was read for the head, then the rest. */
async function* wholeRequest(chunks: Buffer[], rest: AsyncGenerator<Buffer, void>): AsyncGenerator<Buffer, void> {
  yield* chunks;
  yield* rest;
}

// --- back to the client

async function relayAnswer(
  backend: Backend,
  outlet: Outlet,
  head: PushHead,
  onReport: (report: PushReport) => void,
): Promise<PushAnswerReader> {
  const { status, headers } = await backend.headers();
  // nginx and its like would otherwise keep the progress until the answer is complete.
  outlet.start(status, { ...headers, "X-Accel-Buffering": "no" });
  const answer = newPushAnswerReader(head.capabilities.has("side-band-64k"));
  let reported = false;
  for await (const chunk of backend.output()) {
    const passOn = answer.write(chunk);
    const report = answer.report();
    if (report && !reported) {
      reported = true;
      onReport(report);
    }
    await outlet.send(passOn);
  }
  return answer;
}

/** Proxies cut connections on which nothing moves. */
function keepAlive(request: PushRequest, answer: PushAnswerReader): () => void {
  if (!answer.ended()) return () => {};
  let pending = false;
  const timer = setInterval(async () => {
    if (pending) return;
    pending = true;
    await request.outlet.send(KEEP_ALIVE);
    pending = false;
  }, request.keepAliveMs);
  return () => clearInterval(timer);
}

// --- what follows a stored push

type RecordedPush = { stored: RefCommand[]; lines: AsyncIterable<string> | string[]; problem?: unknown };

async function recordPush(
  push: { app: string; actor: string; stored: RefCommand[]; options: string[]; unread: AbortSignal },
  { repositories, onPush }: { repositories: Repositories; onPush: OnPush },
): Promise<RecordedPush> {
  const { app, actor, stored, options, unread } = push;
  if (stored.length === 0) return { stored, lines: [] };
  try {
    const refs = await repositories.pushedRefs(app, stored);
    const lines = await onPush({ app, actor, refs, options }, unread);
    const hasNewBranch = refs.some(({ refKind, oldCommit }) => refKind === "branch" && oldCommit === undefined);
    // Only a convenience for clones; housekeeping tries again.
    if (hasNewBranch) await repositories.settleDefaultBranch(app).catch(() => {});
    return { stored, lines };
  } catch (error) {
    return { stored, lines: notRecorded(error), problem: error };
  }
}

function notRecorded(error: unknown): string[] {
  const { code, message } = toProblem(error);
  const reason = code === "BUG" ? "an error on the server; its log has the details" : message;
  return [
    `Your push is stored, but what follows it could not be started: ${reason}`,
    "Shipway takes it up when it finds the push unrecorded, at its next start at the latest. Pushing again changes nothing.",
  ];
}

async function showProgress(
  lines: AsyncIterable<string> | string[],
  to: { outlet: Outlet; unread: AbortSignal; closing: AbortSignal; visible: boolean },
): Promise<void> {
  const iterator = Array.isArray(lines) ? lines.values() : lines[Symbol.asyncIterator]();
  const stopped = whenAborted(to.unread);
  let complete = false;
  try {
    while (to.visible && !to.unread.aborted && !complete) {
      const next = await Promise.race([iterator.next(), stopped.promise]);
      if (next?.done === false) await to.outlet.send(encodeProgress(next.value));
      complete = next?.done === true;
    }
  } catch (error) {
    await to.outlet.send(encodeProgress(`The progress cannot be shown any further: ${toProblem(error).message}`));
  } finally {
    stopped.release();
    // Not awaited: a generator that waits for its next event ends only after it.
    Promise.resolve(iterator.return?.()).catch(() => {});
  }
  if (to.visible && !complete && to.closing.aborted) {
    await to.outlet.send(encodeProgress("Shipway is restarting. Your push is stored and its work goes on afterwards."));
  }
}

// Not AbortSignal.any: on Node 20 the long-lived signal among its sources keeps every signal ever made of it.
function firstAborted(...signals: AbortSignal[]): { signal: AbortSignal; release(): void } {
  const first = new AbortController();
  const abort = () => first.abort(signals.find(({ aborted }) => aborted)?.reason);
  for (const signal of signals) signal.addEventListener("abort", abort);
  if (signals.some(({ aborted }) => aborted)) abort();
  return {
    signal: first.signal,
    release() {
      for (const signal of signals) signal.removeEventListener("abort", abort);
    },
  };
}

function whenAborted(signal: AbortSignal): { promise: Promise<undefined>; release(): void } {
  let release = () => {};
  const promise = new Promise<undefined>((resolve) => {
    const onAbort = () => resolve(undefined);
    signal.addEventListener("abort", onAbort, { once: true });
    release = () => {
      signal.removeEventListener("abort", onAbort);
      resolve(undefined);
    };
  });
  return { promise, release };
}
