import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hasCode } from "../shared/errors.ts";
import { downtimeProblems, type PlanInput, planRetreat, planRollout, type RolloutStep } from "./plan.ts";
import { type Release, type ReleaseService, servesTraffic, taskNames } from "./release.ts";
import type { ObservedService } from "./target.ts";
import { newRelease, newService } from "./testing.ts";

const place = { app: "shop", environment: "production" };

describe("planRollout", () => {
  it("never gives traffic to a task that was not proved or woken, and moves it exactly once", () => {
    check((plan, input) => {
      const shiftAt = indexesOf(plan.steps, "shift");
      expect(shiftAt).toHaveLength(1);
      const before = plan.steps.slice(0, shiftAt[0]);
      if (plan.how === "wake") expect(before.map((step) => step.do)).toEqual(["wake"]);
      else expect(provedIn(before)).toEqual(new Set(input.release.services.map((service) => service.name)));
    });
  });

  it("leaves the previous release and the standby alone until traffic moved, unless downtime was accepted", () => {
    check((plan, input) => {
      const before = plan.steps.slice(0, indexesOf(plan.steps, "shift")[0]);
      for (const step of before) {
        if (step.do === "park" || step.do === "drain") expect.unreachable();
        if (step.do === "stop") expect(step.release).toBe(input.release.number);
        if (step.do === "make-way") {
          for (const name of step.services) {
            expect(input.previous?.services.find((one) => one.name === name)?.acceptsDowntime).toBe(true);
          }
        }
      }
    });
  });

  it("runs release commands before anything starts, in deploys only", () => {
    check((plan, input) => {
      const commands = indexesOf(plan.steps, "run-release-command");
      const wanted = input.kind === "deploy" ? input.release.services.filter((one) => one.releaseCommand) : [];
      expect(commands).toHaveLength(wanted.length);
      const firstStart = plan.steps.findIndex((step) => step.do === "start");
      for (const at of commands) expect(at).toBeLessThan(firstStart);
    });
  });

  it("leaves exactly the new release and one standby, whatever was there", () => {
    check((plan, input) => {
      const { number } = input.release;
      const left = new Set([
        ...input.observed.map((one) => one.release),
        ...(input.previous ? [input.previous.number] : []),
        number,
      ]);
      const parked = plan.steps.flatMap((step) => (step.do === "park" ? [step.release] : []));
      const shiftAt = indexesOf(plan.steps, "shift")[0] ?? 0;
      for (const step of plan.steps.slice(shiftAt)) if (step.do === "stop") left.delete(step.release);
      expect(parked).toEqual(input.previous ? [input.previous.number] : []);
      expect(left).toEqual(new Set([input.release.number, ...parked]));
    });
  });

  it("starts every service of the release that is not woken, before or after the shift", () => {
    check((plan, input) => {
      const started = new Set(plan.steps.flatMap((step) => (step.do === "start" ? step.services : [])));
      const expected = input.release.services.filter((one) => plan.how === "start" || !servesTraffic(one));
      expect(started).toEqual(new Set(expected.map((one) => one.name)));
    });
  });

  it("wakes a standby and moves traffic first, and starts its workers after", () => {
    const release = newRelease(5, [newService("web"), newService("worker", { port: undefined })]);
    const previous = newRelease(6, release.services);
    const plan = planRollout(inputOf({ release, previous, kind: "rollback", observed: [parked(release, "web")] }));
    expect(
      plan.status === "planned" && plan.phases.map((phase) => [phase.name, ...phase.steps.map((s) => s.do)]),
    ).toEqual([
      ["shift", "wake", "shift"],
      ["workers", "start", "await-healthy"],
      ["bake", "bake"],
      ["settle", "drain", "park"],
    ]);
  });

  it("starts a rollback anew when a parked task is missing, and says so", () => {
    const release = newRelease(5, [newService("web", { count: 2 })]);
    const seen = parked(release, "web");
    const plan = planRollout(
      inputOf({
        release,
        previous: newRelease(6),
        kind: "rollback",
        observed: [{ ...seen, tasks: seen.tasks.slice(1) }],
      }),
    );
    expect(plan).toMatchObject({
      how: "start",
      notes: [expect.stringContaining("r5 is not on standby any more"), expect.anything()],
    });
  });

  it("does not take tasks that an unfinished rollout started for a standby", () => {
    const release = newRelease(5);
    const observed = [{ ...parked(release, "web"), traffic: "draining" as const }];
    const plan = planRollout(inputOf({ release, previous: newRelease(6), kind: "rollback", observed }));
    expect(plan).toMatchObject({ how: "start" });
  });

  it("removes parked tasks of the release before it is started anew", () => {
    const release = newRelease(5);
    const plan = planRollout(inputOf({ release, previous: newRelease(6), observed: [parked(release, "web")] }));
    const steps = plan.status === "planned" ? plan.phases.flatMap((phase) => phase.steps) : [];
    expect(steps.slice(0, 3)).toMatchObject([{ do: "prepare" }, { do: "stop", release: 5 }, { do: "start" }]);
  });

  it("does nothing when the release serves already", () => {
    const release = newRelease(5);
    expect(planRollout(inputOf({ release, previous: release }))).toEqual({ status: "already-live" });
  });

  it("refuses a host port and a volume unless downtime is accepted, and names all of them", () => {
    const release = newRelease(2, [
      newService("web", { hostPort: 8080 }),
      newService("files", { volumes: ["data:/data"] }),
      newService("ok", { hostPort: 9090, acceptsDowntime: true }),
    ]);
    expect(downtimeProblems(release.services)).toHaveLength(2);
    try {
      planRollout(inputOf({ release }));
      expect.unreachable();
    } catch (error) {
      expect(hasCode(error, "DOWNTIME_REFUSED")).toBe(true);
      expect(String(error)).toMatch(/web owns the host's port 8080.*files owns the volume data/);
    }
  });
});

describe("planRetreat", () => {
  it("before the shift only removes what was started", () => {
    const input = inputOf({ release: newRelease(2), previous: newRelease(1) });
    expect(planRetreat(input, { trafficMoved: false, why: "failed" }).steps).toEqual([{ do: "stop", release: 2 }]);
  });

  it("after the shift moves traffic back before it removes anything", () => {
    const input = inputOf({ release: newRelease(2), previous: newRelease(1) });
    expect(planRetreat(input, { trafficMoved: true, why: "failed" }).steps.map((step) => step.do)).toEqual([
      "shift-back",
      "stop",
    ]);
  });

  it("parks a woken standby again when the rollback is canceled, and removes it when it failed", () => {
    const release = newRelease(5);
    const input = inputOf({ release, previous: newRelease(6), kind: "rollback", observed: [parked(release, "web")] });
    expect(planRetreat(input, { trafficMoved: true, why: "canceled" }).steps.at(-1)).toEqual({
      do: "park",
      release: 5,
    });
    expect(planRetreat(input, { trafficMoved: true, why: "failed" }).steps.at(-1)).toEqual({ do: "stop", release: 5 });
  });

  it("starts the services that made way again, after what took their place is gone", () => {
    const files = newService("files", { volumes: ["data:/data"], acceptsDowntime: true });
    const input = inputOf({ release: newRelease(2, [files]), previous: newRelease(1, [files]) });
    const steps = (trafficMoved: boolean) =>
      planRetreat(input, { trafficMoved, why: "failed" }).steps.map((step) => step.do);
    expect(steps(false)).toEqual(["stop", "restore", "shift-back"]);
    expect(steps(true)).toEqual(["make-way", "restore", "shift-back", "stop"]);
  });
});

/** Runs `law` on some hundred small situations. */
function check(law: (plan: { how: "start" | "wake"; steps: RolloutStep[] }, input: PlanInput) => void): void {
  fc.assert(
    fc.property(situations, (input) => {
      const plan = planRollout(input);
      if (plan.status === "already-live") {
        expect(input.previous?.number).toBe(input.release.number);
        return;
      }
      law({ how: plan.how, steps: plan.phases.flatMap((phase) => phase.steps) }, input);
    }),
    { numRuns: 400 },
  );
}

const services: fc.Arbitrary<ReleaseService[]> = fc.uniqueArray(
  fc
    .record({
      name: fc.constantFrom("web", "api", "worker", "files"),
      count: fc.integer({ min: 0, max: 3 }),
      releaseCommand: fc.boolean(),
      owns: fc.boolean(),
    })
    .map(({ name, count, releaseCommand, owns }) =>
      newService(name, {
        count,
        port: name === "worker" ? undefined : 3000,
        ...(releaseCommand ? { releaseCommand: ["migrate"] } : {}),
        ...(name === "files" && owns ? { volumes: ["data:/data"], acceptsDowntime: true } : {}),
      }),
    ),
  { selector: (service) => service.name, minLength: 1 },
);

const situations: fc.Arbitrary<PlanInput> = fc
  .record({
    number: fc.integer({ min: 1, max: 5 }),
    services,
    previousNumber: fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }),
    previousServices: services,
    kind: fc.constantFrom("deploy" as const, "rollback" as const),
    isParked: fc.boolean(),
    strangers: fc.uniqueArray(fc.integer({ min: 6, max: 9 })),
  })
  .map((one) => {
    const release = newRelease(one.number, one.services);
    const previous =
      one.previousNumber === undefined ? undefined : newRelease(one.previousNumber, one.previousServices);
    const observed = [
      ...(previous?.services ?? []).map((service) =>
        seen(newRelease(previous?.number ?? 0, [service]), service, "serving"),
      ),
      ...(one.isParked && previous?.number !== release.number
        ? release.services.filter(servesTraffic).map((service) => seen(release, service, "standby"))
        : []),
      ...one.strangers.map((number) => seen(newRelease(number), newService("web"), "standby")),
    ];
    return inputOf({ release, ...(previous ? { previous } : {}), kind: one.kind, observed });
  });

function inputOf(partial: Partial<PlanInput> & { release: Release }): PlanInput {
  return { place, observed: [], kind: "deploy", bakeMs: 3_000, ...partial };
}

function seen(release: Release, service: ReleaseService, traffic: "serving" | "standby"): ObservedService {
  const state = traffic === "standby" ? ("paused" as const) : ("running" as const);
  const tasks = taskNames(place, release.number, service).map((name) => ({ name, state }));
  return { release: release.number, service: service.name, traffic: servesTraffic(service) ? traffic : "none", tasks };
}

function parked(release: Release, name: string): ObservedService {
  const service = release.services.find((one) => one.name === name) ?? newService(name);
  return seen(release, service, "standby");
}

function indexesOf(steps: RolloutStep[], kind: RolloutStep["do"]): number[] {
  return steps.flatMap((step, index) => (step.do === kind ? [index] : []));
}

/** Services that were started and then proved. */
function provedIn(steps: RolloutStep[]): Set<string> {
  const started = new Set<string>();
  const proved = new Set<string>();
  for (const step of steps) {
    if (step.do === "start") for (const name of step.services) started.add(name);
    if (step.do === "await-healthy") for (const name of step.services) if (started.has(name)) proved.add(name);
  }
  return proved;
}
