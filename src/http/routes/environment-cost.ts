import { z } from "zod";
import { getEnvironment } from "../../environment/environments.ts";
import { type CostInput, costOfEnvironment } from "../../release/environment-cost.ts";
import { getRelease } from "../../release/releases.ts";
import { resolveRelease } from "../../release/resolve-release.ts";
import { runtimesOf } from "../../release/runtimes.ts";
import type { RuntimeSettings } from "../../rollout/runtime.ts";
import type { EnvironmentSpec } from "../../spec/app-spec.ts";
import type { Platform } from "../platform.ts";
import { CostQuery, EnvironmentCostBody } from "../schemas.ts";
import type { TypedServer } from "../server.ts";

export function environmentCostRoutes(server: TypedServer, { store: { db } }: Platform): void {
  server.get(
    "/api/apps/:app/environments/:environment/cost",
    {
      config: { role: "viewer" },
      schema: {
        summary: "What an environment costs by its declared sizes and a table of list prices",
        params: z.object({ app: z.string(), environment: z.string() }),
        querystring: CostQuery,
        response: { 200: EnvironmentCostBody },
      },
    },
    async (request) => {
      const { params: place, query } = request;
      const row = await getEnvironment(db, place);
      const number = query.release ?? row.live_release ?? undefined;
      const found = number === undefined ? undefined : await getRelease(db, place.app, number);
      const resolved = found && resolveRelease(found, place.environment);
      const { current } = await runtimesOf(db, place);
      return costOfEnvironment({
        ...place,
        release: resolved && { ...resolved.release, standbyMs: resolved.environmentSpec.standbyMs },
        standbyRelease: row.standby_release ?? undefined,
        runtime: pricedRuntime(current, query.release === undefined ? undefined : resolved?.environmentSpec),
        asIfIn: query.region,
      });
    },
  );
}

/** Where it is now; of a release that is asked for, where its own declaration puts it. */
function pricedRuntime(current: RuntimeSettings, asked: EnvironmentSpec | undefined): CostInput["runtime"] {
  if (asked === undefined) return current.kind === "docker" ? current : { kind: "ecs", ...current.settings };
  if (asked.runtime === "docker") return { kind: "docker" };
  const there = current.kind === "ecs" ? current.settings : undefined;
  return {
    kind: "ecs",
    region: asked.aws?.region ?? there?.region,
    architecture: asked.aws?.architecture ?? "x86_64",
    storageGiB: asked.aws?.storage ?? 20,
    spot: asked.aws?.spot,
    publicIp: asked.aws?.publicIp ?? there?.publicIp ?? false,
  };
}
