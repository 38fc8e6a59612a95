import { lastEventId } from "../events/event-stream.ts";
import { narrate, newNarration } from "../events/narrate.ts";
import { getRun } from "../infra/runs.ts";
import type { ReceivedPush } from "../source/change.ts";
import type { InfraRepository } from "../source/infra-repositories.ts";
import { type InfraPush, recordInfraPush } from "../workflow/infra-push.ts";
import type { Platform } from "./platform.ts";

/** As `pushProgress`, for an infra repository: its runs, one environment after the other, each until it has ended or waits for an approval. */
export async function infraPushProgress(
  platform: Platform,
  repository: InfraRepository,
  push: ReceivedPush,
  signal: AbortSignal,
): Promise<AsyncIterable<string>> {
  const { store, repositories, secrets, infra, engine } = platform;
  const after = await lastEventId(store.db);
  const recorded = await recordInfraPush({ db: store.db, repositories, secrets, code: infra.code }, repository, push);
  for (const start of recorded.starts) await engine.startInfra(start);
  return tell(platform, repository, push, { ...recorded, after }, signal);
}

async function* tell(
  platform: Platform,
  { app }: InfraRepository,
  push: ReceivedPush,
  { remarks, runs, after }: InfraPush & { after: number },
  signal: AbortSignal,
): AsyncGenerator<string, void, void> {
  yield* remarks;
  if (runs.length === 0) return;
  if (push.options.includes("no-wait")) {
    yield `Working on it. Follow with \`shipway events -f --app ${app}\`.`;
    return;
  }
  // They run side by side; told one after the other, their lines do not need the name of the environment each.
  for (const run of runs) {
    let narration = newNarration();
    for await (const event of platform.events.follow({ app, after, deliveryId: run.id }, signal)) {
      const told = narrate(narration, event);
      narration = told.state;
      yield* told.lines;
      if (event.kind === "infra.ended" || event.kind === "infra.waiting") break;
    }
    if (!signal.aborted) yield* await changedOutputs(platform, run.id);
  }
}

/** Tasks that run keep the values they were started with, also when their release is deployed once more: it takes a new one, of the same commit. */
async function changedOutputs({ store }: Platform, runId: string): Promise<string[]> {
  const { app, environment, kind, status, plan, spec } = await getRun(store.db, runId);
  const changed = Object.values(spec.outputs).filter((output) => plan?.outputs.includes(output));
  if (kind !== "apply" || status !== "succeeded" || changed.length === 0) return [];
  const live = await store.db
    .selectFrom("environments as e")
    .innerJoin("releases as r", (join) => join.onRef("r.app", "=", "e.app").onRef("r.number", "=", "e.live_release"))
    .select("r.commit")
    .where("e.app", "=", app)
    .where("e.name", "=", environment)
    .executeTakeFirst();
  if (live === undefined) return [];
  return [
    `! services get the new ${changed.join(", ")} with the next release; of the commit that runs:`,
    `  → \`shipway deploy --app ${app} --env ${environment} --ref ${live.commit.slice(0, 12)}\``,
  ];
}
