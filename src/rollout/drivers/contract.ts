import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type ErrorCode, hasCode } from "../../shared/errors.ts";
import type { LogLine } from "../../shared/log-line.ts";
import { newId } from "../../shared/new-id.ts";
import { Secret } from "../../shared/secret.ts";
import { until } from "../../shared/until.ts";
import { type Place, type Release, type ReleaseService, taskName } from "../release.ts";
import type {
  Backing,
  DesiredState,
  HealthReport,
  LogSource,
  ObservedService,
  RolloutTarget,
  TaskVariables,
} from "../target.ts";

/** `web` and its kind have a port, `worker` and its kind none. `crash` is healthy until some time after it got traffic. */
export type Behaviour = "web" | "web-broken" | "web-exits" | "web-crashes" | "worker" | "worker-exits";

export type RolloutHarness = {
  target: RolloutTarget;
  /** A place of its own for one test. */
  newPlace(): Place;
  service(place: Place, name: string, behaviour: Behaviour, changes?: Partial<ReleaseService>): ReleaseService;
  /** The release that answers a request from outside to the service now; undefined when none does. */
  answering(place: Place, service: string): Promise<number | undefined>;
  /** Takes a running task away for good, behind the target's back. */
  lose(place: Place, task: string): Promise<void>;
  /** Removes, or stops, the container of a backing service behind the target's back. */
  loseBacking(place: Place, name: string): Promise<void>;
  stopBacking(place: Place, name: string): Promise<void>;
  /** Changes a running task behind the target's back, in a way that reconciliation leaves as it is. */
  change(place: Place, task: string): Promise<void>;
  /** Puts something running into the place that nobody declares, and gives its name; `expel` takes all of them out again. */
  intrude(place: Place): Promise<string>;
  expel(): Promise<void>;
  /** What parked tasks are seen as. */
  parked: "paused" | "running";
  /** How many releases of a service there can be at a time; the one on standby makes way for a third. */
  holdsReleases: 2 | "any";
  /** Where backing services are not this runtime's: the code that says so. */
  refusesBacking?: ErrorCode;
  cleanUp(): Promise<void>;
};

const nothing: TaskVariables = { env: {}, secrets: {} };

