import { z } from "zod";
import { getEnvironment } from "../../environment/environments.ts";
import { getDeployment } from "../../release/deployments.ts";
import { getRelease } from "../../release/releases.ts";
import { resolveRelease } from "../../release/resolve-release.ts";
import { runtimesOf } from "../../release/runtimes.ts";
import type { Place, Release, ReleaseService } from "../../rollout/release.ts";
import { fail } from "../../shared/errors.ts";
import { askRuntime } from "../ask-runtime.ts";
import { type Metrics, MetricsBody, MetricsQuery, type ServiceMetrics } from "../metrics-schemas.ts";
import type { Platform } from "../platform.ts";
import type { TypedServer } from "../server.ts";
import { viewServiceMetrics } from "../view-metrics.ts";

/** Of figures over days CloudWatch gives several pages. */
const ANSWERS_WITHIN_MS = 20_000;
const HOUR_MS = 3_600_000;
const MOST_MS = 30 * 24 * HOUR_MS;
/** How soon the sources have something new: Shipway looks every 15 s, and when it is asked; CloudWatch has minutes. */
const FRESH_EVERY_MS = { docker: 5_000, ecs: 60_000 };

type Role = ServiceMetrics["role"];

export function metricsRoutes(server: TypedServer, platform: Platform): void {
  server.get(
    "/api/apps/:app/environments/:environment/metrics",
    {
      config: { role: "viewer" },
      schema: {
        summary:
          "What tasks use and what they answer: of the live release, the one on standby and one that is being deployed, each by itself",
        params: z.object({ app: z.string(), environment: z.string() }),
        querystring: MetricsQuery,
        response: { 200: MetricsBody },
      },
    },
    async (request): Promise<Metrics> => {
      const { params: place, query } = request;
      const roles = await releasesOf(platform, place);
      const releases = roles.map(({ release }) => withOnly(release, query.service));
      if (query.service !== undefined && releases.every(({ services }) => services.length === 0))
        throw unknownService(place, query.service, roles[0]?.release.services ?? []);
      const now = Date.now();
      const sinceMs = Math.max(query.since === undefined ? now - HOUR_MS : Date.parse(query.since), now - MOST_MS);
      const { current } = await runtimesOf(platform.store.db, place);
      const measuring = platform.target.measure(place, releases, { sinceMs });
      const measured = await askRuntime(platform, place, ANSWERS_WITHIN_MS, measuring);
      const services = releases.flatMap((release, index) =>
        release.services.flatMap((service) => {
          const own = measured.services.find((one) => one.release === release.number && one.service === service.name);
          const role = roles[index]?.role ?? "live";
          // What stands by no more is of no interest; what is live and not there is.
          const isShown = own !== undefined && (role === "live" || own.running > 0 || own.tasks.length > 0);
          return isShown ? [viewServiceMetrics(role, service, own)] : [];
        }),
      );
      return {
        ...place,
        runtime: current.kind,
        at: new Date(now).toISOString(),
        since: new Date(measured.sinceMs).toISOString(),
        everyMs: measured.everyMs,
        freshEveryMs: FRESH_EVERY_MS[current.kind],
        services,
        notes: measured.notes,
      };
    },
  );
}

/** The live release, the one on standby, and one that is being deployed. */
async function releasesOf({ store: { db } }: Platform, place: Place): Promise<{ role: Role; release: Release }[]> {
  const row = await getEnvironment(db, place);
  const running = row.running_deployment === null ? undefined : await getDeployment(db, row.running_deployment);
  const numbers = new Map<number, Role>();
  const known = [
    [row.live_release, "live"],
    [running?.release, "deploying"],
    [row.standby_release, "standby"],
  ] as const;
  for (const [number, role] of known) {
    if (number !== null && number !== undefined && !numbers.has(number)) numbers.set(number, role);
  }
  return Promise.all(
    [...numbers].map(async ([number, role]) => {
      const record = await getRelease(db, place.app, number);
      return { role, release: resolveRelease(record, place.environment).release };
    }),
  );
}

const withOnly = (release: Release, service: string | undefined): Release => ({
  ...release,
  services: release.services.filter(({ name }) => service === undefined || name === service),
});

function unknownService({ app, environment }: Place, service: string, services: ReleaseService[]) {
  const names = services.map(({ name }) => name).join(", ");
  return fail("NOT_FOUND", {
    message: `${app} ${environment} has no service ${service}.`,
    hint: names === "" ? "Nothing is live there yet: `git push shipway main`" : `It has ${names}.`,
  });
}
