import { describe, expect, it } from "vitest";
import { fail, hasCode } from "../shared/errors.ts";
import type { LogLine } from "../shared/log-line.ts";
import { type MemoryTarget, memoryTarget } from "./drivers/memory.ts";
import type { RolloutEvent } from "./outcome.ts";
import type { Release, ReleaseService } from "./release.ts";
import { type RolloutDeps, type RolloutInput, rollOut } from "./run.ts";
import { newRelease, newService } from "./testing.ts";

const place = { app: "shop", environment: "production" };
const worker = newService("worker", { port: undefined });
const both = [newService("web", { count: 2 }), worker];

describe("a deploy", () => {
  it("starts the new tasks, moves traffic and parks the previous release", async () => {
    const stage = newStage();
    await stage.deploy(newRelease(1, both));
    const outcome = await stage.deploy(newRelease(2, both));
    expect(outcome).toMatchObject({ status: "done", previous: 1, standby: 1, alreadyLive: false });
    expect(stage.effectsOfLast()).toEqual([
      "start shop.production.web.r2-1",
      "start shop.production.web.r2-2",
      "start shop.production.worker.r2-1",
      "shift r2",
      "park shop.production.web.r1-1",
      "park shop.production.web.r1-2",
      "stop shop.production.worker.r1-1",
    ]);
  });

  it("keeps one standby: the release before the previous one is stopped", async () => {
    const stage = newStage();
    for (const number of [1, 2, 3]) await stage.deploy(newRelease(number));
    expect(await stage.traffic()).toEqual({ r2: "standby", r3: "serving" });
  });

  it("tells each phase with its time, the health and the moment of going live", async () => {
    const stage = newStage();
    await stage.deploy(newRelease(1, both));
    const kinds = stage.events.map((event) => ("phase" in event ? `${event.kind} ${event.phase}` : event.kind));
    expect(kinds).toEqual([
      "note",
      "phase-started prove",
      "health",
      "health",
      "phase-ended prove",
      "phase-started shift",
      "live",
      "phase-ended shift",
      "phase-started bake",
      "phase-ended bake",
      "phase-started settle",
      "phase-ended settle",
    ]);
    expect(stage.events[0]).toMatchObject({
      text: "web declares no health check: probing / for any answer below 500.",
    });
  });

  it("is done at once when the release serves already", async () => {
    const stage = newStage();
    const release = newRelease(1);
    await stage.deploy(release);
    expect(await stage.deploy(release)).toMatchObject({ status: "done", alreadyLive: true, phases: [] });
    expect(stage.effectsOfLast()).toEqual([]);
  });

  it("takes a release without any task for healthy", async () => {
    const stage = newStage();
    expect(await stage.deploy(newRelease(1, [newService("web", { count: 0 })]))).toMatchObject({ status: "done" });
  });

  it("gives each service its own variables and verify commands the address of their service", async () => {
    const stage = newStage();
    const seen: string[] = [];
    const runOnce = stage.target.runOnce;
    stage.target.runOnce = (...args) => {
      seen.push(args[2].variables.env.SHIPWAY_URL ?? "none");
      return runOnce(...args);
    };
    const verify = [{ service: "worker", command: ["sh", "-c", "exit 0"], timeout: 1_000 }];
    await stage.deploy(newRelease(1, both), { verify, variables: { web: { env: { COLOR: "red" }, secrets: {} } } });
    expect(seen).toEqual(["http://web"]);
    expect(stage.target.variablesOf("shop.production.web.r1-1")?.env).toEqual({ COLOR: "red" });
    expect(stage.target.variablesOf("shop.production.worker.r1-1")?.env).toEqual({});
  });

  it("stops the old task of a service that owns a volume before the new one starts", async () => {
    const stage = newStage();
    const files = newService("files", { volumes: ["data:/data"], acceptsDowntime: true });
    await stage.deploy(newRelease(1, [newService("web"), files]));
    await stage.deploy(newRelease(2, [newService("web"), files]));
    const effects = stage.effectsOfLast();
    expect(effects.indexOf("stop shop.production.files.r1-1")).toBe(0);
    expect(await stage.traffic()).toEqual({ r1: "standby", r2: "serving" });
  });
});