/** What every driver of `RolloutTarget` must do. */
export function describeRolloutTarget(driver: string, newHarness: () => Promise<RolloutHarness>): void {
  describe(`RolloutTarget on ${driver}`, () => {
    let harness: RolloutHarness;
    let target: RolloutTarget;
    let places: Place[] = [];
    beforeAll(async () => {
      harness = await newHarness();
      target = harness.target;
    });
    afterEach(async () => {
      await harness.expel();
      for (const place of places) await target.destroy(place, "remove");
      places = [];
    });
    afterAll(async () => {
      await harness?.cleanUp();
    });

    const newPlace = () => {
      const place = harness.newPlace();
      places.push(place);
      return place;
    };
    const releaseOf = (place: Place, number: number, behaviours: Record<string, Behaviour>): Release => ({
      app: place.app,
      number,
      services: Object.entries(behaviours).map(([name, behaviour]) => harness.service(place, name, behaviour)),
    });
    const start = async (place: Place, release: Release, variables: TaskVariables = nothing) => {
      await target.prepare(place, release);
      await Promise.all(release.services.map((one) => target.startService(place, release, one, variables)));
    };
    const prove = (place: Place, release: Release): Promise<HealthReport> =>
      target.awaitHealthy(place, release, release.services, { deadlineMs: 15_000, onProgress: () => undefined });
    const serve = async (place: Place, release: Release) => {
      await start(place, release);
      expect(await prove(place, release)).toMatchObject({ status: "healthy" });
      await target.shiftTraffic(place, release);
    };
    const settled = (place: Place) =>
      until("no task is starting any more", async () => {
        const observed = await target.observe(place);
        return observed.every((one) => one.tasks.every((task) => task.state !== "starting")) && observed;
      });
    const seen = async (place: Place) => brief(await settled(place));

    it("finds nothing in a place that was never used, and takes stopping and destroying there for done", async () => {
      const place = newPlace();
      await target.stop(place, 1);
      await target.destroy(place, "remove");
      expect(await target.observe(place)).toEqual([]);
    });

    it("starts tasks beside what runs, without traffic, and a repetition changes nothing", async () => {
      const place = newPlace();
      const release = releaseOf(place, 1, { web: "web", worker: "worker" });
      await start(place, release);
      const first = await settled(place);
      await start(place, release);
      expect(await target.observe(place)).toEqual(first);
      expect(brief(first)).toEqual(["r1 web draining running", "r1 worker none running"]);
      expect(await harness.answering(place, "web")).toBeUndefined();
    });

    it("moves traffic of all services to the proved release, and the old one answers until then", async () => {
      const place = newPlace();
      await serve(place, releaseOf(place, 1, { web: "web", api: "web" }));
      const next = releaseOf(place, 2, { web: "web", api: "web" });
      await start(place, next);
      expect(await prove(place, next)).toMatchObject({ status: "healthy" });
      expect(await harness.answering(place, "web")).toBe(1);
      await target.shiftTraffic(place, next);
      expect(await harness.answering(place, "web")).toBe(2);
      expect(await harness.answering(place, "api")).toBe(2);
      expect(await target.awaitDrained(place, 2, 5_000)).toEqual({ stillOpen: 0 });
      expect(await seen(place)).toEqual([
        "r1 api draining running",
        "r1 web draining running",
        "r2 api serving running",
        "r2 web serving running",
      ]);
    });

    it("is halted: nothing of any release is there or answers, twice is no error, and a release starts as in a new place", async () => {
      const place = newPlace();
      const first = releaseOf(place, 1, { web: "web", worker: "worker" });
      await serve(place, first);
      await serve(place, releaseOf(place, 2, { web: "web", worker: "worker" }));
      await target.park(place, first);
      await target.halt(place, []);
      expect(await target.observe(place)).toEqual([]);
      expect(await harness.answering(place, "web")).toBeUndefined();
      await target.halt(place, []);
      expect(await target.reconcile(place, { inProgress: [] })).toEqual([]);
      await serve(place, releaseOf(place, 2, { web: "web", worker: "worker" }));
      expect(await harness.answering(place, "web")).toBe(2);
    });

    it.each(["web-broken", "web-exits", "worker-exits"] as const)(
      "finds a %s task unhealthy and keeps the evidence",
      async (behaviour) => {
        const place = newPlace();
        const release = releaseOf(place, 1, { app: behaviour });
        await start(place, release);
        const report = await prove(place, release);
        expect(report).toMatchObject({
          status: "unhealthy",
          reason: expect.stringContaining(taskName(place, "app", 1, 1)),
          evidence: [
            {
              task: taskName(place, "app", 1, 1),
              service: "app",
              ...(behaviour === "web-broken" ? {} : { exitCode: 1 }),
            },
          ],
        });
        if (behaviour === "web-broken" && report.status === "unhealthy") {
          expect(report.evidence[0]?.probes.join()).toContain("500");
        }
      },
    );

    it("tells how many tasks are healthy while it waits", async () => {
      const place = newPlace();
      const release: Release = {
        app: place.app,
        number: 1,
        services: [harness.service(place, "web", "web", { count: 2 })],
      };
      await start(place, release);
      const told: string[] = [];
      await target.awaitHealthy(place, release, release.services, {
        deadlineMs: 15_000,
        onProgress: ({ service, healthy, wanted }) => void told.push(`${service} ${healthy}/${wanted}`),
      });
      expect(told.at(-1)).toBe("web 2/2");
    });

    it("stops waiting when it is aborted, with the reason", async () => {
      const place = newPlace();
      const release = releaseOf(place, 1, { web: "web-broken" });
      await start(place, release);
      const reason = new Error("canceled by anna");
      const options = { deadlineMs: 15_000, onProgress: () => undefined };
      const aborted = target.awaitHealthy(place, release, release.services, {
        ...options,
        signal: abortedBy(reason, 30),
      });
      await expect(aborted).rejects.toBe(reason);
      const watched = target.watchHealth(place, release, [], { forMs: 15_000, signal: abortedBy(reason, 30) });
      await expect(watched).rejects.toBe(reason);
    });

    it("sees that a task crashes while it is watched", async () => {
      const place = newPlace();
      const release = releaseOf(place, 1, { web: "web-crashes" });
      await serve(place, release);
      const report = await target.watchHealth(place, release, release.services, { forMs: 10_000 });
      expect(report).toMatchObject({
        status: "unhealthy",
        evidence: [{ task: taskName(place, "web", 1, 1), exitCode: 1 }],
      });
    });

    it("parks what serves and stops what works; the parked release answers again once woken and given traffic", async () => {
      const place = newPlace();
      const first = releaseOf(place, 1, { web: "web", worker: "worker" });
      const second = releaseOf(place, 2, { web: "web" });
      await serve(place, first);
      await serve(place, second);
      await target.park(place, first);
      await target.park(place, first);
      expect(await seen(place)).toEqual([`r1 web standby ${harness.parked}`, "r2 web serving running"]);
      const alone = (await target.observe(place, first)).filter((one) => one.release === 1);
      expect(brief(alone)).toEqual([`r1 web standby ${harness.parked}`]);
      expect(await target.wake(place, first)).toEqual({ ready: ["web"], missing: [] });
      expect(await target.wake(place, first)).toEqual({ ready: ["web"], missing: [] });
      expect(await seen(place)).toEqual(["r1 web standby running", "r2 web serving running"]);
      await target.shiftTraffic(place, first);
      expect(await harness.answering(place, "web")).toBe(1);
    });

    it("says which parked services are gone", async () => {
      const place = newPlace();
      const release = releaseOf(place, 1, { web: "web", api: "web" });
      await serve(place, release);
      await target.park(place, release);
      await harness.lose(place, taskName(place, "api", 1, 1));
      expect(await target.wake(place, release)).toEqual({ ready: ["web"], missing: ["api"] });
    });

    it("leaves parked releases parked when traffic moves", async () => {
      const place = newPlace();
      const first = releaseOf(place, 1, { web: "web" });
      await serve(place, first);
      await serve(place, releaseOf(place, 2, { web: "web" }));
      await target.park(place, first);
      await serve(place, releaseOf(place, 3, { web: "web" }));
      const standby = harness.holdsReleases === 2 ? [] : [`r1 web standby ${harness.parked}`];
      expect(await seen(place)).toEqual([...standby, "r2 web draining running", "r3 web serving running"]);
      expect(await harness.answering(place, "web")).toBe(3);
    });

    it("stops a release, or only some of its services, and a repetition finds it done", async () => {
      const place = newPlace();
      await start(place, releaseOf(place, 1, { web: "web", worker: "worker" }));
      await target.stop(place, 1, ["worker"]);
      expect(await seen(place)).toEqual(["r1 web draining running"]);
      await target.stop(place, 1);
      await target.stop(place, 1);
      expect(await seen(place)).toEqual([]);
    });

    it("takes a service with count 0 for healthy", async () => {
      const place = newPlace();
      const release: Release = {
        app: place.app,
        number: 1,
        services: [harness.service(place, "web", "web", { count: 0 })],
      };
      await serve(place, release);
      expect(await target.watchHealth(place, release, release.services, { forMs: 0 })).toMatchObject({
        status: "healthy",
      });
      expect(await harness.answering(place, "web")).toBeUndefined();
    });

    describe("runOnce", () => {
      const runIn = async (
        place: Place,
        line: string,
        more: { key?: string; deadlineMs?: number; signal?: AbortSignal } = {},
      ) => {
        const release = releaseOf(place, 1, { web: "web" });
        await target.prepare(place, release);
        const lines: LogLine[] = [];
        const { key = "k1", deadlineMs = 10_000, signal } = more;
        const run = { key, service: "web", command: ["sh", "-c", line], variables: nothing, deadlineMs };
        const result = await target.runOnce(place, release, run, (some) => void lines.push(...some), signal);
        return { result, lines: lines.filter((one) => one.stream !== "meta").map((one) => one.text) };
      };

      it("gives exit code and output, and the same again for a run that ended before", async () => {
        const place = newPlace();
        const done = { exitCode: 3, outOfMemory: false, timedOut: false };
        expect(await runIn(place, "echo hello; exit 3")).toEqual({ result: done, lines: ["hello"] });
        // Another command under the same key is not run: the key names what was done.
        expect((await runIn(place, "exit 0")).result).toEqual(done);
        expect((await runIn(place, "exit 0", { key: "k2" })).result.exitCode).toBe(0);
      });

      it("ends a run that takes too long, and one that is aborted", async () => {
        const place = newPlace();
        expect((await runIn(place, "sleep 30", { deadlineMs: 300 })).result).toMatchObject({ timedOut: true });
        const reason = new Error("canceled");
        await expect(runIn(place, "sleep 30", { key: "k2", signal: abortedBy(reason, 300) })).rejects.toBe(reason);
      });
    });

    describe("a run that a person asked for", () => {
      const askIn = async (
        place: Place,
        line: string,
        more: { key?: string; wasBegun?: boolean; begin?: () => Promise<void>; signal?: AbortSignal } = {},
      ) => {
        const release = releaseOf(place, 1, { web: "web" });
        const { key = "a1", wasBegun = false, begin = async () => undefined, signal } = more;
        const asked = { wasBegun, begin };
        const command = ["sh", "-c", line];
        const run = { key, service: "web", command, variables: nothing, deadlineMs: 20_000, asked };
        return target.runOnce(place, release, run, () => undefined, signal);
      };

      it("says that it begins before it starts, outlives its release, and is forgotten when that is asked", async () => {
        const place = newPlace();
        const release = releaseOf(place, 1, { web: "web" });
        await start(place, release);
        let begun = 0;
        const begin = async () => void begun++;
        expect((await askIn(place, "exit 3", { begin })).exitCode).toBe(3);
        await target.stop(place, 1);
        await target.reconcile(place, { inProgress: [] });
        // Found again by its key, whatever it is asked to do now.
        expect((await askIn(place, "exit 0", { begin, wasBegun: true })).exitCode).toBe(3);
        expect(begun).toBe(1);
        await target.forgetRun(place, "a1");
        await target.forgetRun(place, "a1");
      });

      it("does not start when it cannot be noted that it begins, or when nobody wants it any more", async () => {
        const place = newPlace();
        await start(place, releaseOf(place, 1, { web: "web" }));
        const broken = new Error("the database is away");
        await expect(askIn(place, "exit 4", { begin: () => Promise.reject(broken) })).rejects.toBe(broken);
        const reason = new Error("canceled");
        await expect(askIn(place, "exit 4", { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
        expect((await askIn(place, "exit 4")).exitCode).toBe(4);
      });

      it("is ended when it is aborted", async () => {
        const place = newPlace();
        await start(place, releaseOf(place, 1, { web: "web" }));
        const reason = new Error("canceled");
        await expect(askIn(place, "sleep 30", { signal: abortedBy(reason, 300) })).rejects.toBe(reason);
      });
    });

    describe("a command inside a running task", () => {
      const execIn = async (line: string) => {
        const place = newPlace();
        await start(place, releaseOf(place, 1, { web: "web" }));
        await settled(place);
        const task = taskName(place, "web", 1, 1);
        // Processes are found by it, on whatever machine they run.
        const id = newId("x");
        const session = await target.exec(place, task, { id, command: ["sh", "-c", line] });
        const output = Promise.all([text(session.stdout), text(session.stderr)]);
        return { place, task, id, session, output };
      };

      it("has an input, an output and an exit code", async () => {
        const { session, output } = await execIn("cat");
        session.stdin.write("one\n");
        session.stdin.end("two\n");
        expect(await output).toEqual(["one\ntwo\n", ""]);
        expect(await session.ended).toBe(0);
        expect(await (await execIn("echo gone; exit 3")).session.ended).toBe(3);
      });

      it("is ended with all it started when its connection is lost, and the task runs on", async () => {
        const { place, task, id, session, output } = await execIn("sleep 60");
        await target.endExec(place, task, newId("x"));
        await target.endExec(place, task, id);
        expect(await session.ended).not.toBe(0);
        await output;
        await target.endExec(place, task, id);
        expect(await seen(place)).toEqual(["r1 web draining running"]);
      });

      it("finds nothing to go into where a task does not run", async () => {
        const place = newPlace();
        await start(place, releaseOf(place, 1, { web: "web" }));
        const into = target.exec(place, taskName(place, "web", 7, 1), { id: newId("x"), command: ["true"] });
        await expect(into).rejects.toMatchObject({ code: "TASK_NOT_RUNNING" });
        await target.endExec(place, taskName(place, "web", 7, 1), newId("x"));
      });
    });

    describe("reconcile", () => {
      it("starts what is missing of the live release, gives it traffic, removes what nobody declares, and then finds nothing to do", async () => {
        const place = newPlace();
        const release = releaseOf(place, 2, { web: "web", worker: "worker" });
        await serve(place, release);
        await start(place, releaseOf(place, 9, { web: "web" }));
        await harness.lose(place, taskName(place, "web", 2, 1));
        await harness.lose(place, taskName(place, "worker", 2, 1));
        const desired = { live: { release, variables: {} }, inProgress: [] };
        expect(await target.reconcile(place, desired)).not.toEqual([]);
        expect(await seen(place)).toEqual(["r2 web serving running", "r2 worker none running"]);
        await until("r2 answers again", async () => (await harness.answering(place, "web")) === 2);
        expect(await target.reconcile(place, desired)).toEqual([]);
      });

      it("leaves the tasks of a deployment in progress alone", async () => {
        const place = newPlace();
        const live = releaseOf(place, 1, { web: "web" });
        await serve(place, live);
        await start(place, releaseOf(place, 2, { web: "web" }));
        const before = await seen(place);
        expect(await target.reconcile(place, { live: { release: live, variables: {} }, inProgress: [2] })).toEqual([]);
        expect(await seen(place)).toEqual(before);
      });
    });

    describe("findDrift", () => {
      const serving = async (
        place: Place,
        behaviours: Record<string, Behaviour> = { web: "web", worker: "worker" },
      ) => {
        const release = releaseOf(place, 1, behaviours);
        await serve(place, release);
        return { live: { release, variables: {} }, inProgress: [] };
      };
      const ownBacking = (): Backing[] =>
        harness.refusesBacking === undefined
          ? [{ name: "cache", spec: { engine: "redis" }, password: new Secret("CACHE", "x") }]
          : [];
      const kinds = async (place: Place, desired: DesiredState) =>
        (await target.findDrift(place, desired)).map(({ name, kind }) => `${name} ${kind}`);

      it("finds none in what it made itself: live, parked, in progress, backing", async () => {
        const place = newPlace();
        const first = releaseOf(place, 1, { web: "web" });
        const variables = { env: { COLOR: "blue" }, secrets: { KEY: new Secret("KEY", "swordfish") } };
        await serve(place, first);
        const live = releaseOf(place, 2, { web: "web", worker: "worker" });
        await start(place, live, variables);
        expect(await prove(place, live)).toMatchObject({ status: "healthy" });
        await target.shiftTraffic(place, live);
        await target.park(place, first);
        const backing = ownBacking();
        await target.ensureBacking(place, backing, () => undefined);
        if (harness.holdsReleases === "any") await start(place, releaseOf(place, 3, { web: "web" }));
        const all = { web: variables, worker: variables };
        const desired = { live: { release: live, variables: all }, standby: first, inProgress: [3], backing };
        expect(await target.findDrift(place, desired)).toEqual([]);
        expect(await target.findDrift(newPlace(), { inProgress: [] })).toEqual([]);
      });

      it("finds what is missing, changes nothing, and finds it no more once it is mended", async () => {
        const place = newPlace();
        const desired = await serving(place);
        await harness.lose(place, taskName(place, "worker", 1, 1));
        const before = await seen(place);
        const drift = { name: taskName(place, "worker", 1, 1), what: "task", kind: "missing", mendsItself: true };
        expect(await target.findDrift(place, desired)).toEqual([{ ...drift, attributes: [] }]);
        expect(await seen(place)).toEqual(before);
        await target.reconcile(place, desired);
        await settled(place);
        expect(await target.findDrift(place, desired)).toEqual([]);
      });

      it("finds what was changed by hand, with what it was and how it is put right, also after reconciling", async () => {
        const place = newPlace();
        const desired = await serving(place);
        await harness.change(place, taskName(place, "web", 1, 1));
        const drift = { name: taskName(place, "web", 1, 1), what: "task", kind: "changed", mendsItself: false };
        const expected = [{ ...drift, remedy: expect.any(String), attributes: [expect.any(Object)] }];
        expect(await target.findDrift(place, desired)).toEqual(expected);
        await target.reconcile(place, desired);
        expect(await target.findDrift(place, desired)).toEqual(expected);
        expect(await harness.answering(place, "web")).toBe(1);
      });

      it("finds tasks of a release that nobody declares, tasks without traffic, and a backing service that is not there", async () => {
        const place = newPlace();
        const desired = await serving(place, { web: "web" });
        await start(place, releaseOf(place, 9, { web: "web" }));
        await settled(place);
        const found = await target.findDrift(place, desired);
        expect(found).toMatchObject([{ what: "unknown", kind: "unknown", mendsItself: true }]);
        const next = releaseOf(place, 9, { web: "web" });
        const backing = ownBacking();
        const moved = {
          live: { release: next, variables: {} },
          standby: desired.live.release,
          inProgress: [],
          backing,
        };
        const missing = backing.map(({ name }) => `${name} missing`);
        expect(await kinds(place, moved)).toEqual([`${taskName(place, "web", 9, 1)} no-traffic`, ...missing]);
      });

      it("finds a stranger", async () => {
        const place = newPlace();
        const desired = await serving(place, { web: "web" });
        const name = await harness.intrude(place);
        expect(await kinds(place, desired)).toEqual([`${name} unknown`]);
      });
    });

    it("keeps one backing service over releases and gives its variables as secrets", async () => {
      const place = newPlace();
      const backing = [
        { name: "cache", spec: { engine: "redis" as const }, password: new Secret("CACHE_PASSWORD", "x") },
      ];
      if (harness.refusesBacking !== undefined) {
        const refused = await target.ensureBacking(place, backing, () => undefined).catch((error: unknown) => error);
        expect(hasCode(refused, harness.refusesBacking)).toBe(true);
        return await target.ensureBacking(place, [], () => undefined);
      }
      expect(target.backingVariables(place, backing).CACHE_URL?.reveal()).toMatch(/cache/);
      await target.ensureBacking(place, backing, () => undefined);
      await target.ensureBacking(place, backing, () => undefined);
      expect(await target.observe(place)).toEqual([]);
    });

    describe("a backing service", () => {
      beforeEach(({ skip }) => skip(harness.refusesBacking !== undefined, "this runtime has none: refused above"));
      const cache = (spec: Backing["spec"] = { engine: "redis" }): Backing[] => [
        { name: "cache", spec, password: new Secret("CACHE_PASSWORD", "x") },
      ];
      const ensure = (place: Place, backing = cache()) => target.ensureBacking(place, backing, () => undefined);
      const look = async (place: Place, backing = cache()) => (await target.observeBacking(place, backing))[0];
      const stateIn = async (place: Place) => (await look(place))?.state;

      it("needs nothing of its place before, and is shown as it is", async () => {
        const place = newPlace();
        expect(await look(place)).toMatchObject({ name: "cache", state: "missing", isChanged: false });
        expect(await look(place)).not.toHaveProperty("container");
        await ensure(place);
        const found = await look(place);
        expect(found).toMatchObject({
          state: "running",
          host: "cache",
          port: expect.any(Number),
          version: expect.stringMatching(/./),
          variables: expect.arrayContaining(["CACHE_URL"]),
          container: expect.stringContaining("cache"),
          isChanged: false,
        });
        expect(await look(place, cache({ engine: "redis", version: "0.1" }))).toEqual({ ...found, isChanged: true });
      });

      it("is started again when somebody stopped or removed it", async () => {
        const place = newPlace();
        await ensure(place);
        await harness.stopBacking(place, "cache");
        expect(await stateIn(place)).toBe("stopped");
        await ensure(place);
        expect(await stateIn(place)).toBe("running");
        await harness.loseBacking(place, "cache");
        expect(await stateIn(place)).toBe("missing");
        await ensure(place);
        expect(await stateIn(place)).toBe("running");
      });

      it("is made once when several want it at the same time", async () => {
        const place = newPlace();
        await Promise.all([ensure(place), ensure(place), ensure(place)]);
        expect(await stateIn(place)).toBe("running");
      });

      it("goes with its container, its data only where asked, and a repetition finds nothing", async () => {
        const place = newPlace();
        await ensure(place);
        expect(await target.removeBacking(place, "cache", "keep")).toBe(true);
        expect(await target.removeBacking(place, "cache", "keep")).toBe(false);
        expect(await stateIn(place)).toBe("missing");
        await expect(ensure(place, cache({ engine: "mariadb" }))).rejects.toMatchObject({ code: "BACKING_REFUSED" });
        expect(await stateIn(place)).toBe("missing");
        expect(await target.removeBacking(place, "cache", "remove")).toBe(true);
        expect(await target.removeBacking(place, "cache", "remove")).toBe(false);
      });

      it("goes when its place is halted, with its data left behind, or is spared", async () => {
        const place = newPlace();
        await serve(place, releaseOf(place, 1, { web: "web" }));
        await ensure(place);
        await target.halt(place, ["cache"]);
        expect(await target.observe(place)).toEqual([]);
        expect(await stateIn(place)).toBe("running");
        await target.halt(place, []);
        expect(await stateIn(place)).toBe("missing");
        await expect(ensure(place, cache({ engine: "mariadb" }))).rejects.toMatchObject({ code: "BACKING_REFUSED" });
      });

      it("leaves its data behind when its place is destroyed without them", async () => {
        const place = newPlace();
        await ensure(place);
        await target.destroy(place, "keep");
        expect(await stateIn(place)).toBe("missing");
        await expect(ensure(place, cache({ engine: "mariadb" }))).rejects.toMatchObject({ code: "BACKING_REFUSED" });
        await target.destroy(place, "remove");
        expect(await target.removeBacking(place, "cache", "remove")).toBe(false);
      });
    });

    it("lets the environment's variables win over the service's own, and secrets over both", async () => {
      const place = newPlace();
      const env = { A: "service", B: "service", C: "service" };
      const release: Release = { app: place.app, number: 1, services: [harness.service(place, "web", "web", { env })] };
      await target.prepare(place, release);
      const lines: LogLine[] = [];
      const variables = { env: { B: "variable", C: "variable" }, secrets: { C: new Secret("C", "secret") } };
      const command = ["sh", "-c", "echo $A $B $C"];
      const run = { key: "env", service: "web", command, variables, deadlineMs: 10_000 };
      await target.runOnce(place, release, run, (some) => void lines.push(...some));
      const said = lines.filter((one) => one.stream === "out").map(({ text }) => text);
      expect(said).toEqual(["service variable secret"]);
    });

    describe("what tasks use and answer", () => {
      const measure = (place: Place, releases: Release[]) =>
        target.measure(place, releases, { sinceMs: Date.now() - 3_600_000 });

      it("has an entry for each service of the releases that are asked for, in their order, and is nothing where nothing runs", async () => {
        const place = newPlace();
        const measured = await measure(place, [releaseOf(place, 1, { web: "web", worker: "worker" })]);
        expect(measured.services).toMatchObject([
          {
            release: 1,
            service: "web",
            traffic: "none",
            running: 0,
            healthy: null,
            latest: null,
            points: [],
            tasks: [],
          },
          { release: 1, service: "worker", running: 0, latest: null, points: [] },
        ]);
        expect(measured.everyMs).toBeGreaterThan(0);
      });

      it("tells the live release from the one on standby, and knows shares and counts, or says that it does not", async () => {
        const place = newPlace();
        const first = releaseOf(place, 1, { web: "web" });
        const second = releaseOf(place, 2, { web: "web", worker: "worker" });
        await serve(place, first);
        await serve(place, second);
        await target.park(place, first);
        const running = await until("all tasks run", async () => {
          const { services } = await measure(place, [second, first]);
          return services.every((one) => one.release === 1 || one.running === 1) && services;
        });
        expect(running.map((one) => `r${one.release} ${one.service} ${one.traffic}`)).toEqual([
          "r2 web serving",
          "r2 worker none",
          "r1 web standby",
        ]);
        for (const { service, latest, points, tasks } of running) {
          for (const one of [...points, ...(latest === null ? [] : [latest])]) {
            const { at, spanMs, cpuPercent, memoryPercent, requests, ...answers } = one;
            expect(spanMs).toBeGreaterThan(0);
            expect(at).toBeLessThanOrEqual(Date.now());
            for (const figure of [cpuPercent, memoryPercent, requests]) expect(figure ?? 0).toBeGreaterThanOrEqual(0);
            if (service !== "worker") continue;
            expect(requests).toBeNull();
            expect(new Set(Object.values(answers))).toEqual(new Set([null]));
          }
          for (const task of tasks) expect(task.name).toContain(`.${service}.`);
        }
      });
    });

    describe("what tasks print", () => {
      type Said = { task: string; text: string; at: number };
      const serviceOf = (task: string) => task.split(".").at(2);
      /** Reads into a list; `ended` is the end of the reading. */
      const read = (place: Place, source: LogSource, options: { sinceMs?: number; follow: boolean }) => {
        const said: Said[] = [];
        const stop = new AbortController();
        const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(20_000)]);
        const { sinceMs = 0, follow } = options;
        const ended = target.readLogs(place, source, { sinceMs, follow, signal }, (task, lines) => {
          for (const { stream, text, at } of lines) {
            expect(stream).toBe("out");
            said.push({ task, text, at });
          }
        });
        ended.catch(() => undefined);
        const services = () => said.map(({ task }) => serviceOf(task)).sort();
        return { said, services, stop: () => stop.abort(), ended, isOutOfTime: () => signal.aborted };
      };

      it("is followed until nobody listens any more, also that of tasks which come later", async () => {
        const place = newPlace();
        const release = releaseOf(place, 1, { web: "web", api: "web" });
        await target.prepare(place, release);
        const [web, api] = release.services as [ReleaseService, ReleaseService];
        await target.startService(place, release, web, nothing);
        const following = read(place, { release: 1 }, { follow: true });
        await until("a line of web", () => following.services().includes("web"));
        await target.startService(place, release, api, nothing);
        await until("a line of api", () => following.services().includes("api"));
        following.stop();
        await following.ended;
        expect(following.services()).toEqual(["api", "web"]);
        expect(following.said[0]?.text).toContain("says hello");
        expect(following.said[0]?.task).toMatch(/\.web\.r1-\w+$/);
        expect(Math.abs((following.said[0]?.at ?? 0) - Date.now())).toBeLessThan(60_000);
      });

      it("is only that of the release and the service that are asked for, and its end is that of the tasks", async () => {
        const place = newPlace();
        await start(place, releaseOf(place, 1, { web: "web", api: "web" }));
        await start(place, releaseOf(place, 2, { web: "web" }));
        const both = read(place, { release: 1 }, { follow: true });
        const one = read(place, { release: 1, service: "web" }, { follow: true });
        await until("lines of both", () => both.services().length >= 2 && one.services().length >= 1);
        await target.stop(place, 1);
        await both.ended;
        await one.ended;
        expect(both.isOutOfTime()).toBe(false);
        expect(new Set(both.services())).toEqual(new Set(["api", "web"]));
        expect(new Set(one.services())).toEqual(new Set(["web"]));
        expect(both.said.every(({ task }) => task.includes(".r1-"))).toBe(true);
      });

      it("is given so far, where it is not to be followed, and is nothing of tasks that never were", async () => {
        const place = newPlace();
        const startedAt = Date.now();
        await start(place, releaseOf(place, 1, { web: "web" }));
        const soFar = async (source: LogSource, sinceMs: number) => {
          const reading = read(place, source, { sinceMs, follow: false });
          await reading.ended;
          expect(reading.isOutOfTime()).toBe(false);
          return reading.said;
        };
        const said = await until("a line", async () => {
          const some = await soFar({ release: 1, service: "web" }, startedAt - 60_000);
          return some.length > 0 && some;
        });
        expect(said[0]?.text).toContain("says hello");
        expect(await soFar({ release: 1 }, Date.now() + 60_000)).toEqual([]);
        expect(await soFar({ release: 1, service: "we" }, 0)).toEqual([]);
        expect(await soFar({ release: 11 }, 0)).toEqual([]);
      });
    });
  });
}

function brief(observed: ObservedService[]): string[] {
  return observed
    .map(
      (one) =>
        `r${one.release} ${one.service} ${one.traffic} ${[...new Set(one.tasks.map((task) => task.state))].join("+")}`,
    )
    .sort();
}

function abortedBy(reason: Error, afterMs: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), afterMs);
  return controller.signal;
}
