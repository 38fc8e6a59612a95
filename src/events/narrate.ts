import { z } from "zod";
import { formatDurationMs } from "../shared/duration.ts";
import type { StoredEvent } from "./event.ts";
import { narrateImages } from "./narrate-images.ts";
import { narrateInfra } from "./narrate-infra.ts";
import { narratePipeline, type PipelineStory } from "./narrate-pipeline.ts";
import { narrateRollout, type RolloutStory } from "./narrate-rollout.ts";
import { describeTaskDrift, TaskDriftData } from "./narrate-task-drift.ts";
import { cutLine, hint, plain, wrap } from "./narrated-line.ts";

/** What has to be remembered between two events to tell the next one. Plain data. */
export type Narration = {
  pipelines: Record<string, PipelineStory>;
  /** By deployment subject. */
  rollouts: Record<string, RolloutStory>;
  /** Stages of each delivery whose failure was told in full when it happened: the end does not tell it again. */
  failures: Record<string, string[]>;
};

export type Told = { state: Narration; lines: string[] };
type Tell = (event: StoredEvent, state: Narration) => string[];

export function newNarration(): Narration {
  return { pipelines: {}, rollouts: {}, failures: {} };
}

/**
 * Tells one event as a person watching `git push` wants to read it: plain lines of at most 90 columns (an address or a command is never cut),
 * led by ✓ ✗ ! → or …. Pure. Kinds it does not know, and data it does not understand, give no line: a watcher never fails over an event.
 */
export function narrate(before: Narration, event: StoredEvent): Told {
  const state = rememberFailure(before, event);
  const domain = event.kind.slice(0, event.kind.indexOf("."));
  if (domain === "ci") {
    const { story, lines } = narratePipeline(state.pipelines[event.subject], event);
    return { state: story ? { ...state, pipelines: { ...state.pipelines, [event.subject]: story } } : state, lines };
  }
  if (domain === "rollout" || domain === "deployment") {
    const { story, lines } = narrateRollout(state.rollouts[event.subject], event);
    return { state: story ? { ...state, rollouts: { ...state.rollouts, [event.subject]: story } } : state, lines };
  }
  if (domain === "infra") return { state, lines: narrateInfra(event) };
  if (domain === "image") return { state, lines: narrateImages(event) };
  return { state, lines: PLATFORM[event.kind]?.(event, state) ?? [] };
}

function rememberFailure(state: Narration, { kind, data, deliveryId }: StoredEvent): Narration {
  const failed = kind === "image.failed" ? "images" : kind === "ci.stepEnded" && hasFailed(data) ? "ci" : undefined;
  if (failed === undefined || deliveryId === null) return state;
  const known = state.failures[deliveryId] ?? [];
  return { ...state, failures: { ...state.failures, [deliveryId]: [...new Set([...known, failed])] } };
}

function hasFailed({ outcome }: Record<string, unknown>): boolean {
  return typeof outcome === "object" && outcome !== null && "status" in outcome && outcome.status === "failed";
}

/** Tells one stream of events, in order. */
export function newNarrator(): { tell(event: StoredEvent): string[] } {
  let state = newNarration();
  return {
    tell(event) {
      const told = narrate(state, event);
      state = told.state;
      return told.lines;
    },
  };
}

/** Tells data of the shape of `schema`; of any other, nothing. */
function tell<S extends z.ZodType>(
  schema: S,
  lines: (data: z.output<S>, event: StoredEvent, state: Narration) => string[],
): Tell {
  return (event, state) => {
    const parsed = schema.safeParse(event.data);
    return parsed.success ? lines(parsed.data, event, state) : [];
  };
}

const ProblemData = z.object({ message: z.string(), hint: z.string().optional() });

const DeliveryStarted = z.object({
  refName: z.string(),
  commit: z.string(),
  subject: z.string(),
  environments: z.array(z.string()),
});

const DeliveryEnded = z.object({
  status: z.string(),
  at: z.string().optional(),
  problem: ProblemData.optional(),
  deployments: z.array(z.object({ environment: z.string(), status: z.string() })),
  durationMs: z.number(),
});

type DeliveryEnded = z.output<typeof DeliveryEnded>;

const ReleaseRecorded = z.object({
  release: z.number(),
  images: z.array(z.object({ service: z.string(), reused: z.boolean() })),
});