describe("a release that fails", () => {
  const broken = (changes: Partial<ReleaseService> = {}) => [newService("web", changes), worker];
  const cases: [string, ReleaseService[], Partial<RolloutInput>, object][] = [
    [
      "in its release command",
      broken({ releaseCommand: ["sh", "-c", "echo no such column; exit 3"] }),
      {},
      { phase: "release-commands", trafficMoved: false, evidence: [{ exitCode: 3, lastLines: ["no such column"] }] },
    ],
    [
      "by never becoming healthy",
      broken({ image: "shop:broken", health: grace(30) }),
      {},
      { phase: "prove", trafficMoved: false },
    ],
    ["by exiting", broken({ image: "shop:exits" }), {}, { phase: "prove", trafficMoved: false }],
    [
      "by a worker that exits",
      [newService("web"), { ...worker, image: "shop:exits" }],
      {},
      { phase: "prove", trafficMoved: false },
    ],
    ["while it is watched", broken({ image: "shop:crashes" }), {}, { phase: "bake", trafficMoved: true }],
    [
      "its acceptance test",
      broken(),
      { verify: [{ service: "web", command: ["sh", "-c", "exit 1"], timeout: 1_000 }] },
      { phase: "bake", trafficMoved: true, reason: "The verify command `exit 1` of web exited with 1." },
    ],
    [
      "its acceptance test by taking too long",
      broken(),
      { verify: [{ service: "web", command: ["sh", "-c", "sleep 5"], timeout: 20 }] },
      { phase: "bake", trafficMoved: true, reason: expect.stringContaining("did not end within 20 ms") },
    ],
  ];

  it.each(cases)("%s is removed, and the previous release serves as before", async (_, services, changes, expected) => {
    const stage = newStage();
    await stage.deploy(newRelease(1, both));
    const before = await stage.target.observe(place);
    const outcome = await stage.deploy(newRelease(2, services), changes);
    expect(outcome).toMatchObject({ status: "failed", rolledBack: true, ...expected });
    expect(await stage.target.observe(place)).toEqual(before);
    expect(stage.target.answering(place, "web")).toBe(1);
  });

  it("leaves the standby of before, so that a rollback stays fast", async () => {
    const stage = newStage();
    await stage.deploy(newRelease(1));
    await stage.deploy(newRelease(2));
    await stage.deploy(newRelease(3, [newService("web", { image: "shop:crashes" })]));
    expect(await stage.traffic()).toEqual({ r1: "standby", r2: "serving" });
  });

  it("leaves nothing running when there was no release before", async () => {
    const stage = newStage();
    const outcome = await stage.deploy(newRelease(1, [newService("web", { image: "shop:crashes" })]));
    expect(outcome).toMatchObject({ status: "failed", rolledBack: false, trafficMoved: true });
    expect(await stage.target.observe(place)).toEqual([]);
  });

  it("starts a service that had made way again", async () => {
    const stage = newStage();
    const files = newService("files", { volumes: ["data:/data"], acceptsDowntime: true });
    await stage.deploy(newRelease(1, [files]));
    const outcome = await stage.deploy(newRelease(2, [{ ...files, image: "shop:exits" }]));
    expect(outcome).toMatchObject({ status: "failed", rolledBack: true });
    expect(stage.target.answering(place, "files")).toBe(1);
  });
});

describe("a rollback", () => {
  it("wakes the standby, moves traffic at once and starts the workers after", async () => {
    const stage = newStage();
    await stage.deploy(newRelease(1, both));
    await stage.deploy(newRelease(2, both));
    const outcome = await stage.rollback(newRelease(1, both));
    expect(outcome).toMatchObject({ status: "done", previous: 2, standby: 2 });
    expect(stage.effectsOfLast()).toEqual([
      "wake shop.production.web.r1-1",
      "wake shop.production.web.r1-2",
      "shift r1",
      "start shop.production.worker.r1-1",
      "park shop.production.web.r2-1",
      "park shop.production.web.r2-2",
      "stop shop.production.worker.r2-1",
    ]);
  });

  it("waits for backing services before it starts tasks, and not before it wakes a standby", async () => {
    const stage = newStage();
    const asked: string[] = [];
    const ensureBacking = async () => void asked.push(stage.effectsOfLast().join());
    await stage.deploy(newRelease(1), {}, { ensureBacking });
    await stage.deploy(newRelease(2), {}, { ensureBacking });
    expect(asked).toEqual(["", ""]);
    await stage.rollback(newRelease(1), {}, { ensureBacking });
    expect(asked).toHaveLength(2);
  });

  it("takes two durable steps until traffic moved", async () => {
    const stage = newStage();
    await stage.deploy(newRelease(1));
    await stage.deploy(newRelease(2));
    await stage.rollback(newRelease(1));
    expect(stage.durableNames()).toEqual([
      "rollout:r1:observe",
      "rollout:r1:shift",
      "rollout:r1:bake",
      "rollout:r1:settle",
    ]);
  });

  it("to a release that is no standby any more starts it anew, without its release commands", async () => {
    const stage = newStage();
    const first = newRelease(1, [newService("web", { releaseCommand: ["sh", "-c", "echo migrating"] })]);
    for (const release of [first, newRelease(2), newRelease(3)]) await stage.deploy(release);
    expect(await stage.rollback(first)).toMatchObject({ status: "done", standby: 3 });
    expect(stage.effectsOfLast()).toContain("start shop.production.web.r1-1");
    expect(stage.effectsOfLast().join()).not.toContain("release-command");
  });

  it("starts the standby anew when one of its tasks was lost after it was seen", async () => {
    const stage = newStage();
    await stage.deploy(newRelease(1, both));
    await stage.deploy(newRelease(2, both));
    const wake = stage.target.wake;
    stage.target.wake = (...args) => {
      stage.target.lose("shop.production.web.r1-2");
      return wake(...args);
    };
    expect(await stage.rollback(newRelease(1, both))).toMatchObject({ status: "done" });
    expect(await stage.traffic()).toEqual({ r1: "serving", r2: "standby" });
  });

  it("goes back to the release it left when the woken one crashes", async () => {
    const stage = newStage();
    const crashing = newRelease(1, [newService("web", { image: "shop:crashes" })]);
    await stage.deploy(newRelease(2));
    stage.target.startService(place, crashing, crashing.services[0] ?? newService("web"), { env: {}, secrets: {} });
    await stage.target.park(place, crashing);
    expect(await stage.rollback(crashing)).toMatchObject({ status: "failed", phase: "bake", rolledBack: true });
    expect(await stage.traffic()).toEqual({ r2: "serving" });
  });
});

