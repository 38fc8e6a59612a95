import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openSmokeAccount } from "../../rollout/drivers/ecs/smoke-account.ts";
import { type AwsStage, hasEngine, newAwsStage, targetOptions } from "../../rollout/drivers/ecs/testing.ts";
import type { Check } from "../doctor.ts";
import { runSmoke, SMOKE_LINES } from "./run-smoke.ts";
import { smokePlace } from "./steps.ts";
import type { SmokeAccount, SmokeOptions } from "./trial.ts";

/** Tasks are real containers and the load balancer is a real proxy; what AWS is, is moto and our belief (test/aws). */
const IMAGE = "node:20-bookworm-slim";
const MINUTES = 300_000;

let stage: AwsStage;
let balancer: URL;
beforeAll(async () => {
  if (!hasEngine) return;
  stage = await newAwsStage({ containers: "docker" });
  balancer = new URL(await stage.balancer());
});
afterAll(() => stage?.cleanUp());

const owner = { machine: "0a1b2c3d", pid: 4711, isAlive: () => false };

async function open(changes: (account: SmokeAccount) => Partial<SmokeAccount> = () => ({})): Promise<SmokeAccount> {
  const { aws, times } = targetOptions(stage);
  const opened = await openSmokeAccount(stage.settings, {
    ...(aws && { aws }),
    // Lines of real containers come late on a busy machine.
    times: { ...times, logLagMs: 4_000 },
  });
  const balancerAddress = async () => ({ host: balancer.hostname, port: Number(balancer.port), secure: false });
  const account = { ...opened, balancerAddress };
  return { ...account, ...changes(account) };
}

const told: Check[] = [];
afterEach(() => void told.splice(0));
const options = (changes: Partial<SmokeOptions> = {}): SmokeOptions => ({
  image: IMAGE,
  scheme: "http",
  owner,
  signal: new AbortController().signal,
  onLine: (check) => void told.push(check),
  onProgress: () => undefined,
  // The load balancer drains for 30 s on AWS and for less here.
  times: { everyMs: 20, slowMs: 1_000, quietMs: 500, followsMs: 60_000 },
  ...changes,
});

const brief = (checks: Check[]) => checks.map(({ name, status }) => `${name}: ${status}`);
const lineOf = (checks: Check[], name: string) => checks.find((check) => check.name === name);
const servicesLeft = async () => {
  const { cluster } = stage.settings;
  const { serviceArns = [] } = await stage.aws.ecs.listServices({ cluster, maxResults: 100 });
  if (serviceArns.length === 0) return [];
  const { services } = await stage.aws.ecs.describeServices({ cluster, services: serviceArns.slice(-10) });
  return (services ?? []).filter(({ status }) => status !== "INACTIVE");
};

describe.skipIf(!hasEngine)("a smoke test", { timeout: MINUTES }, () => {
  it("holds in every line where AWS is as we believe, measures both moves, and leaves nothing", async () => {
    const account = await open();
    const checks = await runSmoke(account, options());
    expect(checks.filter(({ status }) => status !== "ok")).toEqual([]);
    expect(brief(checks)).toEqual(SMOKE_LINES.map((name) => `${name}: ok`));
    expect(told).toEqual(checks);
    for (const name of ["flip", "rollback"]) {
      expect(lineOf(checks, name)?.figures).toMatchObject({ failed: 0, firstNewMs: expect.any(Number) });
    }
    expect(lineOf(checks, "rollback")?.figures).toMatchObject({ writes: 1 });
    expect(lineOf(checks, "all requests")?.figures?.requests).toBeGreaterThan(100);
    expect(await servicesLeft()).toEqual([]);
    expect(await account.begun("smoke")).toEqual([]);
  });

  it("removes what it made when it is interrupted, and calls nothing failed that it was not come to", async () => {
    const interrupting = new AbortController();
    const onLine = (check: Check) => {
      if (check.name === "load balancer") interrupting.abort(new Error("SIGINT"));
    };
    // A process of its own: for an equal run of the last 24 hours RunTask would give the task of that time.
    const another = { ...owner, pid: 4712 };
    const checks = await runSmoke(await open(), options({ owner: another, signal: interrupting.signal, onLine }));
    expect(brief(checks.slice(0, 5))).toEqual([
      "earlier tests: ok",
      "first release: ok",
      "release command: ok",
      "load balancer: ok",
      "secret: skip",
    ]);
    expect(brief(checks.slice(-2))).toEqual(["removal: ok", "sweep: ok"]);
    expect(checks.some(({ status }) => status === "fail")).toBe(false);
    expect(await servicesLeft()).toEqual([]);
  });

  it("removes what a killed one left on this machine, and spares one that may be at work elsewhere", async () => {
    // Killed: the driver's work is there, and nobody removes it.
    const killed = await open();
    const elsewhere = { ...owner, machine: "ffffffff" };
    for (const one of [{ ...owner, pid: 1 }, elsewhere]) {
      const place = smokePlace(one);
      await killed.target.prepare(place, { app: place.app, number: 1, services: [] });
    }
    const interrupting = new AbortController();
    const onLine = () => interrupting.abort(new Error("SIGINT"));
    const [first] = await runSmoke(await open(), options({ signal: interrupting.signal, onLine }));
    expect(first).toMatchObject({ name: "earlier tests", status: "warn", found: expect.stringContaining("mffffffff") });
    const account = await open();
    expect((await account.begun("smoke")).map(({ environment }) => environment)).toEqual(["mffffffff-p4711"]);
    await account.target.destroy(smokePlace(elsewhere), "remove");
  });

  it("says what did not hold, goes no further where that is senseless, and removes all the same", async () => {
    const lying = (account: SmokeAccount) => ({
      balancerAddress: async () => ({ host: "127.0.0.1", port: 1, secure: false }),
      calls: account.calls,
    });
    const checks = await runSmoke(await open(lying), options({ times: { followsMs: 0 } }));
    expect(lineOf(checks, "load balancer")).toMatchObject({
      status: "fail",
      found: expect.stringContaining("ECONNREFUSED"),
      fix: expect.stringContaining("Run this where"),
    });
    expect(lineOf(checks, "flip")).toMatchObject({ status: "skip", found: expect.stringContaining("load balancer") });
    expect(brief(checks.slice(-2))).toEqual(["removal: ok", "sweep: ok"]);
  });
});
