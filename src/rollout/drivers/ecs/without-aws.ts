import { fail } from "../../../shared/errors.ts";
import type { Place, ReleaseService } from "../../release.ts";
import type { EcsSettings } from "../../runtime.ts";
import type { Backing, BackingVariables, RolloutTarget } from "../../target.ts";

/** What can be said without asking AWS, and so without loading its SDK. */
export const answersWithoutAws = (settings: Pick<EcsSettings, "scheme">) => ({
  /** Tasks reach a service as everybody does: through the load balancer, at its first domain. */
  addressOf: (_place: Place, { hosts, name }: ReleaseService): string => `${settings.scheme}://${hosts[0] ?? name}`,

  backingVariables(place: Place, backing: Backing[]): BackingVariables {
    if (backing.length > 0) throw noBacking(place, backing);
    return {};
  },
});

export function noBacking({ app, environment }: Place, backing: Backing[]) {
  const names = backing.map((one) => one.name).join(", ");
  return fail("BACKING_NOT_ON_ECS", {
    message: `${app} ${environment} runs on ECS and declares backing services (${names}): on AWS they come from Terraform.`,
    hint: "Make them in the environment's `infra` (RDS, ElastiCache), give their addresses to the services with `infra: { outputs: { DB_URL: … } }`, and write `backing: none` at the environment.",
  });
}

/** A target that is opened by the first call that needs it. An opening that failed is tried again by the next. */
export function lazyEcsTarget(settings: EcsSettings, open: () => Promise<RolloutTarget>): RolloutTarget {
  let opening: Promise<RolloutTarget> | undefined;
  const opened = (): Promise<RolloutTarget> => {
    opening ??= open().catch((error: unknown) => {
      opening = undefined;
      throw error;
    });
    return opening;
  };
  return {
    ...answersWithoutAws(settings),
    observe: async (place, only) => (await opened()).observe(place, only),
    prepare: async (place, release) => (await opened()).prepare(place, release),
    observeBacking: async (place, backing) => (await opened()).observeBacking(place, backing),
    ensureBacking: async (place, backing, log, signal) => (await opened()).ensureBacking(place, backing, log, signal),
    removeBacking: async (place, name, data) => (await opened()).removeBacking(place, name, data),
    runOnce: async (place, release, run, log, signal) => (await opened()).runOnce(place, release, run, log, signal),
    exec: async (place, task, request) => (await opened()).exec(place, task, request),
    endExec: async (place, task, id) => (await opened()).endExec(place, task, id),
    forgetRun: async (place, key) => (await opened()).forgetRun(place, key),
    startService: async (place, release, service, variables) =>
      (await opened()).startService(place, release, service, variables),
    awaitHealthy: async (place, release, services, options) =>
      (await opened()).awaitHealthy(place, release, services, options),
    watchHealth: async (place, release, services, options) =>
      (await opened()).watchHealth(place, release, services, options),
    shiftTraffic: async (place, release) => (await opened()).shiftTraffic(place, release),
    awaitDrained: async (place, serving, deadlineMs) => (await opened()).awaitDrained(place, serving, deadlineMs),
    park: async (place, release) => (await opened()).park(place, release),
    wake: async (place, release) => (await opened()).wake(place, release),
    stop: async (place, release, services) => (await opened()).stop(place, release, services),
    findDrift: async (place, desired, options) => (await opened()).findDrift(place, desired, options),
    reconcile: async (place, desired) => (await opened()).reconcile(place, desired),
    readLogs: async (place, source, options, log) => (await opened()).readLogs(place, source, options, log),
    tidy: async (place, kept, signal) => (await opened()).tidy(place, kept, signal),
    measure: async (place, releases, options) => (await opened()).measure(place, releases, options),
    halt: async (place, spared) => (await opened()).halt(place, spared),
    destroy: async (place, data) => (await opened()).destroy(place, data),
  };
}
