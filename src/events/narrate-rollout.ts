import { z } from "zod";
import { formatDurationMs } from "../shared/duration.ts";
import type { DeploymentEnded, StoredEvent } from "./event.ts";
import { approvedLines, DecidedData, rejectedLines, WaitingData, waitingLines } from "./narrate-approval.ts";
import { cutText, plain, quoteLine, WIDTH, wrap } from "./narrated-line.ts";

/** What is remembered of a deployment. */
export type RolloutStory = {
  /** The release that served when it started. */
  from?: number;
  kind?: string;
  /** The line with the addresses was told. */
  isLive?: boolean;
  phases: { name: string; durationMs: number }[];
  /** `healthy/wanted` last told of each service. */
  health: Record<string, string>;
};

type Tale = { story: RolloutStory; lines: string[] };
type Tell = (story: RolloutStory, event: StoredEvent) => Tale | undefined;

const SHOWN_LINES = 12;
const SHOWN_PROBES = 3;

export function narrateRollout(before: RolloutStory | undefined, event: StoredEvent): Tale {
  const story = before ?? { phases: [], health: {} };
  return TALES[event.kind]?.(story, event) ?? { story, lines: [] };
}

function tell<S extends z.ZodType>(
  schema: S,
  tale: (data: z.output<S>, story: RolloutStory, event: StoredEvent) => Tale | string[],
): Tell {
  return (story, event) => {
    const parsed = schema.safeParse(event.data);
    if (!parsed.success) return undefined;
    const told = tale(parsed.data, story, event);
    return Array.isArray(told) ? { story, lines: told } : told;
  };
}

const EvidenceData = z.object({
  task: z.string(),
  service: z.string(),
  summary: z.string(),
  exitCode: z.number().optional(),
  outOfMemory: z.boolean().optional(),
  probes: z.array(z.string()),
  listening: z.array(z.object({ port: z.number(), address: z.string(), loopbackOnly: z.boolean() })),
  lastLines: z.array(z.string()),
});

type EvidenceData = z.output<typeof EvidenceData>;

const Ended = z.object({
  deploymentId: z.string(),
  kind: z.enum(["deploy", "rollback"]),
  release: z.number(),
  status: z.enum(["succeeded", "failed", "canceled", "superseded", "rejected", "expired"]) satisfies z.ZodType<
    DeploymentEnded["status"]
  >,
  addresses: z.array(z.string()),
  liveAfterMs: z.number().optional(),
  durationMs: z.number(),
  phase: z.string().optional(),
  problem: z.object({ message: z.string(), hint: z.string().optional() }).optional(),
  evidence: z.array(EvidenceData),
  rolledBack: z.boolean(),
});
type Ended = z.output<typeof Ended>;

const Live = z.object({ release: z.number(), afterMs: z.number(), addresses: z.array(z.string()).default([]) });
const Health = z.object({
  service: z.string(),
  healthy: z.number(),
  wanted: z.number(),
  detail: z.string(),
  waitsFor: z.string().optional(),
});

const TALES: Record<string, Tell> = {
  "deployment.waiting": tell(WaitingData, (waiting, story, { environment }) => ({
    story: { ...story, ...(typeof waiting.from === "number" && { from: waiting.from }) },
    lines: waitingLines(waiting, environment),
  })),
  "deployment.approved": tell(DecidedData, (decided, _story, { environment }) => approvedLines(decided, environment)),
  "deployment.rejected": tell(DecidedData, (decided, _story, { environment }) => rejectedLines(decided, environment)),
  "deployment.queued": tell(z.object({ waitsFor: z.string().optional() }), ({ waitsFor }, _story, { environment }) =>
    waitsFor === undefined ? [] : [`… ${environment} is busy; waiting for ${waitsFor} to end`],
  ),
  "deployment.started": tell(
    z.object({ kind: z.string(), release: z.number(), from: z.number().optional() }),
    ({ kind, release, from }, story, { environment }) => {
      const change = from === undefined ? `r${release}` : `r${from} → r${release}`;
      const lines = [`→ ${environment}  ${change}${kind === "rollback" ? "  (rollback)" : ""}`];
      return { story: { ...story, kind, ...(from === undefined ? {} : { from }) }, lines };
    },
  ),
  "deployment.ended": tell(Ended, endDeployment),
  "rollout.phase-started": tell(z.object({ detail: z.string() }), ({ detail }) => wrap("  … ", detail)),
  "rollout.phase-ended": tell(z.object({ phase: z.string(), durationMs: z.number() }), (ended, story) => ({
    story: { ...story, phases: [...story.phases, { name: ended.phase, durationMs: ended.durationMs }] },
    lines: [],
  })),
  "rollout.health": tell(Health, tellHealth),
  "rollout.waiting": tell(z.object({ detail: z.string() }), ({ detail }) => wrap("  … ", detail)),
  "rollout.note": tell(z.object({ text: z.string() }), ({ text }) => wrap("  ! ", text)),
  "rollout.live": tell(Live, ({ release, afterMs, addresses }, story, { environment }) => ({
    story: { ...story, isLive: true },
    lines: liveLines(story.kind === "rollback" ? `${environment} is back on r${release}` : "live", afterMs, addresses),
  })),
};

/** Of each service a line when the count changes; the detail (why not yet) only while some are missing, or something else is waited for. */
function tellHealth(
  { service, healthy, wanted, detail, waitsFor }: z.output<typeof Health>,
  story: RolloutStory,
): Tale {
  const count = `${healthy}/${wanted}`;
  if (story.health[service] === count) return { story, lines: [] };
  const done = healthy >= wanted;
  const hold = done ? (waitsFor ?? "") : detail;
  const why = hold === "" ? "" : ` (${plain(hold)})`;
  const line = cutText(`  ${done ? "✓" : "…"} ${service} ${count} healthy${why}`, WIDTH);
  return { story: { ...story, health: { ...story.health, [service]: count } }, lines: [line] };
}

