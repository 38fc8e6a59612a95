import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Sealer } from "../environment/sealing.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { LogStore } from "../events/log-store.ts";
import { newMask } from "../events/mask-secrets.ts";
import { formatDurationMs } from "../shared/duration.ts";
import { fail } from "../shared/errors.ts";
import { Secret } from "../shared/secret.ts";
import { describePlace, isSamePlace } from "./foreign-state.ts";
import type { StateIn } from "./infra-run.ts";
import type { LookSlots } from "./look-slots.ts";
import { appliedElsewhere, canceledUnchanged, frameOf, getRun, type InfraRun, keepStateIn } from "./runs.ts";
import type { States } from "./states.ts";
import { abortWhenStopped, startStopWatch } from "./stop-watch.ts";
import { parseStreamLine, type StreamEvent } from "./terraform-stream.ts";
import { type OpenWorkspace, openWorkspace, runDirOf, type WorkspaceDeps } from "./workspace.ts";

export type InfraDeps = WorkspaceDeps & {
  sealer: Sealer;
  states: States;
  logs: LogStore;
  /** Where plans and drift checks wait for their turn. */
  lookSlots: LookSlots;
  /** How long init and plan may take before they are stopped: a provider that hangs must not hold the others up. Default: an hour, of a drift check 15 minutes. */
  planDeadlineMs?: number;
  /** How long an apply waits for somebody else's lock; 20 s. */
  lockWaitSeconds?: number;
};

export const DEADLINE_MS = { plan: 3_600_000, apply: 3_600_000, destroy: 3_600_000, drift: 900_000 };

export const lockTimeout = ({ lockWaitSeconds = 20 }: InfraDeps) => `-lock-timeout=${lockWaitSeconds}s`;

/** What an error of a run may quote; more is in its log. */
export const SHOWN_ERRORS = 3;

export const PLAN_FILE = "plan.tfplan";

export const SENSITIVE_FILE = "sensitive.json";

export const ERRORED_STATE = "errored.tfstate";

export const infraLogId = (runId: string, phase: "init" | "plan" | "apply"): string => `${runId}.${phase}`;

/** A value that the plan calls sensitive, for the mask. */
export const ofPlan = (value: string) => new Secret("plan", value);

export function tooLong(run: InfraRun, what: "init" | "plan", limitMs: number) {
  return fail("INFRA_FAILED", {
    message: `terraform ${what} did not come to its end within ${formatDurationMs(limitMs)} and was stopped; nothing was changed.`,
    hint: `Most likely a provider waits for something that does not answer. The last it said: \`shipway infra runs ${run.id} --log\`.`,
  });
}

/** @throws INFRA_CANCELED */
export async function refuseCanceled(deps: InfraDeps, run: InfraRun): Promise<void> {
  const { cancel_requested_by: by } = await getRun(deps.db, run.id);
  if (by !== null) throw canceledUnchanged(run, by);
}

type Opened = { workspace: OpenWorkspace; maskValues: Secret[] };

export async function open(deps: InfraDeps, run: InfraRun, signal?: AbortSignal): Promise<Opened> {
  const known = await deps.secrets.allOfApp(run.app);
  const init: string[] = [];
  try {
    const workspace = await openWorkspace(deps, run, (text) => init.push(text), signal);
    await requireOwnPlace(deps, run, workspace.stateIn);
    await keepStateIn(deps.db, run, workspace.stateIn);
    return { workspace, maskValues: [...known, new Secret("state", workspace.password)] };
  } finally {
    await keepText(deps, infraLogId(run.id, "init"), init, known);
  }
}

/** Two environments with one state would each remove what the other has. @throws INFRA_INVALID */
async function requireOwnPlace(deps: InfraDeps, run: InfraRun, stateIn: StateIn): Promise<void> {
  if (Object.keys(stateIn.config).length === 0) return;
  const others = await appliedElsewhere(deps.db, run);
  const same = others.find(({ state_in: other }) => other !== null && isSamePlace(other, stateIn));
  if (same === undefined) return;
  throw fail("INFRA_INVALID", {
    message: `${run.app} ${run.environment} would share its state with ${same.app} ${same.environment}: both lie in ${describePlace(stateIn)}.`,
    hint: "Give each environment a state of its own: leave the key out of the backend block and set it as `infra: { backend: { key: … } }` in shipway.yml.",
  });
}

