import { z } from "zod";
import { formatDurationMs } from "../shared/duration.ts";
import type { StoredEvent } from "./event.ts";
import { cutText, hint, plain, quoteLine, WIDTH, wrap } from "./narrated-line.ts";

/** What is remembered of a pipeline run. */
export type PipelineStory = {
  /** As one names it to the command line: its number, or its id. */
  name: string;
  selector: string;
  steps: { id: string; name: string; stage: number; ignoreFailure: boolean }[];
  ended: Record<string, { status: string; startedAt: number; endedAt: number }>;
};

type Tale = { story: PipelineStory | undefined; lines: string[] };

const SHOWN_LINES = 12;

const Started = z.object({
  number: z.number().optional(),
  selector: z.string(),
  steps: z.array(
    z.object({ id: z.string(), name: z.string(), stage: z.number(), ignoreFailure: z.boolean().default(false) }),
  ),
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
const StepEnded = z.object({ outcome: Outcome });
const ServiceReady = z.object({ stepId: z.string(), service: z.string(), durationMs: z.number() });

export function narratePipeline(story: PipelineStory | undefined, event: StoredEvent): Tale {
  switch (event.kind) {
    case "ci.pipelineStarted": {
      const started = Started.safeParse(event.data);
      return started.success ? startPipeline(started.data, event) : { story, lines: [] };
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
      return ended.success ? endStep(story, ended.data.outcome, event) : { story, lines: [] };
    }
    default:
      return { story, lines: [] };
  }
}

function startPipeline({ number, selector, steps, notes }: z.output<typeof Started>, event: StoredEvent): Tale {
  const name = number === undefined ? idOf(event) : String(number);
  const story: PipelineStory = { name, selector, steps, ended: {} };
  const first = wrap("… ", `${title(story)}: ${steps.map((step) => step.name).join(", ")}`);
  return { story, lines: [...first, ...notes.flatMap((note) => wrap("  ! ", note))] };
}

function endStep(before: PipelineStory | undefined, outcome: Outcome, event: StoredEvent): Tale {
  // Without its beginning (a watcher that came late) a step can still be told.
  const known = before ?? { name: idOf(event), selector: "", steps: [], ended: {} };
  // After a crash an event may come a second time.
  if (known.ended[outcome.id] !== undefined) return { story: known, lines: [] };
  const { status, startedAt, endedAt } = outcome;
  const story = { ...known, ended: { ...known.ended, [outcome.id]: { status, startedAt, endedAt } } };
  return { story, lines: [...describeStep(story, outcome), ...conclusion(story)] };
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
  const ignored = story.steps.find(({ id }) => id === outcome.id)?.ignoreFailure === true;
  return [
    ...wrap(ignored ? "  ! " : "  ✗ ", `${plain(outcome.name)} failed after ${took}${because(outcome)}`),
    ...(failedCommand === undefined ? [] : [`    $ ${cutText(plain(failedCommand), WIDTH - 6 - exit.length)}${exit}`]),
    ...lastLines.slice(-SHOWN_LINES).map(quoteLine),
    hint(`\`shipway logs --pipeline ${story.name} --step ${argument(outcome.name)}\``),
  ];
}

/** One line when the last step has ended. */
function conclusion(story: PipelineStory): string[] {
  const ended = story.steps.map(({ id }) => story.ended[id]);
  if (ended.length === 0 || ended.some((step) => step === undefined)) return [];
  const ran = ended
    .filter((step) => step !== undefined && step.status !== "skipped")
    .filter((step) => step !== undefined);
  const took =
    ran.length === 0 ? 0 : Math.max(...ran.map((one) => one.endedAt)) - Math.min(...ran.map((one) => one.startedAt));
  const failed = story.steps.filter(({ id, ignoreFailure }) => story.ended[id]?.status === "failed" && !ignoreFailure);
  const canceled = ran.some(({ status }) => status === "canceled");
  const passed = ran.filter(({ status }) => status === "passed").length;
  const figure = `${passed}/${story.steps.length} steps passed   (${formatDurationMs(took)})`;
  return [`${failed.length > 0 ? "✗" : canceled ? "!" : "✓"} ${title(story)}: ${figure}`];
}

const title = ({ name, selector }: PipelineStory) =>
  `pipeline ${/^\d+$/.test(name) ? `#${name}` : name}${selector === "" ? "" : ` ${selector}`}`;
const because = ({ reason }: Outcome) => (reason === undefined ? "" : `: ${plain(reason)}`);
const idOf = ({ subject }: StoredEvent) => subject.slice(subject.indexOf(":") + 1);
const argument = (name: string) => (/^[\w.-]+$/.test(name) ? name : JSON.stringify(plain(name)));