function endDeployment(ended: Ended, story: RolloutStory, event: StoredEvent): string[] {
  const { environment } = event;
  const { from } = story;
  const stays = from === undefined ? `${environment} serves nothing yet` : `r${from} still serves`;
  switch (ended.status) {
    case "succeeded":
      return succeeded(ended, story, event);
    case "superseded":
      return [`! ${environment}: r${ended.release} was overtaken by something newer and not deployed`];
    case "canceled":
      return [`! ${environment}: r${ended.release} was canceled; ${stays}`];
    case "rejected":
      return [`! ${environment}: r${ended.release} was turned down; ${stays}`];
    case "expired":
      return [`! ${environment}: nobody approved r${ended.release} in time; ${stays}`];
    case "failed":
      return failed(ended, story, event, stays);
  }
}

/** When it went live was told when it did; now it has proved itself. */
function succeeded(ended: Ended, story: RolloutStory, { environment }: StoredEvent): string[] {
  const times = story.phases.map(({ name, durationMs }) => `${name} ${formatDurationMs(durationMs)}`).join(" · ");
  const lines = wrap("✓ ", `${environment} runs r${ended.release}${times === "" ? "" : `   ${times}`}`);
  if (story.isLive) return lines;
  return [...liveLines("live", ended.liveAfterMs ?? ended.durationMs, ended.addresses), ...lines];
}

function liveLines(what: string, afterMs: number, addresses: readonly string[]): string[] {
  const head = `✓ ${what} in ${formatDurationMs(afterMs)}   `;
  const indent = " ".repeat([...head].length);
  const [first = "", ...more] = addresses;
  return [`${head}${first}`.trimEnd(), ...more.map((address) => `${indent}${address}`)];
}

function failed(ended: Ended, { from }: RolloutStory, { environment }: StoredEvent, stays: string): string[] {
  const { release, phase, problem, evidence, rolledBack, deploymentId } = ended;
  const where = phase === undefined ? "" : ` at ${phase}`;
  const what = ended.kind === "rollback" ? `the rollback to r${release}` : `r${release}`;
  return [
    ...wrap("✗ ", `${environment}: ${what} failed${where} after ${formatDurationMs(ended.durationMs)}`),
    ...problemLines(problem?.message, evidence),
    outcomeForUsers(from, release, rolledBack, stays),
    ...wrap("  → ", problem?.hint ?? `\`shipway deployments ${deploymentId}\``),
  ];
}

function outcomeForUsers(from: number | undefined, release: number, rolledBack: boolean, stays: string): string {
  if (from === undefined) return `! ${stays}`;
  if (rolledBack) return `! r${release} had the traffic for a moment; r${from} serves again`;
  return `! ${stays}; nothing changed for your users`;
}

/**
 * Why a release failed: its problem, unless the evidence says the same, and the evidence. Tasks that failed in the same way are shown once:
 * four copies of a service fail alike, and their addresses do not help.
 */
export function problemLines(message: string | undefined, evidence: readonly EvidenceData[]): string[] {
  const isRepeated = evidence.length > 0 && evidence.every(({ summary }) => message?.includes(summary));
  const groups = new Map<string, EvidenceData[]>();
  for (const one of evidence) groups.set(wayOfFailing(one), [...(groups.get(wayOfFailing(one)) ?? []), one]);
  return [
    ...(message === undefined || isRepeated ? [] : wrap("  ", message)),
    ...[...groups.values()].flatMap(([first, ...alike]) => (first === undefined ? [] : evidenceLines(first, alike))),
  ];
}

function describeListener({ address, port, loopbackOnly }: EvidenceData["listening"][number]): string {
  if (loopbackOnly) return `${address}:${port} (reachable only inside its own container)`;
  return address === "0.0.0.0" || address === "::" ? `port ${port}` : `${address}:${port}`;
}

function wayOfFailing({ task, service, summary, exitCode, outOfMemory }: EvidenceData): string {
  const same = summary.replaceAll(task, "TASK").replace(/\d+\.\d+\.\d+\.\d+(:\d+)?/g, "ADDRESS");
  return JSON.stringify([service, same, exitCode, outOfMemory]);
}

function evidenceLines(evidence: EvidenceData, alike: readonly EvidenceData[]): string[] {
  const { task, summary, probes, listening, lastLines } = evidence;
  // A release or verify command has a key, not a name that anybody knows.
  const who = summary.includes(task) || task.includes(":") ? "" : `${task}: `;
  const exit = evidence.exitCode === undefined ? [] : [`    exit code ${evidence.exitCode}`];
  const memory = evidence.outOfMemory ? ["    killed: it needed more memory than it declares"] : [];
  const ports = listening.map(describeListener);
  return [
    ...wrap("  ✗ ", who + summary),
    ...(alike.length === 0 ? [] : wrap("    ", `and so did ${alike.map((one) => one.task).join(", ")}`)),
    ...exit,
    ...memory,
    ...[...new Set(probes)].slice(-SHOWN_PROBES).map((probe) => cutText(`    ${plain(probe)}`, WIDTH)),
    ...(ports.length === 0 ? [] : wrap("    ", `listens on ${ports.join(", ")}`)),
    ...lastLines.slice(-SHOWN_LINES).map(quoteLine),
  ];
}
