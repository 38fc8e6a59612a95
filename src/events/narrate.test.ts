import { describe, expect, it } from "vitest";
import type { StepOutcome } from "../ci/executor.ts";
import type { CiEvent } from "../ci/run-pipeline.ts";
import type { ImageEvent } from "../image/build-images.ts";
import type { RolloutEvent } from "../rollout/outcome.ts";
import type { DeploymentEnded, PlatformEvent, StoredEvent } from "./event.ts";
import { narrate, newNarration, newNarrator } from "./narrate.ts";

type Frame = Partial<StoredEvent>;
type Stage<Domain extends string, Event extends { kind: string }> = Event extends unknown
  ? { kind: `${Domain}.${Event["kind"]}`; data: Omit<Event, "kind"> }
  : never;
type Known =
  | PlatformEvent
  | Stage<"ci", CiEvent>
  | { kind: "ci.pipelineEnded"; data: { status: string; durationMs: number } }
  | Stage<"image", ImageEvent>
  | Stage<"rollout", RolloutEvent>;
/** Typed by what the stages really tell: a renamed kind or field does not compile here. */
type Told = Known extends infer Event
  ? Event extends { kind: infer Kind; data: infer Data }
    ? [kind: Kind, data: Data & { number?: number; addresses?: string[] }, frame?: Frame]
    : never
  : never;

const tell = (events: readonly Told[]) => tellAny(events);

function tellAny(events: readonly [kind: string, data: object, frame?: Frame][]): string[] {
  const narrator = newNarrator();
  return events.flatMap(([kind, data, more], index) =>
    narrator.tell({
      id: index + 1,
      at: "2026-11-23T12:00:00.000Z",
      app: "launches",
      environment: null,
      subject: kind.startsWith("ci.") ? "pipeline:p_12" : "change:c_1",
      deliveryId: "c_1",
      kind,
      actor: "maria",
      data: { ...data },
      ...more,
    }),
  );
}

const production = { environment: "production", subject: "deployment:d_1" };
type DataOf<K extends Known["kind"]> = Extract<Known, { kind: K }>["data"];
const started: DataOf<"delivery.started"> = {
  changeId: "c_1",
  refKind: "branch",
  refName: "main",
  commit: "3f2c1ab9d0e1f2a3b4c5d6e7f8a9b0c1d2e3f4a5",
  subject: "Move the hero up",
  environments: ["production"],
};
const ended: DataOf<"delivery.ended"> = { status: "live", deployments: [], durationMs: 18_400 };
const stepOutcome = { status: "passed" as const, startedAt: 0, commands: [], lastLines: [] };
const step = (id: string, name: string, endedAt: number, more: Partial<StepOutcome> = {}): Told => [
  "ci.stepEnded",
  { stepId: id, number: 12, outcome: { ...stepOutcome, id, name, endedAt, ...more } },
];
const pipelineStarted: Told = [
  "ci.pipelineStarted",
  {
    number: 12,
    selector: "default",
    steps: [
      { id: "1", name: "lint", stage: 0 },
      { id: "2", name: "unit tests", stage: 1 },
    ],
    notes: [],
  },
];
const deploymentStarted: Told = [
  "deployment.started",
  { deploymentId: "d_1", kind: "deploy", release: 7, from: 6 },
  production,
];
const failedEnd: DeploymentEnded = {
  deploymentId: "d_1",
  kind: "deploy",
  release: 7,
  status: "failed",
  addresses: [],
  durationMs: 12_100,
  phase: "prove",
  problem: {
    code: "ROLLOUT_FAILED",
    message: "web did not become healthy within 10.0 s.",
    hint: "See the evidence again with `shipway deployments d_1`.",
  },
  evidence: [
    {
      task: "launches.production.web.r7-1",
      service: "web",
      summary: "It listens only on 127.0.0.1, where nothing outside its container reaches it.",
      state: "running",
      probes: ["GET http://172.18.0.3:3000/ → connection refused"],
      listening: [{ port: 3000, address: "127.0.0.1", loopbackOnly: true }],
      lastLines: ["listening on 127.0.0.1:3000"],
    },
  ],
  rolledBack: false,
};

