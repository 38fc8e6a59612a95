import { describeTaskDrift } from "../events/narrate-task-drift.ts";
import type { TasksView } from "../http/infra-schemas.ts";
import type { CommandContext } from "./command.ts";
import { formatAgo } from "./format.ts";

/** Of what was mended, the last ones: more is in the events. */
const SHOWN_MENDED = 10;

/** What of an environment's tasks runs otherwise than declared, and what was put right in the last day. */
export function showTasks(tasks: TasksView | null, context: CommandContext): void {
  if (tasks === null) return;
  const { drift, deployment, problem, mended } = tasks;
  const changed = drift.filter(({ kind }) => kind !== "outdated");
  const outdated = drift.filter(({ kind }) => kind === "outdated");
  if (problem !== null)
    context.say(`${context.colors.err.yellow("!")} Tasks could not be looked at: ${problem.message}`);
  else if (deployment !== null)
    context.data(`Tasks: deployment ${deployment} is at work; look again when it has ended.`);
  else if (changed.length === 0) context.data("Tasks: they run as declared.");
  else context.data("Tasks that run otherwise than declared:");
  for (const line of describeTaskDrift(changed)) context.data(line);
  if (outdated.length > 0) context.data("Declared anew since they were started; the next deployment takes it over:");
  for (const line of describeTaskDrift(outdated)) context.data(line);
  if (mended.length === 0) return;
  context.data("Put right in the last 24 hours:");
  for (const { at, text } of mended.slice(0, SHOWN_MENDED)) context.data(`  ${formatAgo(at, context.now())}: ${text}`);
  if (mended.length > SHOWN_MENDED) context.data(`  … and ${mended.length - SHOWN_MENDED} more: \`shipway events\``);
}

/** Whether a person or the loop has something to put right. */
export const hasTaskDrift = (tasks: TasksView | null): boolean =>
  tasks?.drift.some(({ kind }) => kind !== "outdated") ?? false;
