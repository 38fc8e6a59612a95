import { describe, expect, it } from "vitest";
import type { RouterServer } from "../router.ts";
import type { LiveRouter, LiveServer } from "./live-router.ts";
import { isSettled, planHealth, planRouterChange } from "./plan-router-change.ts";
import { newBackend, newServer } from "./test-backend.ts";

const B = "shop.production.web";
const P = `proving:${B}`;
const O = `open:${B}`;
const REACH = "check inter 3s fastinter 500ms downinter 500ms rise 1 fall 2 pool-max-conn -1 pool-purge-delay 200ms";

function live(name: string, admin: LiveServer["admin"], changes: Partial<LiveServer> = {}): LiveServer {
  return { backend: B, name, address: "10.0.0.5", port: 3000, admin, up: true, ...changes };
}

/** A server in traffic is in the open back end too. */
const served = (name: string): LiveServer[] => [live(name, "ready"), live(name, "ready", { backend: O })];

function plan(running: LiveServer[], wanted: RouterServer[]) {
  const router: LiveRouter = { structure: "s1", pid: 8, servers: running };
  const change = planRouterChange(router, { backends: [newBackend({ servers: wanted })] }, "s1");
  if (change.kind === "reload") throw new Error("a reload was planned");
  return change;
}

describe("planRouterChange", () => {
  it("reloads when anything but servers differs", () => {
    const change = planRouterChange({ structure: "s1", pid: 8, servers: [] }, { backends: [] }, "s2");
    expect(change).toEqual({ kind: "reload" });
  });

  it("has nothing to do when everything is as it should be", () => {
    const change = plan(
      [...served("a"), live("b", "maint"), live("c", "drain", { backend: P }), live("d", "drain")],
      [newServer("a", "ready"), newServer("b", "maint"), newServer("c", "drain"), newServer("d", "drain")],
    );
    expect(change).toEqual({ kind: "runtime", prepare: [], traffic: [], cleanUp: [] });
    expect(isSettled(change)).toBe(true);
  });

  it("makes a new task earn its health in the proving back end", () => {
    const { prepare, traffic } = plan([], [newServer("a", "drain")]);
    expect(prepare).toEqual([
      `add server ${P}/a 10.0.0.5:3000 check inter 50 fastinter 20 downinter 50 rise 2 fall 1`,
      `enable health ${P}/a`,
      `set server ${P}/a state drain`,
      `set server ${P}/a health down`,
    ]);
    expect(traffic).toEqual([]);
  });

  it("enables the new before it drains the old, and clears the proof away", () => {
    const { prepare, traffic, cleanUp } = plan(
      [...served("old"), live("new", "drain", { backend: P })],
      [newServer("old", "drain"), newServer("new", "ready")],
    );
    expect(prepare).toEqual([
      `add server ${B}/new 10.0.0.5:3000 check inter 1000 downinter 200 rise 2 fall 3 pool-max-conn -1 pool-purge-delay 200ms`,
      `enable health ${B}/new`,
      `add server ${O}/new 10.0.0.5:3000 ${REACH}`,
      `enable health ${O}/new`,
    ]);
    expect(traffic).toEqual([
      `set server ${B}/new state ready`,
      `set server ${B}/new health up`,
      `set server ${O}/new state ready`,
      `set server ${O}/new health up`,
      `set server ${B}/old state drain`,
      `set server ${O}/old state maint`,
      `set server ${P}/new state maint`,
    ]);
    expect(cleanUp).toEqual([`del server ${P}/new`]);
  });

  it("lets a woken standby serve at once", () => {
    const { prepare, traffic } = plan(
      [live("old", "maint"), live("old", "maint", { backend: O }), ...served("new")],
      [newServer("old", "ready"), newServer("new", "drain")],
    );
    expect(prepare).toEqual([]);
    expect(traffic).toEqual([
      `set server ${B}/old state ready`,
      `set server ${B}/old health up`,
      `set server ${O}/old state ready`,
      `set server ${O}/old health up`,
      `set server ${B}/new state drain`,
      `set server ${O}/new state maint`,
    ]);
  });

  it("gives the open back end what only the other one has, and its address", () => {
    const moved = live("b", "ready", { backend: O, address: "10.0.0.9" });
    const change = plan(
      [live("a", "ready"), live("b", "ready"), moved],
      [newServer("a", "ready"), newServer("b", "ready")],
    );
    expect(change.prepare).toEqual([
      `add server ${O}/a 10.0.0.5:3000 ${REACH}`,
      `enable health ${O}/a`,
      `set server ${O}/b addr 10.0.0.5 port 3000`,
    ]);
    expect(change.traffic).toEqual([`set server ${O}/a state ready`, `set server ${O}/a health up`]);
  });

  it("proves a woken standby anew when it is not trusted with traffic yet", () => {
    const { prepare, cleanUp } = plan([live("old", "maint")], [newServer("old", "drain")]);
    expect(prepare[0]).toContain(`add server ${P}/old`);
    expect(cleanUp).toEqual([]);
  });

  it("does not prove again what was proved and drained, where its connections are", () => {
    expect(isSettled(plan([live("a", "drain")], [newServer("a", "drain")]))).toBe(true);
  });

  it("proves anew a task of the same name at another address", () => {
    const { prepare } = plan([live("a", "drain", { backend: P, address: "10.0.0.9" })], [newServer("a", "drain")]);
    expect(prepare).toEqual([
      `set server ${P}/a state maint`,
      `set server ${P}/a addr 10.0.0.5 port 3000`,
      `set server ${P}/a state drain`,
      `set server ${P}/a health down`,
    ]);
  });

  it("brings tasks under proof back after a start, at which they are disabled", () => {
    const { prepare } = plan([live("a", "maint", { backend: P })], [newServer("a", "drain")]);
    expect(prepare).toEqual([`set server ${P}/a state drain`, `set server ${P}/a health down`]);
  });

  it("takes an unknown server out of traffic after the known ones are in, and deletes it last", () => {
    const { traffic, cleanUp } = plan([live("stray", "ready"), live("a", "maint")], [newServer("a", "ready")]);
    expect(traffic.at(0)).toBe(`set server ${B}/a state ready`);
    expect(traffic.at(-1)).toBe(`set server ${B}/stray state maint`);
    expect(cleanUp).toEqual([`del server ${B}/stray`]);
  });

  const states = ["none", "ready", "drain", "maint"] as const;
  const places = states.flatMap((serving) =>
    states.flatMap((open) => states.map((proving) => ({ serving, open, proving }))),
  );
  it.each(places.flatMap((place) => states.map((wanted) => ({ ...place, wanted }))))(
    "settles in one step: serving $serving, open $open, proving $proving, wanted $wanted",
    ({ serving, open, proving, wanted }) => {
      const running = [
        ...(serving === "none" ? [] : [live("a", serving)]),
        ...(open === "none" ? [] : [live("a", open, { backend: O })]),
        ...(proving === "none" ? [] : [live("a", proving, { backend: P })]),
      ];
      const servers = wanted === "none" ? [] : [newServer("a", wanted)];
      const change = plan(running, servers);
      const after = play(running, [...change.prepare, ...change.traffic, ...change.cleanUp]);
      expect(plan(after, servers)).toEqual({ kind: "runtime", prepare: [], traffic: [], cleanUp: [] });
      const inTraffic = after.filter((one) => one.backend !== P && one.admin === "ready").map((one) => one.backend);
      expect(inTraffic.sort()).toEqual(wanted === "ready" ? [O, B] : []);
      expect(after.filter((one) => one.backend === O && one.admin === "drain")).toEqual([]);
    },
  );
});