const PLATFORM: Record<string, Tell> = {
  "delivery.started": tell(DeliveryStarted, startDelivery),
  "delivery.note": tell(z.object({ text: z.string() }), ({ text }) => wrap("! ", text)),
  "delivery.waiting": tell(z.object({}), () => [
    "✓ done as far as it goes without an approval; nothing is held up meanwhile",
  ]),
  "delivery.ended": tell(DeliveryEnded, endDelivery),
  "release.recorded": tell(ReleaseRecorded, recordRelease),
  "environment.frozen": tell(z.object({ reason: z.string() }), ({ reason }, { environment }) => [
    ...wrap("! ", `${environment} is frozen (${reason}): pushes are tested, but not deployed there`),
    hint(`go on with \`shipway resume --env ${environment}\``),
  ]),
  "environment.resumed": tell(z.object({}), (_data, { environment }) => [
    `✓ ${environment} takes automatic deployments again`,
  ]),
  "environment.mended": tell(z.object({ text: z.string() }), ({ text }, { environment }) =>
    wrap("! ", `${environment} was mended: ${text}`),
  ),
  "environment.declared": tell(
    z.object({ branch: z.string().nullable(), tag: z.string().nullable() }),
    ({ branch, tag }, { environment }) => {
      const rules = [branch && `branch ${plain(branch)}`, tag && `tag ${plain(tag)}`].filter(Boolean).join(" or ");
      return wrap("✓ ", `${environment} is declared: deployed ${rules === "" ? "by hand" : `from ${rules}`}`);
    },
  ),
  "environment.removed": tell(
    z.object({ remarks: z.array(z.string()).default([]) }),
    ({ remarks }, { environment }) => [
      `✓ ${environment} is removed`,
      ...remarks.flatMap((remark) => wrap("! ", remark)),
    ],
  ),
  "teardown.started": tell(
    z.object({ until: z.string(), infra: z.string(), data: z.string() }),
    ({ until, infra, data }, { environment }) => {
      const also = infra === "destroy" ? ", and destroying its infrastructure" : "";
      return wrap(
        "→ ",
        `${until === "removed" ? `removing ${environment} (data: ${data})` : `stopping ${environment}`}${also}`,
      );
    },
  ),
  "environment.stopped": tell(
    z.object({ release: z.number().nullable(), until: z.string() }),
    ({ release, until }, { app, environment }) => [
      `✓ ${environment} is stopped: nothing of it runs any more`,
      ...(until === "removed" || release === null
        ? []
        : [
            hint(
              `r${release} comes back with \`shipway env start ${environment} --app ${app}\`, or with the next push`,
            ),
          ]),
    ],
  ),
  "teardown.ended": tell(
    z.object({ status: z.string(), problem: ProblemData.optional() }),
    // A success was told as what it is: stopped, destroyed, removed.
    ({ status, problem }) =>
      problem === undefined
        ? []
        : [
            ...wrap(status === "failed" ? "✗ " : "! ", problem.message),
            ...(problem.hint === undefined ? [] : wrap("  → ", problem.hint)),
          ],
  ),
  "backing.drifted": tell(z.object({ text: z.string() }), ({ text }, { environment }) => [
    ...wrap("! ", `${environment}: ${text}`),
    hint(`see \`shipway backing list --env ${environment}\`; a deployment or an infra apply puts it right`),
  ]),
  "environment.driftFound": tell(z.object({ drift: z.array(TaskDriftData) }), ({ drift }, { app, environment }) => [
    ...wrap("! ", `${environment} runs otherwise than declared:`),
    ...describeTaskDrift(drift),
    hint(`\`shipway infra drift --app ${app} --env ${environment}\``),
  ]),
  "environment.driftGone": tell(z.object({}), (_data, { environment }) => [`✓ ${environment} runs as declared again`]),
  "run.started": tell(
    z.object({ runId: z.string(), service: z.string(), release: z.number(), command: z.string() }),
    ({ runId, service, release, command }, { actor, environment }) =>
      wrap(
        "→ ",
        `${plain(actor)} runs \`${plain(command)}\` in a task of ${service} (r${release}, ${environment}): ${runId}`,
      ),
  ),
  "run.cancelRequested": tell(z.object({ runId: z.string(), by: z.string() }), ({ runId, by }) => [
    `! ${plain(by)} wants ${runId} stopped`,
  ]),
  "run.ended": tell(
    z.object({
      runId: z.string(),
      status: z.string(),
      exitCode: z.number().optional(),
      outOfMemory: z.boolean(),
      durationMs: z.number(),
      problem: ProblemData.optional(),
    }),
    endRun,
  ),
  "exec.started": tell(
    z.object({ task: z.string(), command: z.string() }),
    ({ task, command }, { actor, environment }) =>
      wrap("→ ", `${plain(actor)} runs \`${plain(command)}\` inside ${task} (${environment})`),
  ),
  "exec.ended": tell(
    z.object({ status: z.string(), command: z.string(), exitCode: z.number().optional(), durationMs: z.number() }),
    ({ status, command, exitCode, durationMs }, { actor }) => {
      const what = `${plain(actor)}'s \`${plain(command)}\``;
      const after = `after ${formatDurationMs(durationMs)}`;
      if (status === "exited") return wrap(exitCode === 0 ? "✓ " : "! ", `${what} exited with ${exitCode} ${after}`);
      if (status === "cut-off") return wrap("! ", `${what} was cut off ${after}`);
      return wrap("✗ ", `${what} did not begin`);
    },
  ),
  "notify.failing": tell(z.object({ hookId: z.string(), url: z.string(), reason: z.string() }), (data) => [
    ...wrap("! ", `notifications to ${data.url} are not taken: ${plain(data.reason)}`),
    hint(`\`shipway notify log ${data.hookId}\``),
  ]),
  "notify.recovered": tell(z.object({ url: z.string() }), ({ url }) => [`✓ notifications to ${url} are taken again`]),
  "notify.test": tell(z.object({}), (_data, { actor }) => [`✓ a test of Shipway's notifications, by ${plain(actor)}`]),
};

