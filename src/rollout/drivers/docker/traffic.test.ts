import { describe, expect, it } from "vitest";
import { taskName } from "../../release.ts";
import { newRelease, newService } from "../../testing.ts";
import type { RouterServer, RouterState } from "./router.ts";
import { serversOf, shiftedTo, withBackends, withoutPlace, withoutTasks, withState, withTasks } from "./traffic.ts";

const place = { app: "shop", environment: "production" };
const neighbour = { app: "shop", environment: "production-2" };
const health = (path: string) => ({ path, interval: 1_000, timeout: 2_000, healthy: 2, unhealthy: 3 });
const first = newRelease(1, [newService("web", { health: health("/up") }), newService("api")]);
const second = newRelease(2, first.services);

describe("a rollout in the router's state", () => {
  it("adds new tasks without traffic, moves all services at once, and parks", () => {
    let state = started(started({ backends: [] }, first), first);
    state = shiftedTo(state, place, first);
    expect(states(state)).toEqual(["web.r1-1 ready", "api.r1-1 ready"]);
    state = started(state, second);
    expect(states(state)).toEqual(["web.r1-1 ready", "web.r2-1 drain", "api.r1-1 ready", "api.r2-1 drain"]);
    state = shiftedTo(state, place, second);
    expect(states(state)).toEqual(["web.r1-1 drain", "web.r2-1 ready", "api.r1-1 drain", "api.r2-1 ready"]);
    state = withState(state, place, new Set([name("web", 1), name("api", 1)]), "maint");
    state = shiftedTo(started(state, newRelease(3, first.services)), place, newRelease(3, first.services));
    expect(states(state).filter((one) => one.includes("r1"))).toEqual(["web.r1-1 maint", "api.r1-1 maint"]);
  });

  it("changes nothing but the state of servers when hosts and checks are the same, so that no reload is needed", () => {
    const before = started(serving(first), second);
    const frame = (state: RouterState) => state.backends.map((backend) => ({ ...backend, servers: [] }));
    expect(frame(shiftedTo(before, place, second))).toEqual(frame(before));
  });

  it("proves tasks with another health check apart from those that serve, and takes the check over with the traffic", () => {
    const next = newRelease(2, [newService("web", { health: health("/healthz"), count: 2 }), newService("api")]);
    const proving = started(serving(first), next);
    const paths = (state: RouterState) =>
      state.backends.map((backend) => [
        backend.name,
        backend.check.kind === "http" && backend.check.path,
        backend.servers.length,
      ]);
    expect(paths(proving)).toEqual([
      ["shop.production.web", "/up", 1],
      ["shop.production.api", "/", 2],
      ["shop.production.web.r2", "/healthz", 2],
    ]);
    const moved = shiftedTo(proving, place, next);
    expect(paths(moved)).toEqual([
      ["shop.production.web", "/healthz", 3],
      ["shop.production.api", "/", 2],
    ]);
    expect(states(moved)).toContain("web.r2-2 ready");
  });

  it("moves a host name from one service to another together with the traffic", () => {
    const next = newRelease(2, [newService("api", { hosts: ["web.production.shop.localhost"] })]);
    const before = started(serving(first), next);
    const ownerOf = (state: RouterState) =>
      state.backends
        .filter((backend) => backend.hosts.includes("web.production.shop.localhost"))
        .map((one) => one.name);
    expect(ownerOf(before)).toEqual(["shop.production.web"]);
    expect(ownerOf(shiftedTo(before, place, next))).toEqual(["shop.production.api"]);
    expect(states(shiftedTo(before, place, next))).toContain("web.r1-1 drain");
  });

  it("never touches another environment whose name begins alike", () => {
    const neighbours = withTasks(
      withBackends({ backends: [] }, neighbour, first, "10.0.0.2"),
      neighbour,
      first,
      newService("web"),
      [server("n-r1-1")],
    );
    const state = shiftedTo(started(neighbours, first), place, first);
    expect(serversOf(state, neighbour).get("n-r1-1")?.state).toBe("drain");
    expect(withoutPlace(state, place).backends.every((backend) => backend.name.startsWith("shop.production-2."))).toBe(
      true,
    );
  });

  it("drops a back end with its last task, unless it is to be used again", () => {
    const state = serving(first);
    const names = (after: RouterState) => after.backends.map((backend) => backend.name);
    expect(names(withoutTasks(state, place, (one) => one.name === name("web", 1)))).toEqual(["shop.production.api"]);
    const keep = new Set(["shop.production.web"]);
    expect(names(withoutTasks(state, place, (one) => one.name === name("web", 1), keep))).toHaveLength(2);
  });

  it("keeps the health that a task has earned when it is told again", () => {
    const state = serving(first);
    const again = withTasks(state, place, first, newService("web", { health: health("/up") }), [
      { ...server(name("web", 1)), state: "ready" },
    ]);
    expect(serversOf(again, place).get(name("web", 1))?.state).toBe("ready");
  });
});

function started(state: RouterState, release: typeof first): RouterState {
  return release.services.reduce(
    (before, service) => {
      const names = Array.from({ length: service.count }, (_, index) =>
        taskName(place, service.name, release.number, index + 1),
      );
      return names.reduce((one, task) => withTasks(one, place, release, service, [server(task)]), before);
    },
    withBackends(state, place, release, "10.0.0.2"),
  );
}

function serving(release: typeof first): RouterState {
  return shiftedTo(started({ backends: [] }, release), place, release);
}

function server(task: string): RouterServer {
  return { name: task, address: "10.0.0.9", port: 3000, state: "drain" };
}

function name(service: string, release: number): string {
  return taskName(place, service, release, 1);
}

function states(state: RouterState): string[] {
  return [...serversOf(state, place).values()].map((one) => `${one.name.replace("shop.production.", "")} ${one.state}`);
}