describe("planHealth", () => {
  const router = (...servers: LiveServer[]): LiveRouter => ({ structure: "s", pid: 1, servers });

  it("lets a new worker go on with what the one before knew of servers in traffic", () => {
    const before = router(live("a", "ready"), live("b", "ready", { up: false }), live("b", "ready", { backend: O }));
    const now = router(...served("a"), ...served("b"), live("c", "maint"), live("d", "maint", { backend: P }));
    expect(planHealth(now, before)).toEqual([
      `set server ${B}/a health up`,
      `set server ${O}/a health up`,
      `set server ${B}/b health down`,
      `set server ${O}/b health up`,
    ]);
  });

  it("believes in a server that was parked before, is at another address, or that nobody knows", () => {
    const before = router(live("a", "maint", { up: false }), live("b", "ready", { up: false, address: "10.0.0.9" }));
    expect(planHealth(router(live("a", "ready"), live("b", "ready")), before)).toEqual([
      `set server ${B}/a health up`,
      `set server ${B}/b health up`,
    ]);
    expect(planHealth(router(live("a", "ready")), undefined)).toEqual([`set server ${B}/a health up`]);
  });
});

/** What HAProxy makes of the commands, as far as the plan is concerned. */
function play(running: LiveServer[], commands: string[]): LiveServer[] {
  const servers = running.map((server) => ({ ...server }));
  for (const command of commands) {
    const [verb, , path = "", what, value] = command.split(" ");
    const [backend = "", name = ""] = path.split("/");
    const found = servers.find((one) => one.backend === backend && one.name === name);
    if (verb === "add") {
      expect(found).toBeUndefined();
      servers.push(live(name, "maint", { backend }));
    } else if (verb === "del") {
      expect(found?.admin).toBe("maint");
      servers.splice(servers.indexOf(found ?? live("", "maint")), 1);
    } else if (verb === "set" && what === "state" && found) found.admin = value as LiveServer["admin"];
  }
  return servers;
}
