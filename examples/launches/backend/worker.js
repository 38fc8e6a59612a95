import { setTimeout as sleep } from "node:timers/promises";
import { drawDue, forgetTestEntries } from "./src/closing.js";
import { readConfig } from "./src/config.js";
import { openDatabase } from "./src/database.js";
import { log } from "./src/log.js";
import { stopOnSignal } from "./src/serve.js";

const POLL_MS = 1_000;
const CLEAN_EVERY_MS = 600_000;

const config = readConfig(process.env);
const database = openDatabase(config.database, { connections: 2 });
const stopping = new AbortController();
const finished = work();

stopOnSignal(async (signal) => {
  log("stopping", { signal });
  stopping.abort();
  await finished;
  await database.close();
  log("stopped");
});

/** One look a second until told to stop. A database that is away is waited for, with growing pauses and one line each. */
async function work() {
  log("watching", { release: config.release, everyMs: POLL_MS });
  let failures = 0;
  let cleanedAt = 0;
  while (!stopping.signal.aborted) {
    try {
      for (const draw of await drawDue(database))
        log("drew", { launch: draw.slug, entries: draw.entries, winners: draw.winners, ms: draw.durationMs });
      if (Date.now() - cleanedAt > CLEAN_EVERY_MS) {
        const removed = await forgetTestEntries(database);
        if (removed > 0) log("forgot-test-entries", { removed });
        cleanedAt = Date.now();
      }
      if (failures > 0) log("database-back", { afterFailures: failures });
      failures = 0;
    } catch (error) {
      failures += 1;
      log("database-unavailable", { attempt: failures, code: error?.code ?? "unknown", message: error });
    }
    await sleep(Math.min(POLL_MS * 2 ** failures, 15_000), undefined, { signal: stopping.signal }).catch(() => {});
  }
}
