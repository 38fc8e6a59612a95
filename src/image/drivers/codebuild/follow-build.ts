import type { Build } from "@aws-sdk/client-codebuild";
import { type LogStream, newLogStreamReader } from "../../../aws/log-stream.ts";
import { formatDurationMs } from "../../../shared/duration.ts";
import type { LogLine, LogSink } from "../../../shared/log-line.ts";
import { sleep } from "../../../shared/until.ts";
import { newBuildProgress } from "../build-progress.ts";
import type { BuildClients } from "./aws-clients.ts";
import { type BuildEnding, type BuildRecord, newRecordReader } from "./build-log.ts";
import type { BuildLeft, BuildState } from "./judge-build.ts";

export type FollowTimes = {
  pollMs: number;
  /** How long a record that is missing between others is waited for before the log is read anew from its beginning. */
  gapMs: number;
  /** How long CloudWatch may take to bring the last lines of a build that is over. */
  lagMs: number;
};

const KEPT_LINES = 20;

/**
 * Gives a build's log as it grows, from its beginning, until its script said how it ended or CodeBuild did.
 * @returns what is known of how it ended
 */
export async function followBuild(
  clients: BuildClients,
  id: string,
  times: FollowTimes,
  { log, signal, now }: { log: LogSink; signal: AbortSignal; now: () => number },
): Promise<Omit<BuildLeft, "plan" | "dockerfile">> {
  const shown = newShownLog(log);
  const records = newRecordReader();
  let events: ReturnType<typeof newLogStreamReader> | undefined;
  let ending: BuildEnding | undefined;
  let state = stateOf(undefined, id);
  let overAt: number | undefined;
  let gapAt: number | undefined;

  const show = (some: BuildRecord[]) => {
    for (const record of some) ending = shown.show(record) ?? ending;
  };
  const look = async () => {
    for (const { message = "" } of (await events?.next()) ?? []) show(records.read(message));
    gapAt = records.hasGap() ? (gapAt ?? now()) : undefined;
    if (gapAt === undefined || now() - gapAt < times.gapMs) return;
    // An event that arrived late stands before what was read already.
    events?.rewind();
    gapAt = undefined;
  };

  for (;;) {
    signal.throwIfAborted();
    const build = await findBuild(clients, id);
    const before = state.phase;
    state = stateOf(build, id);
    if (state.phase !== before) shown.remark(now(), phaseText(build, state));
    const place = logPlaceOf(build);
    events ??= place && newLogStreamReader(clients, place);
    await look();
    if (ending !== undefined) break;
    if (state.isComplete || build === undefined) overAt ??= now();
    else overAt = undefined;
    if (overAt !== undefined && now() - overAt >= times.lagMs) {
      const { records: late, missing } = records.skipGap();
      if (missing > 0) shown.remark(now(), `${missing} parts of the log did not arrive from CloudWatch`);
      show(late);
      if (late.length === 0 || ending !== undefined) break;
    }
    await sleep(times.pollMs, signal).catch(() => undefined);
  }
  const { failedStep, lastLines } = shown;
  return { ending, step: failedStep(), state, lastLines: lastLines(), lastOfCodeBuild: records.others() };
}

/** Makes of the records what a person reads, as of a build on this machine. */
function newShownLog(log: LogSink) {
  const last: string[] = [];
  const sink: LogSink = (lines: LogLine[]) => {
    last.push(...lines.map(({ text }) => text));
    last.splice(0, Math.max(0, last.length - KEPT_LINES));
    log(lines);
  };
  const progress = newBuildProgress(sink);
  return {
    /** @returns how the build ended, where the record says that */
    show(record: BuildRecord): BuildEnding | undefined {
      if (record.kind === "ended") return record.ending;
      if (record.kind === "said") sink([{ at: record.at, stream: "meta", text: record.text }]);
      else progress.add(record.trace);
      return undefined;
    },
    remark: (at: number, text: string | undefined) => {
      if (text !== undefined) log([{ at, stream: "meta", text }]);
    },
    failedStep: () => progress.failedStep(),
    lastLines: () => [...last],
  };
}

/** Undefined for one that CodeBuild does not know yet, or that somebody deleted. */
async function findBuild({ codebuild }: BuildClients, id: string): Promise<Build | undefined> {
  return (await codebuild.batchGetBuilds({ ids: [id] })).builds?.[0];
}

/** The log's stream is made when a machine is there (CodeBuild API, LogsLocation). */
function logPlaceOf(build: Build | undefined): LogStream | undefined {
  const { groupName, streamName } = build?.logs ?? {};
  return groupName === undefined || streamName === undefined ? undefined : { group: groupName, stream: streamName };
}

export function stateOf(build: Build | undefined, id = build?.id ?? ""): BuildState {
  const problems = (build?.phases ?? []).flatMap(({ phaseType, phaseStatus, contexts }) => {
    if (phaseStatus === undefined || phaseStatus === "SUCCEEDED" || phaseStatus === "IN_PROGRESS") return [];
    const said = (contexts ?? []).map(({ message }) => message?.trim()).filter(Boolean);
    return [`${phaseType}: ${said.join(", ") || phaseStatus}`];
  });
  return {
    id,
    status: build?.buildStatus ?? "UNKNOWN",
    phase: build?.currentPhase ?? "",
    isComplete: build?.buildComplete === true,
    timeoutMinutes: build?.timeoutInMinutes ?? 0,
    problems,
  };
}

/** What is worth a line: waiting for a machine, and how long that was. */
function phaseText(build: Build | undefined, { phase }: BuildState): string | undefined {
  if (phase === "QUEUED") return "waiting in CodeBuild's queue";
  if (phase === "PROVISIONING") return "CodeBuild provides a machine";
  if (phase !== "BUILD") return undefined;
  const seconds = (build?.phases ?? []).reduce(
    (total, { phaseType, durationInSeconds = 0 }) => total + (phaseType === "BUILD" ? 0 : durationInSeconds),
    0,
  );
  return `the machine is there after ${formatDurationMs(seconds * 1_000)}`;
}