/** As `open`, of a run that has changed nothing yet. @throws INFRA_CANCELED as soon as somebody wants it stopped */
export async function openUnlessStopped(deps: InfraDeps, run: InfraRun, deadline?: AbortSignal): Promise<Opened> {
  const watch = abortWhenStopped(deps.db, run.id);
  try {
    return await open(deps, run, deadline ? AbortSignal.any([watch.signal, deadline]) : watch.signal);
  } catch (error) {
    await refuseCanceled(deps, run);
    if (deadline?.aborted) throw tooLong(run, "init", deps.planDeadlineMs ?? DEADLINE_MS[run.kind]);
    throw error;
  } finally {
    await watch.end();
  }
}

async function keepText({ logs }: InfraDeps, id: string, texts: string[], known: Secret[]): Promise<void> {
  if (texts.length === 0) return;
  const writer = await logs.open(id, newMask(known));
  const lines = texts.flatMap((text) => text.split("\n"));
  writer.sink(lines.map((text) => ({ at: Date.now(), stream: "out" as const, text })));
  await writer.close();
}

/** Shows a command's output as it comes: as a log, and each resource as an event. A second look, after a restart, begins anew. */
export async function follow(
  deps: InfraDeps,
  run: InfraRun,
  workspace: OpenWorkspace,
  name: "plan" | "apply",
  maskValues: Secret[],
): Promise<{ events: StreamEvent[] }> {
  const logId = infraLogId(run.id, name);
  await deps.logs.remove(logId);
  const mask = newMask(maskValues);
  const writer = await deps.logs.open(logId, mask);
  const events: StreamEvent[] = [];
  const told = name === "apply" ? await toldResources(deps, run) : new Set<string>();
  // That somebody is not told of a resource must not cost the outcome of the apply.
  let telling: Promise<void> = Promise.resolve();
  const watch = startStopWatch(deps, { run, name, runDir: workspace.runDir, events, mask });
  try {
    await deps.terraform.follow(workspace, name, (line) => {
      if (line === "") return;
      const { event, text } = parseStreamLine(line);
      writer.sink(text.split("\n").map((one) => ({ at: Date.now(), stream: "out" as const, text: one })));
      events.push(event);
      if (name === "apply")
        telling = telling.then(() => tellResource(deps, run, maskAll(event, mask), told)).catch(() => undefined);
    });
  } finally {
    await watch.end();
  }
  await telling;
  const stderr = await readFile(join(workspace.runDir, `${name}.stderr`), "utf8").catch(() => "");
  if (stderr.trim() !== "")
    writer.sink(
      stderr
        .trim()
        .split("\n")
        .map((text) => ({ at: Date.now(), stream: "err" as const, text })),
    );
  await writer.close();
  return { events };
}

async function toldResources({ db }: InfraDeps, run: InfraRun): Promise<Set<string>> {
  const rows = await db
    .selectFrom("events")
    .select("data")
    .where("subject", "=", `infra:${run.id}`)
    .where("kind", "=", "infra.resource")
    .execute();
  return new Set(rows.map(({ data }) => `${data.address} ${data.action} ${data.status}`));
}

async function tellResource({ db }: InfraDeps, run: InfraRun, event: StreamEvent, told: Set<string>): Promise<void> {
  if (event.type !== "done" && event.type !== "failed" && event.type !== "progress") return;
  const { address, action } = event;
  const status = event.type;
  const key = `${address} ${action} ${status}`;
  if (told.has(key)) return;
  told.add(key);
  const data = { runId: run.id, address, action, status, ...("seconds" in event && { seconds: event.seconds }) };
  await db.transaction().execute((tx) => appendEvent(tx, frameOf(run), { kind: "infra.resource", data }));
}

/** Everything a run has on disk, once nobody needs it any more. */
export const removeRunDir = (deps: Pick<InfraDeps, "dir">, runId: string): Promise<void> =>
  rm(runDirOf(deps.dir, runId), { recursive: true, force: true });

/** The plan in clear, of a run whose other files a recovery needs. */
export async function removePlanFiles({ dir }: Pick<InfraDeps, "dir">, runId: string): Promise<void> {
  for (const name of [PLAN_FILE, SENSITIVE_FILE]) await rm(join(runDirOf(dir, runId), name), { force: true });
}

/** The same data with every text masked. Terraform's own words (addresses, actions) are texts, too: they may hold a name made from a secret. */
export function maskAll<T>(data: T, mask: (text: string) => string): T {
  return JSON.parse(
    JSON.stringify(data, (_key, value: unknown) => (typeof value === "string" ? mask(value) : value)),
  ) as T;
}
