import { z } from "zod";
import { formatDurationMs } from "../shared/duration.ts";
import type { StoredEvent } from "./event.ts";
import { cutText, hint, plain, quoteLine, WIDTH, wrap } from "./narrated-line.ts";

/** What is remembered of a pipeline run. */
export type PipelineStory = {
  /** As one names it to the command line: its number, or its id. */
  name: string;
  selector: string;
  steps: { id: string; name: string }[];
  /** Status of each ended step. */
  ended: Record<string, string>;
};

type Tale = { story: PipelineStory | undefined; lines: string[] };

const SHOWN_LINES = 12;

const Started = z.object({
  number: z.number().optional(),
  selector: z.string(),
  steps: z.array(z.object({ id: z.string(), name: z.string() })),
  notes: z.array(z.string()).default([]),
});

const Outcome = z.object({
  id: z.string(),
  name: z.string(),
  status: z.string(),
  exitCode: z.number().optional(),
  reason: z.string().optional(),
  failedCommand: z.string().optional(),
  startedAt: z.number(),
  endedAt: z.number(),
  lastLines: z.array(z.string()),
});
type Outcome = z.output<typeof Outcome>;
const StepEnded = z.object({ outcome: Outcome, number: z.number().optional() });
const PipelineEnded = z.object({ status: z.string(), durationMs: z.number(), number: z.number().optional() });
const GateData = z.object({ id: z.string(), name: z.string() });
const Paused = z.object({
  gates: z.array(GateData),
  reason: z.string().optional(),
  number: z.number().optional(),
});
const Continued = z.object({ gate: GateData, number: z.number().optional() });
const ServiceReady = z.object({ stepId: z.string(), service: z.string(), durationMs: z.number() });

export function narratePipeline(story: PipelineStory | undefined, event: StoredEvent): Tale {
  switch (event.kind) {
    case "ci.pipelineStarted": {
      const started = Started.safeParse(event.data);
      // After a crash the run begins again where it was; for who watches it never stopped.
      return started.success && story === undefined ? startPipeline(started.data, event) : { story, lines: [] };
    }
    case "ci.serviceReady": {
      const ready = ServiceReady.safeParse(event.data);
      if (!ready.success) return { story, lines: [] };
      const step = story?.steps.find(({ id }) => id === ready.data.stepId)?.name ?? ready.data.stepId;
      const took = formatDurationMs(ready.data.durationMs);
      return {
        story,
        lines: [cutText(`  … ${plain(step)}: ${plain(ready.data.service)} answers after ${took}`, WIDTH)],
      };
    }
    case "ci.stepEnded": {
      const ended = StepEnded.safeParse(event.data);
      return ended.success
        ? endStep(story ?? newStory(ended.data.number, event), ended.data.outcome)
        : { story, lines: [] };
    }
    case "ci.pipelineEnded": {
      const ended = PipelineEnded.safeParse(event.data);
      return { story, lines: ended.success ? conclude(story ?? newStory(ended.data.number, event), ended.data) : [] };
    }
    case "ci.pipelinePaused": {
      const paused = Paused.safeParse(event.data);
      return { story, lines: paused.success ? pause(story ?? newStory(paused.data.number, event), paused.data) : [] };
    }
    case "ci.pipelineContinued": {
      const { data, success } = Continued.safeParse(event.data);
      const name = story ?? newStory(data?.number, event);
      const lines = success
        ? wrap("→ ", `${plain(event.actor)} started "${plain(data.gate.name)}" of ${title(name)}`)
        : [];
      return { story, lines };
    }
    default:
      return { story, lines: [] };
  }
}

/** Without its beginning (a watcher that came late) the rest of a run can still be told. */
function newStory(number: number | undefined, { subject }: StoredEvent): PipelineStory {
  const name = number === undefined ? subject.slice(subject.indexOf(":") + 1) : String(number);
  return { name, selector: "", steps: [], ended: {} };
}

function startPipeline({ number, selector, steps, notes }: z.output<typeof Started>, event: StoredEvent): Tale {
  const story = { ...newStory(number, event), selector, steps };
  const first = wrap("… ", `${title(story)}: ${steps.map((step) => step.name).join(", ")}`);
  return { story, lines: [...first, ...notes.flatMap((note) => wrap("  ! ", note))] };
}

function endStep(before: PipelineStory, outcome: Outcome): Tale {
  // After a crash an event may come a second time.
  if (before.ended[outcome.id] !== undefined) return { story: before, lines: [] };
  const story = { ...before, ended: { ...before.ended, [outcome.id]: outcome.status } };
  return { story, lines: describeStep(story, outcome) };
}

function describeStep(story: PipelineStory, outcome: Outcome): string[] {
  const took = formatDurationMs(outcome.endedAt - outcome.startedAt);
  const name = plain(outcome.name);
  switch (outcome.status) {
    case "passed":
      return [cutText(`  ✓ ${name} ${took}`, WIDTH)];
    case "skipped":
      return wrap("  · ", `${name} skipped${because(outcome)}`);
    case "canceled":
      return wrap("  ! ", `${name} canceled${because(outcome)}`);
    default:
      return failedStep(story, outcome, took);
  }
}

function failedStep(story: PipelineStory, outcome: Outcome, took: string): string[] {
  const { exitCode, failedCommand, lastLines } = outcome;
  const exit = exitCode === undefined ? "" : `   exit code ${exitCode}`;
  return [
    ...wrap("  ✗ ", `${plain(outcome.name)} failed after ${took}${because(outcome)}`),
    ...(failedCommand === undefined ? [] : [`    $ ${cutText(plain(failedCommand), WIDTH - 6 - exit.length)}${exit}`]),
    ...lastLines.slice(-SHOWN_LINES).map(quoteLine),
    hint(`\`shipway logs --pipeline ${story.name} --step ${argument(outcome.name)}\``),
  ];
}

/** A run may pass although a step failed (`on-fail: ignore`): its own word counts. */
function conclude(story: PipelineStory, { status, durationMs }: z.output<typeof PipelineEnded>): string[] {
  const passed = Object.values(story.ended).filter((one) => one === "passed").length;
  const total = Math.max(story.steps.length, Object.keys(story.ended).length);
  const sign = status === "passed" ? "✓" : status === "failed" ? "✗" : "!";
  return [`${sign} ${title(story)} ${status}: ${passed}/${total} steps in ${formatDurationMs(durationMs)}`];
}

/** What has passed so far was told step by step. */
function pause(story: PipelineStory, { gates, reason }: z.output<typeof Paused>): string[] {
  const names = gates.map(({ name }) => `"${plain(name)}"`).join(" or ");
  const [gate] = gates;
  const step = gates.length > 1 && gate ? ` --step ${argument(gate.name)}` : "";
  return [
    ...(reason === undefined ? [] : wrap("✗ ", `${title(story)} could not go on: ${plain(reason)}`)),
    ...wrap("… ", `${title(story)} is paused until somebody starts ${names}`),
    hint(`\`shipway pipelines continue ${story.name}${step}\``),
  ];
}

const title = ({ name, selector }: PipelineStory) =>
  `pipeline ${/^\d+$/.test(name) ? `#${name}` : name}${selector === "" ? "" : ` ${selector}`}`;
const because = ({ reason }: Outcome) => (reason === undefined ? "" : `: ${plain(reason)}`);
const argument = (name: string) => (/^[\w.-]+$/.test(name) ? name : JSON.stringify(plain(name)));
