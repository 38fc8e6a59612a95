import { describe, expect, it } from "vitest";
import { taskName } from "../../release.ts";
import type { DesiredState } from "../../target.ts";
import { newRelease, newService } from "../../testing.ts";
import type { SeenContainer } from "./containers.ts";
import { planReconcile, type ReconcileInput } from "./plan-reconcile.ts";
import type { RouterServer } from "./router.ts";

const place = { app: "shop", environment: "production" };
const web = newService("web");
const worker = newService("worker", { port: undefined });
const live = newRelease(2, [web, worker]);
const standby = newRelease(1, [web, worker]);
const desired: DesiredState = { live: { release: live, variables: {} }, standby, inProgress: [] };

const web2 = taskName(place, "web", 2, 1);
const worker2 = taskName(place, "worker", 2, 1);
const web1 = taskName(place, "web", 1, 1);
const web9 = taskName(place, "web", 9, 1);

/** What it looks like when all is well. */
const containers = [task(web2, "web", 2), task(worker2, "worker", 2), task(web1, "web", 1, "paused")];
const servers = [server(web2, "ready"), server(web1, "maint")];

describe("planReconcile", () => {
  it("finds nothing to do when all is as declared", () => {
    expect(plan({})).toEqual([]);
  });

  const cases: [string, Partial<Situation>, ReturnType<typeof planReconcile>][] = [
    [
      "starts and serves a task that is gone",
      { seen: without(web2), servers },
      [
        { do: "start", service: "web", tasks: [web2] },
        { do: "serve", tasks: [web2] },
      ],
    ],
    [
      "starts a worker that somebody stopped",
      { seen: [...without(worker2), task(worker2, "worker", 2, "exited")] },
      [{ do: "start", service: "worker", tasks: [worker2] }],
    ],
    [
      "leaves a task that Docker restarts to Docker",
      { seen: [...without(worker2), task(worker2, "worker", 2, "restarting")] },
      [],
    ],
    [
      "tells the router again about a task it forgot",
      { servers: [server(web1, "maint")] },
      [
        { do: "start", service: "web", tasks: [web2] },
        { do: "serve", tasks: [web2] },
      ],
    ],
    [
      "gives traffic back to a live task that has none",
      { servers: [server(web2, "drain"), server(web1, "maint")] },
      [{ do: "serve", tasks: [web2] }],
    ],
    [
      "wakes a live task that is paused",
      { seen: [...without(web2), task(web2, "web", 2, "paused")] },
      [{ do: "unpause", tasks: [web2] }],
    ],
    [
      "proves a task again that is at another address",
      { servers: [{ ...server(web2, "ready"), address: "10.0.0.99" }, server(web1, "maint")] },
      [
        { do: "readdress", tasks: [web2] },
        { do: "serve", tasks: [web2] },
      ],
    ],
    [
      "parks a standby that runs",
      { seen: [...without(web1), task(web1, "web", 1)] },
      [{ do: "park", release: 1, tasks: [web1] }],
    ],
    [
      "removes a release that nobody declares",
      { seen: [...containers, task(web9, "web", 9)], servers: [...servers, server(web9, "drain")] },
      [{ do: "stop", release: 9 }],
    ],
    [
      "forgets tasks in the router that are gone",
      { servers: [...servers, server(web9, "drain")] },
      [{ do: "forget", tasks: [web9] }],
    ],
    [
      "removes commands that ended",
      { seen: [...containers, { ...task("k", "web", 2, "exited"), role: "oneoff" }] },
      [{ do: "remove-run", containerId: "k", name: "k" }],
    ],
    ["leaves commands that run", { seen: [...containers, { ...task("k", "web", 9), role: "oneoff" }] }, []],
    [
      "leaves backing services",
      { seen: [...containers, { ...task("db", "db", 0), role: "backing", release: undefined }] },
      [],
    ],
  ];
  it.each(cases)("%s", (_, situation, expected) => {
    expect(plan(situation)).toEqual(expected);
  });

  it("gives traffic to what should serve before it removes what serves instead", () => {
    const seen = [...containers, task(web9, "web", 9)];
    const serving = [server(web2, "drain"), server(web1, "maint"), server(web9, "ready")];
    expect(plan({ seen, servers: serving }).map((step) => step.do)).toEqual(["serve", "stop"]);
  });

  describe("while a deployment is in progress", () => {
    const inProgress = { ...desired, inProgress: [3] };
    const web3 = taskName(place, "web", 3, 1);

    it("leaves its tasks, traffic, the standby and its commands alone", () => {
      const seen = [
        ...without(web1),
        task(web1, "web", 1),
        task(web3, "web", 3),
        { ...task("k", "web", 3, "exited"), role: "oneoff" as const },
      ];
      const moved = [server(web2, "drain"), server(web1, "drain"), server(web3, "ready")];
      expect(plan({ seen, servers: moved, desired: inProgress })).toEqual([]);
    });

    it("still starts what is missing of the live release, but nothing that had to make way", () => {
      const files = newService("files", { volumes: ["data:/data"], acceptsDowntime: true });
      const withFiles = { ...inProgress, live: { release: newRelease(2, [web, files]), variables: {} } };
      expect(plan({ seen: [], desired: withFiles })).toEqual([{ do: "start", service: "web", tasks: [web2] }]);
    });
  });

  it("removes everything where nothing is declared", () => {
    expect(plan({ desired: { inProgress: [] } })).toEqual([
      { do: "stop", release: 1 },
      { do: "stop", release: 2 },
    ]);
  });
});

type Situation = { seen: SeenContainer[]; servers: RouterServer[]; desired: DesiredState };

function plan(situation: Partial<Situation>): ReturnType<typeof planReconcile> {
  const input: ReconcileInput = {
    place,
    seen: situation.seen ?? containers,
    servers: new Map((situation.servers ?? servers).map((one) => [one.name, one])),
    desired: situation.desired ?? desired,
  };
  return planReconcile(input);
}

function without(name: string): SeenContainer[] {
  return containers.filter((one) => one.name !== name);
}

function task(
  name: string,
  service: string,
  release: number,
  state: SeenContainer["state"] = "running",
): SeenContainer {
  return { id: name, containerName: name, role: "task", service, release, name, state, address: `10.0.0.${release}` };
}

function server(name: string, state: RouterServer["state"]): RouterServer {
  return { name, address: `10.0.0.${/\.r(\d+)-/.exec(name)?.[1]}`, port: 3000, state };
}