const waiting = {
  deploymentId: "d_1",
  release: 7,
  digest: "sha256:1",
  approvers: "others" as const,
  mayApprove: ["tess"],
  expiresAt: "2026-11-26T12:30:00.000Z",
  from: 6,
  commits: [
    { commit: "ad92b5f0000", subject: "Sell \u001b[31mtickets", author: "Ada" },
    ...Array.from({ length: 19 }, () => ({ commit: "a22b86e0000", subject: "More", author: "Ada" })),
  ],
  more: 5,
  takesBack: 1,
  ranIn: [
    { environment: "demo", release: 5, status: "failed" as const, verified: 0, isLive: false, addresses: [], at: "" },
    {
      environment: "staging",
      release: 5,
      status: "succeeded" as const,
      verified: 2,
      isLive: true,
      addresses: ["http://s"],
      at: "",
    },
  ],
};

describe("narrate", () => {
  it("tells what waits for an approval: by whom, what it brings, where it ran, and how to answer", () => {
    const lines = tell([["deployment.waiting", waiting, production]]);
    expect(lines.slice(0, 4)).toEqual([
      "! production: r7 waits for an approval by a tester other than its author (such as tess)",
      "  until 2026-11-26 12:30 UTC",
      "  25 commits since r6:",
      "    ad92b5f Sell tickets (Ada)",
    ]);
    expect(lines.slice(-7)).toEqual([
      "    and 17 more",
      "  ! it takes back 1 commit of r6, which serves now",
      "  ✗ the same images failed in demo (r5)",
      "  ✓ the same images serve in staging (r5, 2 verify commands passed)",
      "    http://s",
      "  → `shipway approve d_1`",
      '    or turn it down: `shipway approve d_1 --reject "why"`',
    ]);
  });

  it("tells a push from the commit to the address", () => {
    expect(
      tell([
        ["delivery.started", started],
        pipelineStarted,
        ["ci.stepStarted", { stepId: "1", name: "lint", at: 0 }],
        ["image.started", { service: "backend", name: "shipway/launches/backend:1" }],
        ["ci.serviceReady", { stepId: "2", service: "mysql", durationMs: 3200 }],
        step("1", "lint", 1200),
        ["image.built", { service: "backend", name: "x", digest: "sha256:1", durationMs: 2100 }],
        ["image.reused", { service: "frontend", name: "x", digest: "sha256:2" }],
        step("2", "unit tests", 3400),
        ["ci.pipelineEnded", { number: 12, status: "passed", durationMs: 4600 }],
        [
          "release.recorded",
          {
            release: 7,
            commit: "3f2c",
            images: [
              { service: "backend", name: "x", digest: "y", reused: false },
              { service: "frontend", name: "x", digest: "y", reused: true },
            ],
          },
        ],
        ["deployment.queued", { deploymentId: "d_1", kind: "deploy", release: 7 }, production],
        deploymentStarted,
        [
          "rollout.phase-started",
          { phase: "prove", detail: "starting r7 (web 2) and waiting until it is healthy" },
          production,
        ],
        ["rollout.health", { service: "web", healthy: 0, wanted: 2, detail: "connection refused" }, production],
        ["rollout.health", { service: "web", healthy: 0, wanted: 2, detail: "answered 503" }, production],
        ["rollout.health", { service: "web", healthy: 1, wanted: 2, detail: "1 passing" }, production],
        [
          "rollout.health",
          { service: "web", healthy: 2, wanted: 2, detail: "ok", waitsFor: "ECS is late" },
          production,
        ],
        ["rollout.health", { service: "web", healthy: 2, wanted: 2, detail: "" }, production],
        ["rollout.phase-ended", { phase: "prove", result: "ok", durationMs: 2200 }, production],
        [
          "rollout.live",
          {
            release: 7,
            afterMs: 2300,
            addresses: ["http://frontend.production.launches.localhost:8080", "http://shop.example.com:8080"],
          },
          production,
        ],
        ["rollout.phase-ended", { phase: "bake", result: "ok", durationMs: 3000 }, production],
        [
          "deployment.ended",
          {
            deploymentId: "d_1",
            kind: "deploy",
            release: 7,
            status: "succeeded",
            addresses: [],
            liveAfterMs: 2300,
            durationMs: 5400,
            evidence: [],
            rolledBack: false,
          },
          production,
        ],
        ["delivery.ended", ended],
      ]),
    ).toEqual([
      '→ launches  main 3f2c1ab  "Move the hero up"  → production',
      "… pipeline #12 default: lint, unit tests",
      "  … building backend",
      "  … unit tests: mysql answers after 3.2 s",
      "  ✓ lint 1.2 s",
      "✓ image backend built in 2.1 s",
      "  ✓ unit tests 3.4 s",
      "✓ pipeline #12 default passed: 2/2 steps in 4.6 s",
      "✓ release r7   backend new · frontend unchanged",
      "→ production  r6 → r7",
      "  … starting r7 (web 2) and waiting until it is healthy",
      "  … web 0/2 healthy (connection refused)",
      "  … web 1/2 healthy (1 passing)",
      "  ✓ web 2/2 healthy (ECS is late)",
      "✓ live in 2.3 s   http://frontend.production.launches.localhost:8080",
      "                  http://shop.example.com:8080",
      "✓ production runs r7   prove 2.2 s · bake 3.0 s",
      "✓ done in 18.4 s",
    ]);
  });

  it("shows of a failed step the command, its last lines and where to read on", () => {
    expect(
      tell([
        pipelineStarted,
        step("1", "lint", 900),
        step("2", "unit tests", 3400, {
          status: "failed",
          exitCode: 1,
          reason: "`npm test` exited with 1",
          failedCommand: "npm test",
          lastLines: ["\u001b[31mFAIL\u001b[0m cart.test.js", "  expected 2, got 3"],
        }),
        ["ci.pipelineEnded", { number: 12, status: "failed", durationMs: 4300 }],
        [
          "delivery.ended",
          {
            ...ended,
            status: "stopped",
            at: "ci",
            problem: { code: "PIPELINE_FAILED", message: "Pipeline #12 did not pass.", hint: "Read the whole log." },
          },
        ],
      ]).slice(1),
    ).toEqual([
      "  ✓ lint 900 ms",
      "  ✗ unit tests failed after 3.4 s: `npm test` exited with 1",
      "    $ npm test   exit code 1",
      "      | FAIL cart.test.js",
      "      |   expected 2, got 3",
      '  → `shipway logs --pipeline 12 --step "unit tests"`',
      "✗ pipeline #12 default failed: 1/2 steps in 4.3 s",
      "✗ stopped at ci after 18.4 s: nothing was deployed; what runs, runs on",
    ]);
  });

  it("shows of an unhealthy release all evidence, and that the old one serves", () => {
    expect(tell([deploymentStarted, ["deployment.ended", failedEnd, production]]).slice(1)).toEqual([
      "✗ production: r7 failed at prove after 12.1 s",
      "  web did not become healthy within 10.0 s.",
      "  ✗ launches.production.web.r7-1: It listens only on 127.0.0.1, where nothing outside its",
      "    container reaches it.",
      "    GET http://172.18.0.3:3000/ → connection refused",
      "    listens on 127.0.0.1:3000 (reachable only inside its own container)",
      "      | listening on 127.0.0.1:3000",
      "! r6 still serves; nothing changed for your users",
      "  → See the evidence again with `shipway deployments d_1`.",
    ]);
  });

  it("shows tasks that failed alike once, and a reason that the evidence gives only there", () => {
    const [one] = failedEnd.evidence;
    if (!one) throw new Error("no evidence");
    const evidence = [1, 2, 3].map((n) => ({
      ...one,
      task: `web-r7-${n}`,
      summary: `web-r7-${n} refuses connections at 10.0.0.${n}:3000.`,
      probes: ["GET / → refused", "GET / → refused"],
      listening: [],
      lastLines: [],
    }));
    const message = evidence.map(({ summary }) => summary).join(" ");
    const lines = tell([["deployment.ended", { ...failedEnd, evidence, problem: { code: "X", message } }, production]]);
    expect(lines).toEqual([
      "✗ production: r7 failed at prove after 12.1 s",
      "  ✗ web-r7-1 refuses connections at 10.0.0.1:3000.",
      "    and so did web-r7-2, web-r7-3",
      "    GET / → refused",
      "! production serves nothing yet",
      "  → `shipway deployments d_1`",
    ]);
  });

  it.each([
    {
      name: "traffic that moved and moved back",
      events: [
        deploymentStarted,
        ["deployment.ended", { ...failedEnd, evidence: [], rolledBack: true }, production],
      ] as Told[],
      line: "! r7 had the traffic for a moment; r6 serves again",
    },
    {
      name: "a first release that failed",
      events: [["deployment.ended", { ...failedEnd, evidence: [] }, production]] as Told[],
      line: "! production serves nothing yet",
    },
    {
      name: "a canceled deployment",
      events: [deploymentStarted, ["deployment.ended", { ...failedEnd, status: "canceled" }, production]] as Told[],
      line: "! production: r7 was canceled; r6 still serves",
    },
    {
      name: "a superseded deployment",
      events: [["deployment.ended", { ...failedEnd, status: "superseded" }, production]] as Told[],
      line: "! production: r7 was overtaken by something newer and not deployed",
    },
    {
      name: "a release that was turned down",
      events: [
        ["deployment.waiting", waiting, production],
        ["deployment.ended", { ...failedEnd, status: "rejected" }, production],
      ] as Told[],
      line: "! production: r7 was turned down; r6 still serves",
    },
    {
      name: "a superseded delivery",
      events: [["delivery.ended", { ...ended, status: "superseded" }]] as Told[],
      line: "! overtaken by something newer; this was not deployed",
    },
    {
      name: "a branch that deploys nowhere",
      events: [["delivery.ended", { ...ended, status: "nothing-to-deploy" }]] as Told[],
      line: "✓ done in 18.4 s; no environment deploys this",
    },
    {
      name: "a busy environment",
      events: [
        ["deployment.queued", { deploymentId: "d_1", kind: "deploy", release: 7, waitsFor: "d_0" }, production],
      ] as Told[],
      line: "… production is busy; waiting for d_0 to end",
    },
    {
      name: "a mended environment",
      events: [["environment.mended", { text: "started web-1" }, production]] as Told[],
      line: "! production was mended: started web-1",
    },
  ])("tells $name", ({ events, line }) => {
    expect(tell(events)).toContain(line);
  });

  it("tells a rollback, and what pushes do from now on", () => {
    expect(
      tell([
        ["deployment.started", { deploymentId: "d_2", kind: "rollback", release: 5, from: 7 }, production],
        ["rollout.live", { release: 5, afterMs: 21, addresses: ["http://a.localhost:8080"] }, production],
        ["environment.frozen", { reason: "rolled back to r5 by maria", release: 5 }, production],
      ]),
    ).toEqual([
      "→ production  r7 → r5  (rollback)",
      "✓ production is back on r5 in 21 ms   http://a.localhost:8080",
      "! production is frozen (rolled back to r5 by maria): pushes are tested, but not deployed",
      "  there",
      "  → go on with `shipway resume --env production`",
    ]);
  });

  it("tells a failed build with its line of the Dockerfile", () => {
    expect(
      tell([
        [
          "image.failed",
          {
            service: "backend",
            name: "x",
            failure: {
              service: "backend",
              name: "x",
              message: "`npm ci` exited with 1",
              dockerfileLine: 4,
              lastLines: ["npm ERR! missing"],
            },
          },
        ],
      ]),
    ).toEqual([
      "✗ image backend could not be built (Dockerfile, line 4): `npm ci` exited with 1",
      "      | npm ERR! missing",
      "  → `shipway logs --build c_1 --service backend`",
    ]);
  });

  it("keeps the user's source and its carets as they are", () => {
    const message =
      'shipway.yml is not valid:\n\nshipway.yml:3:3  unknown key "scripts"\n    3 |   scripts:\n      |   ^^^^^^^';
    const problem = { code: "SPEC_INVALID", message, hint: "Fix it." };
    expect(tell([["delivery.ended", { ...ended, status: "stopped", at: "spec", problem }]])).toEqual([
      "✗ stopped at spec after 18.4 s: shipway.yml is not valid:",
      "",
      '  shipway.yml:3:3  unknown key "scripts"',
      "      3 |   scripts:",
      "        |   ^^^^^^^",
      "  → Fix it.",
      "  nothing was deployed; what runs, runs on",
    ]);
  });

  it("tells each step once, also when an event comes a second time after a crash", () => {
    const again = [pipelineStarted, step("1", "lint", 900)];
    expect(tell([...again, ...again])).toEqual(tell(again));
  });

  it("keeps every line within 90 columns, whatever users write", () => {
    const long = "all work and no play makes a long subject ".repeat(8);
    const lines = tell([
      ["delivery.started", { ...started, subject: long, environments: ["production", "staging"] }],
      ["delivery.note", { text: long }],
      step("1", long, 900, { status: "failed", reason: long, failedCommand: long, exitCode: 1, lastLines: [long] }),
      ["rollout.health", { service: "web", healthy: 0, wanted: 2, detail: long }, production],
      ["deployment.ended", { ...failedEnd, problem: { code: "X", message: long, hint: long } }, production],
    ]).filter((line) => !line.includes("`shipway"));
    expect(lines.filter((line) => [...line].length > 90)).toEqual([]);
    expect(lines[0]).toMatch(/… {2}→ production, staging$/);
  });

  it("prints no control characters of users", () => {
    const lines = tell([["delivery.started", { ...started, subject: "a\u001b[2Jb\u0007c\rd" }]]);
    expect(lines).toEqual(['→ launches  main 3f2c1ab  "ab c d"  → production']);
  });

  it.each([
    ["some.future-kind", { a: 1 }],
    ["nodot", {}],
    ["delivery.started", { refName: 7 }],
    ["deployment.ended", {}],
    ["rollout.health", { service: "web" }],
    ["ci.stepEnded", { outcome: null }],
    ["image.built", {}],
    ["ci.unknown", {}],
  ])("says nothing about %s with %j, and does not fail", (kind, data) => {
    expect(tellAny([[kind, data]])).toEqual([]);
  });

  it("is pure: the same state and event give the same lines, and the state stays plain data", () => {
    const event = { id: 1, at: "", app: "a", environment: null, subject: "pipeline:p_1", deliveryId: null, actor: "m" };
    const first = narrate(newNarration(), { ...event, kind: pipelineStarted[0], data: pipelineStarted[1] });
    const revived = JSON.parse(JSON.stringify(first.state)) as typeof first.state;
    const next = { ...event, kind: "ci.stepEnded", data: step("1", "lint", 900)[1] };
    expect(narrate(revived, next)).toEqual(narrate(first.state, next));
  });

  it("tells what was declared through the API, and what somebody did to it", () => {
    expect(
      tell([
        ["environment.declared", { branch: "demo/*", tag: "v*" }, { environment: "demo" }],
        ["environment.declared", { branch: null, tag: null }, { environment: "demo" }],
        ["backing.declared", { name: "cache", engine: "redis" }, { environment: "demo" }],
        ["backing.drifted", { name: "cache", text: "the container of cache is gone" }, { environment: "demo" }],
        ["environment.removed", { dataKept: true }, { environment: "demo" }],
      ]),
    ).toEqual([
      "✓ demo is declared: deployed from branch demo/* or tag v*",
      "✓ demo is declared: deployed by hand",
      "! demo: the container of cache is gone",
      "  → see `shipway backing list --env demo`; a deployment or an infra apply puts it right",
      "✓ demo is removed",
    ]);
  });

  it("tells which commands were run by whom, and how they ended", () => {
    const run = { runId: "run_1", service: "web", release: 7, command: "npm run migrate" };
    const ended = { ...run, outOfMemory: false, durationMs: 1_200 };
    const problem = {
      code: "RUN_OUTCOME_UNKNOWN",
      message: "The container is gone.",
      hint: "Look whether its work is done.",
    };
    expect(
      tell([
        ["run.started", run, production],
        ["run.ended", { ...ended, status: "succeeded", exitCode: 0 }, production],
        ["run.ended", { ...ended, status: "failed", exitCode: 3 }, production],
        ["run.ended", { ...ended, status: "failed", exitCode: 137, outOfMemory: true }, production],
        ["run.cancelRequested", { runId: "run_1", by: "ada" }, production],
        ["run.ended", { ...ended, status: "canceled" }, production],
        ["run.ended", { ...ended, status: "timed-out", exitCode: 137 }, production],
        ["run.ended", { ...ended, status: "unknown", problem }, production],
      ]),
    ).toEqual([
      "→ maria runs `npm run migrate` in a task of web (r7, production): run_1",
      "✓ run_1 is done after 1.2 s",
      "✗ run_1 exited with 3 after 1.2 s",
      "  → `shipway logs --run run_1`",
      "✗ run_1 was ended because it needed more memory than the service declares after 1.2 s",
      "  → `shipway logs --run run_1`",
      "! ada wants run_1 stopped",
      "! run_1 was stopped after 1.2 s",
      "✗ run_1 was stopped after 1.2 s: its time was over",
      "✗ run_1: The container is gone.",
      "  → Look whether its work is done.",
    ]);
  });

  it("tells who was inside which task, and how that ended", () => {
    const exec = { execId: "x_1", service: "web", task: "shop.production.web.r7-1", command: "sh" };
    expect(
      tell([
        ["exec.started", { ...exec, terminal: true }, production],
        ["exec.ended", { ...exec, status: "exited", exitCode: 0, durationMs: 65_000 }, production],
        ["exec.ended", { ...exec, status: "exited", exitCode: 2, durationMs: 65_000 }, production],
        ["exec.ended", { ...exec, status: "cut-off", durationMs: 65_000 }, production],
        ["exec.ended", { ...exec, status: "failed", durationMs: 5 }, production],
      ]),
    ).toEqual([
      "→ maria runs `sh` inside shop.production.web.r7-1 (production)",
      "✓ maria's `sh` exited with 0 after 1 min 5 s",
      "! maria's `sh` exited with 2 after 1 min 5 s",
      "! maria's `sh` was cut off after 1 min 5 s",
      "✗ maria's `sh` did not begin",
    ]);
  });
});
