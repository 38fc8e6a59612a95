import { formatDurationMs } from "../../../shared/duration.ts";
import { type EndedStep, outcomeOf } from "../../conclude-step.ts";
import type { StepOutcome } from "../../executor.ts";
import type { Verdict } from "./judge.ts";
import { logStreamOf } from "./names.ts";
import type { StepRun } from "./step-run.ts";
import { serviceContainer } from "./task-definition.ts";

const SHOWN_LINES = 15;

/** The outcome of a step whose service stopped or never answered: it has the service's own last lines. */
export async function serviceFailed(
  run: StepRun,
  ended: EndedStep,
  arn: string,
  { service, exitCode }: Extract<Verdict, { kind: "serviceFailed" }>,
): Promise<StepOutcome> {
  const image = run.step.services.find(({ name }) => name === service)?.image ?? "";
  const what =
    exitCode === undefined
      ? `did not answer within ${formatDurationMs(run.times.serviceMs)}`
      : `stopped with exit code ${exitCode} before it answered`;
  const lastLines = await lastLinesOf(run, serviceContainer(service), arn, SHOWN_LINES);
  for (const line of lastLines) run.remark(`${service}: ${line}`);
  return outcomeOf(ended, { status: "failed", reason: `service ${service} (${image}) ${what}`, lastLines });
}

/** Of a container whose lines are its own. */
export async function lastLinesOf(
  { account, key }: StepRun,
  container: string,
  arn: string,
  atMost: number,
): Promise<string[]> {
  const lines: string[] = [];
  const stream = logStreamOf(container, arn);
  for (let token: string | undefined; ; ) {
    const { messages, token: next } = await account.readLog(key.app, stream, token);
    lines.push(...messages.map((message) => message.replace(/\r?\n$/, "")));
    if (messages.length === 0 || next === token) return lines.slice(-atMost);
    token = next;
  }
}
