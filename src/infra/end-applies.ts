import { sleep } from "../shared/until.ts";
import type { Database } from "../store/open-store.ts";
import { requestStop } from "./stop-requests.ts";

const LOOK_EVERY_MS = 250;
/** Most applies end by themselves within this; the rest is what Amazon ECS leaves of two minutes to what they are at, and to our own end. */
const TIMES = { byThemselvesMs: 15_000, inAllMs: 95_000 };

/**
 * For a Shipway whose end is the end of Terraform, too, as in a container: waits until none is applying, and asks those that go on to stop after what they are
 * at. What still runs then is cut off, and to be recovered. What follows them must be at work, and the state be served, until this resolves.
 */
export async function endApplies(db: Database, times = TIMES): Promise<void> {
  const startedAt = Date.now();
  for (;;) {
    const applying = await db
      .selectFrom("infra_runs")
      .select("id")
      .where("status", "=", "running")
      .where("apply_started_at", "is not", null)
      .execute();
    const passedMs = Date.now() - startedAt;
    if (applying.length === 0 || passedMs >= times.inAllMs) return;
    // Asking twice is a no-op, and one that has ended meanwhile needs no asking.
    if (passedMs >= times.byThemselvesMs)
      for (const { id } of applying) await requestStop(db, id, "shipway").catch(() => undefined);
    await sleep(LOOK_EVERY_MS);
  }
}
