import { describe, expect, it } from "vitest";
import { newRelease, newService } from "../../../testing.ts";
import { SLOTS, type SlotName } from "../names.ts";
import { chooseSlot, liveSlot, observedOf, planMending, type ServiceView, type Slot, slotOf } from "./slots.ts";

type SlotState = { release: number; desired?: number; running?: number; role?: string } | undefined;

function newSlot(name: SlotName, state: SlotState): Slot | undefined {
  if (state === undefined) return undefined;
  const { release, desired = 1, running = desired, role } = state;
  return {
    name,
    arn: `arn:${name}`,
    serviceName: `s_${name}`,
    status: "ACTIVE",
    desired,
    primary: {
      id: `ecs-svc/${release}`,
      taskDefinition: `td:${release}`,
      release,
      state: "COMPLETED",
      reason: "",
      running,
      pending: desired - running,
      failedTasks: 0,
      createdAt: 0,
    },
    draining: [],
    role,
    rule: undefined,
    targetGroup: undefined,
    hasProviders: false,
    network: { subnets: ["subnet-1"], securityGroups: ["sg-1"], publicIp: false },
    exec: false,
    tags: {},
    settings: {},
  };
}

/** A service with these slots; `live` is the one the rule leads to, `undefined` makes it a worker. */
function newView(a: SlotState, b: SlotState, live: SlotName | undefined, service = "web"): ServiceView {
  const slots: ServiceView["slots"] = {};
  const [slotA, slotB] = [newSlot("a", a), newSlot("b", b)];
  if (slotA) slots.a = slotA;
  if (slotB) slots.b = slotB;
  const weights = { a: live === "a" ? 100 : 0, b: live === "b" ? 100 : 0 };
  return {
    service,
    slots,
    rule:
      live === undefined
        ? undefined
        : {
            arn: "rule",
            hosts: ["web.production.shop.localhost"],
            weights,
            groups: { a: "tg-a", b: "tg-b" },
            priority: "1000",
            extras: {},
          },
  };
}

/** Every state a slot can be in, as far as choosing goes: none, empty, or holding r1, r2 or r3. */
const STATES: SlotState[] = [undefined, { release: 1, desired: 0 }, { release: 1 }, { release: 2 }, { release: 3 }];

describe("the slot for a release", () => {
  it("is never the one that serves, unless that holds this very release", () => {
    for (const a of STATES)
      for (const b of STATES)
        for (const live of SLOTS)
          for (const release of [1, 2, 3, 4]) {
            const view = newView(a, b, live);
            const chosen = chooseSlot(view, release);
            expect(chosen).toBeDefined();
            const serving = view.slots[live]?.primary?.release;
            if (serving !== release) expect(chosen).not.toBe(live);
          }
  });

  it("is the one where the release is already, so that a repetition changes nothing", () => {
    expect(chooseSlot(newView({ release: 1 }, { release: 2 }, "a"), 2)).toBe("b");
    expect(chooseSlot(newView({ release: 2, desired: 0 }, { release: 1 }, "b"), 2)).toBe("a");
  });

  it("of a worker is beside the one that is marked as live, and an empty one where none is", () => {
    expect(chooseSlot(newView({ release: 1, role: "live-r1" }, { release: 9 }, undefined), 2)).toBe("b");
    expect(chooseSlot(newView({ release: 1 }, undefined, undefined), 2)).toBe("b");
    expect(chooseSlot(newView({ release: 1 }, { release: 9 }, undefined), 2)).toBeUndefined();
  });

  it("does not trust a mark of another release", () => {
    expect(liveSlot(newView({ release: 3, role: "live-r1" }, undefined, undefined))).toBeUndefined();
  });
});

describe("what is observed", () => {
  const place = { app: "shop", environment: "prod" };
  it("is the rule's word on who serves, the mark's on who stands by, and the tasks' number", () => {
    const views = [
      newView({ release: 1, role: "standby-r1" }, { release: 2, desired: 2, running: 1 }, "b"),
      newView(undefined, { release: 2 }, undefined, "worker"),
    ];
    expect(observedOf(place, views)).toEqual([
      { release: 1, service: "web", traffic: "standby", tasks: [{ name: "shop.prod.web.r1-1", state: "running" }] },
      {
        release: 2,
        service: "web",
        traffic: "serving",
        tasks: [
          { name: "shop.prod.web.r2-1", state: "running" },
          { name: "shop.prod.web.r2-2", state: "starting" },
        ],
      },
      { release: 2, service: "worker", traffic: "none", tasks: [{ name: "shop.prod.worker.r2-1", state: "running" }] },
    ]);
  });

  it("leaves out what was scaled to nothing", () => {
    const view = newView({ release: 1, desired: 0 }, undefined, "a");
    expect(observedOf(place, [view])).toEqual([]);
    expect(slotOf(view, 1)).toBeUndefined();
  });
});

describe("mending", () => {
  const live = { release: newRelease(2), variables: {} };
  const told = (views: ServiceView[], more: { inProgress?: number[]; standby?: number } = {}) =>
    planMending(views, {
      live,
      inProgress: more.inProgress ?? [],
      ...(more.standby === undefined ? {} : { standby: newRelease(more.standby) }),
    }).map((one) => one.do);

  it("finds nothing to do where everything is as declared", () => {
    expect(told([newView({ release: 1 }, { release: 2 }, "b")], { standby: 1 })).toEqual([]);
  });

  it("ends what nobody declares, and leaves a deployment in progress alone", () => {
    const views = [newView({ release: 9 }, { release: 2 }, "b")];
    expect(told(views)).toEqual(["scale-down"]);
    expect(told(views, { inProgress: [9] })).toEqual([]);
  });

  it("brings back the count, the service and the traffic of the live release", () => {
    expect(told([newView(undefined, { release: 2, desired: 3 }, "b")])).toEqual(["scale-up"]);
    expect(told([newView(undefined, { release: 2, desired: 0 }, "b")])).toEqual(["scale-up"]);
    expect(told([])).toEqual(["start"]);
    expect(told([newView(undefined, { release: 2 }, "a")])).toEqual(["shift"]);
  });

  it("brings back the names that a rule leads from", () => {
    const view = newView(undefined, { release: 2 }, "b");
    if (view.rule) view.rule.hosts = ["elsewhere.example.com"];
    expect(told([view])).toEqual(["shift"]);
  });

  it("leads traffic to the live release again where somebody has removed the rule, and leaves the standby alone", () => {
    const view = { ...newView({ release: 1 }, { release: 2 }, "b"), rule: undefined };
    for (const slot of [view.slots.a, view.slots.b]) if (slot) slot.targetGroup = `arn:group-${slot.name}`;
    expect(told([view], { standby: 1 })).toEqual(["shift"]);
    expect(told([view], { standby: 1, inProgress: [3] })).toEqual([]);
  });

  it("does not lead traffic to a slot where nothing runs", () => {
    expect(told([newView({ release: 1 }, { release: 2, running: 0 }, "a")], { standby: 1 })).toEqual([]);
  });

  it("ends workers of the release on standby, which could hold a lock", () => {
    const release = { ...newRelease(2), services: [newService("worker", { port: undefined })] };
    const view = newView({ release: 1 }, { release: 2, role: "live-r2" }, undefined, "worker");
    const plan = planMending([view], { live: { release, variables: {} }, standby: newRelease(1), inProgress: [] });
    expect(plan).toMatchObject([{ do: "scale-down", slot: { name: "a" } }]);
  });
});
