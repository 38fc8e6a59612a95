import { DBOS } from "@dbos-inc/dbos-sdk";
import { throughOutages } from "../store/outage.ts";

/**
 * Bumped only when a workflow changes in a way that a half-finished run of the old code could not continue.
 * DBOS recovers only workflows of its own application version; its default is a hash of the code, which would strand them at every upgrade.
 */
const APPLICATION_VERSION = "1";
/** A workflow that brought the process down this often is set aside instead of doing it for ever. */
const MAX_RECOVERY_ATTEMPTS = 20;

export type Logger = {
  info(details: object, text: string): void;
  warn(details: object, text: string): void;
  error(details: object, text: string): void;
};

/**
 * Runs `fn` as a named step whose result (plain JSON) is kept: after a crash it is not run again once it had ended. As after a crash it is run again when the
 * database went away under it: a workflow that ended there would leave its record open for ever.
 */
export type DurableStep = <T>(name: string, fn: () => Promise<T>) => Promise<T>;

export type Workflow = (id: string, step: DurableStep) => Promise<void>;
export type Workflows = Record<string, Workflow>;

export type DurableEngine<W extends Workflows> = {
  /** Starts a workflow for an id, once: a second start of the same name and id is a no-op, also after a crash. Returns once it is recorded. */
  start(name: keyof W & string, id: string): Promise<void>;
  /** As `start`, for work that most likely was started before: looks first, and says nothing of what it finds. Not inside a workflow. */
  startIfNew(name: keyof W & string, id: string): Promise<void>;
  /** Stops taking work. What runs is cut off and goes on at the next launch, from its last finished step. */
  shutdown(): Promise<void>;
};

/**
 * Durable execution on Postgres (DBOS): workflows that were running when the process died go on from their last finished step.
 * One engine per process.
 */
export async function launchDurableEngine<W extends Workflows>(
  options: { connectionString: string; executorId: string; log: Logger },
  workflows: W,
): Promise<DurableEngine<W>> {
  const stopping = new AbortController();
  const step: DurableStep = (name, fn) => DBOS.runStep(() => throughOutages(fn, stopping.signal), { name });
  DBOS.setConfig({
    name: "shipway",
    systemDatabaseUrl: withIdleTimeout(options.connectionString),
    systemDatabasePoolSize: 5,
    applicationVersion: APPLICATION_VERSION,
    executorID: options.executorId,
    logger: toDbosLogger(options.log),
  });
  const registered = new Map(
    Object.entries(workflows).map(([name, run]) => [
      name,
      DBOS.registerWorkflow((id: string) => run(id, step), { name, maxRecoveryAttempts: MAX_RECOVERY_ATTEMPTS }),
    ]),
  );
  await DBOS.launch();
  const start = async (name: string, id: string): Promise<void> => {
    const workflow = registered.get(name);
    if (!workflow) throw new Error(`no workflow ${name}`);
    await DBOS.startWorkflow(workflow, { workflowID: `${name}:${id}` })(id);
  };
  return {
    start,
    async startIfNew(name, id) {
      // DBOS warns, with a stack, of each start of a workflow that it has just taken up again itself.
      if ((await DBOS.getWorkflowStatus(`${name}:${id}`)) === null) await start(name, id);
    },
    shutdown: () => {
      stopping.abort();
      return DBOS.shutdown({ deregister: true });
    },
  };
}

/** As a start option of the session: DBOS would otherwise send it as a query of its own, in a way that pg warns about on the user's terminal. */
function withIdleTimeout(connectionString: string): string {
  const url = new URL(connectionString);
  const set = url.searchParams.get("options") ?? "";
  url.searchParams.set("options", `${set} -c idle_in_transaction_session_timeout=60000`.trim());
  return url.href;
}

/** DBOS narrates its own start-up at info level; only what somebody must know is passed on. */
function toDbosLogger(log: Logger) {
  return {
    info: () => undefined,
    debug: () => undefined,
    warn: (entry: unknown) => log.warn({ entry: String(entry) }, "workflow engine"),
    error: (entry: unknown) => log.error({ error: entry instanceof Error ? entry : String(entry) }, "workflow engine"),
  };
}
