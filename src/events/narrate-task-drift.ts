import { z } from "zod";
import { plain, wrap } from "./narrated-line.ts";

/** Of fifty tasks that were all changed alike, the first ones say enough. */
const SHOWN = 12;
const SHOWN_ATTRIBUTES = 6;

export const TaskDriftData = z.object({
  name: z.string(),
  what: z.enum(["task", "backing", "unknown"]),
  kind: z.enum(["missing", "stopped", "changed", "no-traffic", "unknown", "outdated"]),
  attributes: z.array(z.object({ path: z.string(), before: z.string(), after: z.string() })),
  mendsItself: z.boolean(),
  remedy: z.string().optional(),
});
type TaskDriftData = z.output<typeof TaskDriftData>;

const SIGNS = { missing: "-", stopped: "-", changed: "~", "no-traffic": "~", unknown: "+", outdated: "·" };
const WORDS = {
  missing: "is missing",
  stopped: "does not run",
  changed: "was changed",
  "no-traffic": "gets no traffic",
  unknown: "is not declared",
  outdated: "has variables from before they were declared anew",
};

/** One line for each, with what differs below it, and how it is put right. */
export function describeTaskDrift(drift: readonly TaskDriftData[]): string[] {
  const shown = drift.slice(0, SHOWN).flatMap(describeOne);
  return drift.length > SHOWN ? [...shown, `  … and ${drift.length - SHOWN} more`] : shown;
}

function describeOne({ name, kind, attributes, mendsItself, remedy }: TaskDriftData): string[] {
  const more = attributes.length - SHOWN_ATTRIBUTES;
  return [
    ...wrap(`  ${SIGNS[kind]} `, `${plain(name)} ${WORDS[kind]}${mendsItself ? "; it is put right by itself" : ""}`),
    ...attributes
      .slice(0, SHOWN_ATTRIBUTES)
      .flatMap(({ path, before, after }) => wrap("      ", `${plain(path)}: ${plain(before)} → ${plain(after)}`)),
    ...(more > 0 ? [`      … and ${more} more`] : []),
    ...(remedy === undefined ? [] : wrap("    → ", isSentence(remedy) ? plain(remedy) : `\`${plain(remedy)}\``)),
  ];
}

/** Else it is a command. Sentences mark theirs themselves. */
const isSentence = (remedy: string): boolean => /^[A-Z]|`/.test(remedy);