describe("canceling", () => {
  it.each([
    ["runOnce", false],
    ["startService", false],
    ["awaitHealthy", false],
    ["watchHealth", true],
  ])("during %s leaves what served before", async (method, trafficMoved) => {
    const stage = newStage();
    await stage.deploy(newRelease(1, both));
    const before = await stage.target.observe(place);
    const cancel = new AbortController();
    stage.onCall = (called) => called === method && cancel.abort(new Error("canceled by anna"));
    const services = [newService("web", { releaseCommand: ["sh", "-c", "sleep 0.02"] }), worker];
    const outcome = await stage.deploy(newRelease(2, services), {}, { signal: cancel.signal });
    expect(outcome).toMatchObject({ status: "canceled", trafficMoved });
    expect(await stage.target.observe(place)).toEqual(before);
  });

  it("asked for between phases is seen before the next one, and too late once the rollout settles", async () => {
    for (const [method, status] of [
      ["startService", "canceled"],
      ["park", "done"],
    ] as const) {
      const stage = newStage();
      await stage.deploy(newRelease(1));
      let asked = false;
      stage.onCall = (called) => {
        asked ||= called === method;
      };
      const outcome = await stage.deploy(newRelease(2), {}, { isCanceled: async () => asked });
      expect(outcome.status).toBe(status);
    }
  });

  it("a rollback parks the woken standby again", async () => {
    const stage = newStage();
    await stage.deploy(newRelease(1));
    await stage.deploy(newRelease(2));
    const cancel = new AbortController();
    stage.onCall = (called) => called === "watchHealth" && cancel.abort(new Error("canceled"));
    expect(await stage.rollback(newRelease(1), {}, { signal: cancel.signal })).toMatchObject({ status: "canceled" });
    expect(await stage.traffic()).toEqual({ r1: "standby", r2: "serving" });
  });
});

describe("when the engine or Shipway itself dies", () => {
  it("throws the engine's error, removes what was started, and finishes when it is called again", async () => {
    const stage = newStage();
    await stage.deploy(newRelease(1, both));
    let isGone = true;
    stage.onCall = (called) => {
      if (isGone && called === "awaitHealthy") throw fail("DOCKER_UNREACHABLE", { message: "Docker is gone" });
    };
    const again = stage.attempt("deploy", newRelease(2, both));
    const error = await again().catch((thrown: unknown) => thrown);
    expect(hasCode(error, "DOCKER_UNREACHABLE")).toBe(true);
    expect(await stage.traffic()).toEqual({ r1: "serving" });
    isGone = false;
    expect(await again()).toMatchObject({ status: "done" });
    expect(await stage.traffic()).toEqual({ r1: "standby", r2: "serving" });
  });

  const release = (number: number) =>
    newRelease(number, [newService("web", { releaseCommand: ["sh", "-c", "echo hi"] }), worker]);

  it.each([
    ["deploy", 2, 2],
    ["rollback", 2, 1],
  ] as const)(
    "a %s that dies at any point goes on where it was, and repeats no effect",
    async (kind, deployed, target) => {
      const whole = await rehearsal(kind, deployed, target);
      for (let at = 0; at < whole.calls; at++) {
        for (const when of ["before", "after"] as const) {
          const stage = await prepared(deployed, kind);
          const again = stage.attempt(kind, release(target));
          stage.dieAt(at, when);
          const outcome = await again().catch(() => undefined);
          expect(outcome, `call ${at} dies ${when} its effect`).toBeUndefined();
          stage.revive();
          expect(await again()).toMatchObject({ status: "done" });
          expect(stage.effectsOfLast().sort()).toEqual(whole.effects);
        }
      }
    },
  );

  async function prepared(deployed: number, kind: "deploy" | "rollback") {
    const stage = newStage();
    const last = kind === "deploy" ? deployed - 1 : deployed;
    for (let number = 1; number <= last; number++) await stage.deploy(release(number));
    return stage;
  }

  async function rehearsal(kind: "deploy" | "rollback", deployed: number, target: number) {
    const stage = await prepared(deployed, kind);
    let calls = 0;
    stage.onCall = () => {
      calls++;
    };
    stage.onDurable = () => {
      calls++;
    };
    await stage.attempt(kind, release(target))();
    return { calls, effects: stage.effectsOfLast().sort() };
  }
});

