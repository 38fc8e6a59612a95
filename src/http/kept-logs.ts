import type { NumberedLine } from "../events/log-store.ts";
import { findLogOwner } from "../release/log-owner.ts";
import type { Platform } from "./platform.ts";

type Deps = Pick<Platform, "store" | "logs">;

const PAGE = 1_000;
/** How soon the end of a log that was never opened is noticed. */
const OWNER_LOOK_MS = 1_000;

/**
 * Lines of a kept log from `from` on, past and future, until the log ends. It ends by itself, or with what it belongs to:
 * a step that is skipped never opens its log, and a crash leaves one without its end.
 */
export async function* followKeptLog(
  { store, logs }: Deps,
  logId: string,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<NumberedLine, void, void> {
  const over = new AbortController();
  const look = async () => {
    const owner = await findLogOwner(store.db, logId).catch(() => ({ ended: false }));
    if (owner?.ended !== false) over.abort();
  };
  await look();
  const looking = setInterval(() => void look(), OWNER_LOOK_MS);
  let next = from;
  try {
    for await (const line of logs.follow(logId, next, AbortSignal.any([signal, over.signal]))) {
      next = line.line + 1;
      yield line;
    }
  } finally {
    clearInterval(looking);
  }
  while (over.signal.aborted && !signal.aborted) {
    const page = await logs.read(logId, next, PAGE);
    if (page.length === 0) return;
    next += page.length;
    yield* page;
  }
}
