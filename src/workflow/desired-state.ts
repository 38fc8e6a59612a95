import type { EnvironmentRow } from "../environment/environments.ts";
import type { Sealer } from "../environment/sealing.ts";
import type { Secrets } from "../environment/secrets.ts";
import { getRelease } from "../release/releases.ts";
import { resolveRelease } from "../release/resolve-release.ts";
import { publishedRelease, runtimesOf } from "../release/runtimes.ts";
import type { DesiredState, RolloutTarget } from "../rollout/target.ts";
import type { Store } from "../store/open-store.ts";
import { backingOf } from "./backings.ts";
import { liveVariables } from "./deployment-stages.ts";

export type DesiredStateDeps = {
  store: Store;
  secrets: Secrets;
  sealer: Sealer;
  target: Pick<RolloutTarget, "backingVariables">;
};

/** What should run in an environment in which no deployment is under way, as the database has it. Nothing running is touched.
 * Backing services declared through the API are left out: those are looked at by who declares them (`watchBacking`). */
export async function readDesiredState(deps: DesiredStateDeps, row: EnvironmentRow): Promise<DesiredState> {
  const place = { app: row.app, environment: row.name };
  if (row.live_release === null) return { inProgress: [] };
  const { release: resolved, environmentSpec } = resolveRelease(
    await getRelease(deps.store.db, row.app, row.live_release),
    row.name,
  );
  const { current } = await runtimesOf(deps.store.db, place);
  const release = await publishedRelease(deps.store.db, resolved, current);
  const backing = await backingOf({ ...deps, db: deps.store.db }, place, environmentSpec);
  const variables = await liveVariables(
    deps,
    { ...place, release: row.live_release },
    deps.target.backingVariables(place, backing.all),
  );
  const standby =
    row.standby_release === null
      ? undefined
      : resolveRelease(await getRelease(deps.store.db, row.app, row.standby_release), row.name).release;
  return { live: { release, variables }, ...(standby && { standby }), inProgress: [], backing: backing.own };
}