function grace(ms: number) {
  return { path: "/", interval: 10, timeout: 10, healthy: 1, unhealthy: 1, grace: ms };
}

/** A memory target with what a caller of rollOut keeps: the live release, durable results, events. */
function newStage() {
  let point = -1;
  let death: { at: number; when: "before" | "after" } | undefined;
  let isDead = false;
  let effectsBefore = 0;
  let live: Release | undefined;
  let deployments = 0;
  let names: string[] = [];
  const events: RolloutEvent[] = [];
  const lines: LogLine[] = [];
  /** Each call of the target and each durable step is a point at which the process may die; nothing works after it died. */
  const passPoint = () => {
    point++;
    if (isDead) throw new Error("dead");
    if (death?.at !== point) return false;
    isDead = true;
    if (death.when === "before") throw new Error("died before");
    return true;
  };
  const target: MemoryTarget = memoryTarget({
    onCall: (method) => {
      passPoint();
      stage.onCall(method);
    },
  });
  const newDurable = (stored: Map<string, string>): RolloutDeps["durable"] =>
    async function durable<T>(name: string, fn: () => Promise<T>): Promise<T> {
      const before = stored.get(name);
      if (before !== undefined) return JSON.parse(before) as T;
      const diesAfter = passPoint();
      stage.onDurable();
      if (diesAfter) isDead = false;
      const result = await fn();
      if (diesAfter || isDead) {
        isDead = true;
        throw new Error("died after");
      }
      names.push(name);
      stored.set(name, JSON.stringify(result));
      return JSON.parse(JSON.stringify(result)) as T;
    };
  const attempt = (
    kind: "deploy" | "rollback",
    release: Release,
    input: Partial<RolloutInput> & { variables?: RolloutDeps["variables"] } = {},
    deps: Partial<RolloutDeps> = {},
  ) => {
    effectsBefore = target.effects.length;
    events.length = 0;
    names = [];
    point = -1;
    deployments++;
    const durable = newDurable(new Map());
    const { variables = {}, ...rest } = input;
    const whole: RolloutInput = {
      place,
      deploymentId: `d${deployments}`,
      kind,
      release,
      ...(live ? { previous: { release: live, variables: {} } } : {}),
      verify: [],
      bakeMs: 5,
      ...rest,
    };
    return async () => {
      const outcome = await rollOut(whole, {
        target,
        variables,
        durable,
        onEvent: (event) => void events.push(event),
        log: () => (more) => void lines.push(...more),
        now: () => Date.now(),
        ...deps,
      });
      if (outcome.status === "done") live = release;
      return outcome;
    };
  };
  const stage = {
    target,
    events,
    lines,
    onCall: (_method: string): unknown => undefined,
    onDurable: (): unknown => undefined,
    attempt,
    deploy: (release: Release, input?: Parameters<typeof attempt>[2], deps?: Partial<RolloutDeps>) =>
      attempt("deploy", release, input, deps)(),
    rollback: (release: Release, input?: Parameters<typeof attempt>[2], deps?: Partial<RolloutDeps>) =>
      attempt("rollback", release, input, deps)(),
    effectsOfLast: () => target.effects.slice(effectsBefore).filter((effect) => !effect.startsWith("prepare")),
    durableNames: () => names,
    dieAt(at: number, when: "before" | "after") {
      death = { at, when };
    },
    revive() {
      death = undefined;
      isDead = false;
    },
    async traffic() {
      const seen = await target.observe(place);
      return Object.fromEntries(
        seen.filter((one) => one.traffic !== "none").map((one) => [`r${one.release}`, one.traffic]),
      );
    },
  };
  return stage;
}