function startDelivery(data: z.output<typeof DeliveryStarted>, { app }: StoredEvent): string[] {
  const target = data.environments.length === 0 ? "" : `  → ${data.environments.join(", ")}`;
  const head = `→ ${app}  ${plain(data.refName)} ${data.commit.slice(0, 7)}`;
  return [cutLine(head, `"${plain(data.subject)}"`, target)];
}

function recordRelease({ release, images }: z.output<typeof ReleaseRecorded>): string[] {
  const built = images.map(({ service, reused }) => `${service} ${reused ? "unchanged" : "new"}`);
  return wrap("✓ ", `release r${release}${built.length === 0 ? "" : `   ${built.join(" · ")}`}`);
}

function endDelivery(data: DeliveryEnded, event: StoredEvent, state: Narration): string[] {
  const took = formatDurationMs(data.durationMs);
  switch (data.status) {
    case "live":
      return [`✓ done in ${took}`];
    case "nothing-to-deploy":
      return [`✓ done in ${took}; no environment deploys this`];
    case "superseded":
      return ["! overtaken by something newer; this was not deployed"];
    default:
      return stopped(data, took, state.failures[event.deliveryId ?? ""] ?? []);
  }
}

function stopped({ at, problem, deployments }: DeliveryEnded, took: string, told: readonly string[]): string[] {
  // Why a deployment failed or was turned down was told when it ended, with its evidence.
  if ((at === "rollout" || at === "approval") && deployments.length > 0) return [`✗ stopped after ${took}`];
  const where = at === undefined ? "" : ` at ${at}`;
  const nothing = "nothing was deployed; what runs, runs on";
  if (at !== undefined && told.includes(at)) return [`✗ stopped${where} after ${took}: ${nothing}`];
  return [
    ...wrap("✗ ", `stopped${where} after ${took}${problem === undefined ? "" : `: ${problem.message}`}`),
    ...(problem?.hint === undefined ? [] : wrap("  → ", problem.hint)),
    `  ${nothing}`,
  ];
}

type EndedRun = {
  runId: string;
  status: string;
  exitCode?: number | undefined;
  outOfMemory: boolean;
  durationMs: number;
  problem?: { message: string; hint?: string | undefined } | undefined;
};

function endRun({ runId, status, exitCode, outOfMemory, durationMs, problem }: EndedRun): string[] {
  const after = `after ${formatDurationMs(durationMs)}`;
  if (status === "succeeded") return [`✓ ${runId} is done ${after}`];
  if (status === "canceled") return [`! ${runId} was stopped ${after}`];
  if (status === "timed-out") return [`✗ ${runId} was stopped ${after}: its time was over`];
  if (problem !== undefined) {
    return [
      ...wrap("✗ ", `${runId}: ${problem.message}`),
      ...(problem.hint === undefined ? [] : wrap("  → ", problem.hint)),
    ];
  }
  const why = outOfMemory
    ? "was ended because it needed more memory than the service declares"
    : `exited with ${exitCode}`;
  return [`✗ ${runId} ${why} ${after}`, hint(`\`shipway logs --run ${runId}\``)];
}
