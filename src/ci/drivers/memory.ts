import { fail } from "../../shared/errors.ts";
import type { LogSink } from "../../shared/log-line.ts";
import { sleep } from "../../shared/until.ts";
import type { PipelineContext, StepExecutor, StepOptions, StepOutcome, StepPlan, StepProgress } from "../executor.ts";

export type MemoryExecutor = StepExecutor & {
  /** `RUN/STEP` of every script that was started, in order. */
  started: string[];
  /** Lets a step that waits in `hold` go on. */
  release(runId: string, stepId: string): void;
  /** How many steps of a run have not ended. */
  running(runId: string): number;
  /** Everyone who waits for a step gets DOCKER_UNREACHABLE, as after a crash; the steps go on by themselves. */
  crash(): void;
};

type Line = { at: number; text: string };
type Container = {
  lines: Line[];
  progress: { afterLines: number; event: StepProgress }[];
  ended: Promise<StepOutcome>;
  listeners: Set<() => void>;
  stop: AbortController;
  held: () => void;
  over: boolean;
};

/**
 * Steps as an interpreter of a few commands, for tests: `echo TEXT` (knows `$NAME`), `exit N`, `sleep SECONDS`, `hold` (waits for `release`), `true`,
 * `false`. Told to fail: an image that ends in `:unavailable` is IMAGE_UNAVAILABLE.
 */
export function memoryExecutor(now: () => number = Date.now): MemoryExecutor {
  const containers = new Map<string, Container>();
  const started: string[] = [];
  let life = new AbortController();

  function start(key: string, context: PipelineContext, step: StepPlan): Container {
    started.push(key);
    const stop = new AbortController();
    let held = () => undefined as unknown;
    const holding = new Promise<void>((resolve) => {
      held = () => resolve();
    });
    const container: Container = {
      lines: [],
      progress: [],
      listeners: new Set(),
      stop,
      held: () => held(),
      over: false,
      ended: Promise.resolve()
        .then(() => interpret(container, context, step, holding, now))
        .finally(() => {
          container.over = true;
        }),
    };
    containers.set(key, container);
    return container;
  }

  async function runStep(
    context: PipelineContext,
    step: StepPlan,
    log: LogSink,
    options: StepOptions,
  ): Promise<StepOutcome> {
    const key = `${context.runId}/${step.id}`;
    if (step.image.endsWith(":unavailable")) {
      throw fail("IMAGE_UNAVAILABLE", { message: `The image ${step.image} is not available.` });
    }
    if (options.signal?.aborted && !containers.has(key)) return canceled(step, now());
    const container = containers.get(key) ?? start(key, context, step);
    const detach = follow(container, log, options);
    const cancel = () => container.stop.abort(new Error("canceled"));
    options.signal?.addEventListener("abort", cancel, { once: true });
    if (options.signal?.aborted) cancel();
    try {
      return await Promise.race([container.ended, crashOf(life.signal)]);
    } finally {
      detach();
      options.signal?.removeEventListener("abort", cancel);
    }
  }

  return {
    runStep,
    started,
    release: (runId, stepId) => containers.get(`${runId}/${stepId}`)?.held(),
    running: (runId) => [...containers].filter(([key, { over }]) => key.startsWith(`${runId}/`) && !over).length,
    crash() {
      const before = life;
      life = new AbortController();
      before.abort();
    },
    async cleanUp(runId) {
      for (const [key, container] of containers) {
        if (!key.startsWith(`${runId}/`)) continue;
        container.stop.abort(new Error("removed"));
        await container.ended;
        containers.delete(key);
      }
    },
    forget: async () => undefined,
    runs: async () => [...new Set([...containers.keys()].map((key) => key.slice(0, key.indexOf("/"))))],
  };
}

function crashOf(life: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const crash = () => reject(fail("DOCKER_UNREACHABLE", { message: "The engine does not answer." }));
    life.addEventListener("abort", crash, { once: true });
  });
}

/** Sends what the step has said from `alreadyLogged` on, and then what it says. */
function follow(container: Container, log: LogSink, options: StepOptions): () => void {
  let [lines, events] = [options.alreadyLogged, 0];
  events = container.progress.filter(({ afterLines }) => afterLines < options.alreadyLogged).length;
  const catchUp = () => {
    for (; events < container.progress.length; events++) {
      const event = container.progress[events]?.event;
      if (event) options.onProgress?.(event);
    }
    const fresh = container.lines.slice(lines);
    lines = Math.max(lines, container.lines.length);
    if (fresh.length > 0) log(fresh.map(({ at, text }) => ({ at, stream: "out", text })));
  };
  container.listeners.add(catchUp);
  catchUp();
  return () => container.listeners.delete(catchUp);
}

async function interpret(
  container: Container,
  context: PipelineContext,
  step: StepPlan,
  holding: Promise<void>,
  now: () => number,
): Promise<StepOutcome> {
  const startedAt = now();
  const commands: StepOutcome["commands"] = [];
  const limit = AbortSignal.timeout(step.maxTimeMs);
  const signal = AbortSignal.any([container.stop.signal, limit]);
  const secrets = Object.entries(context.secrets).map(([name, secret]) => [name, secret.reveal()]);
  const variables: Record<string, string> = { ...context.variables, ...Object.fromEntries(secrets), ...step.variables };
  const changed = () => {
    for (const listener of container.listeners) listener();
  };
  const say = (text: string) => {
    container.lines.push({ at: now(), text });
    changed();
  };
  const tell = (event: StepProgress) => {
    container.progress.push({ afterLines: container.lines.length, event });
    changed();
  };
  const run = async (command: string): Promise<{ exitCode: number; exits: boolean }> => {
    const [program = "", ...args] = command.trim().split(/\s+/);
    const text = args.join(" ").replace(/^(["'])(.*)\1$/, "$2");
    if (program === "echo") say(text.replace(/\$(\w+)/g, (_, name: string) => variables[name] ?? ""));
    if (program === "sleep") await sleep(Number(args[0]) * 1_000, signal);
    if (program === "hold") await Promise.race([holding, sleep(60_000, signal)]);
    if (program === "exit") return { exitCode: Number(args[0] ?? 0), exits: true };
    const known = ["echo", "sleep", "hold", "true", "false"].includes(program);
    if (!known) say(`sh: ${program}: not found`);
    return { exitCode: program === "false" ? 1 : known ? 0 : 127, exits: false };
  };
  const end = (rest: Partial<StepOutcome> & Pick<StepOutcome, "status">): StepOutcome => ({
    id: step.id,
    name: step.name,
    startedAt,
    endedAt: now(),
    commands,
    lastLines: container.lines.slice(-20).map(({ text }) => text),
    ...rest,
  });
  let [exitCode, failedCommand] = [0, ""];
  try {
    for (const [index, command] of step.script.entries()) {
      const at = now();
      tell({ kind: "commandStarted", index, command, at });
      say(`+ ${command}`);
      const result = await run(command);
      const durationMs = now() - at;
      commands.push({ command, durationMs, exitCode: result.exitCode });
      tell({ kind: "commandEnded", index, command, at: at + durationMs, durationMs, exitCode: result.exitCode });
      [exitCode, failedCommand] = [result.exitCode, command];
      if (result.exits || exitCode !== 0) break;
    }
    variables.BITBUCKET_EXIT_CODE = String(exitCode);
    for (const command of step.afterScript) {
      say(`+ ${command}`);
      if ((await run(command)).exitCode !== 0) break;
    }
  } catch {
    if (container.stop.signal.aborted) return end({ status: "canceled", reason: "canceled" });
    return end({ status: "failed", reason: `ran longer than ${step.maxTimeMs} ms` });
  }
  if (exitCode === 0) return end({ status: "passed", exitCode });
  return end({ status: "failed", exitCode, failedCommand, reason: `\`${failedCommand}\` exited with ${exitCode}` });
}

function canceled(step: StepPlan, at: number): StepOutcome {
  return {
    id: step.id,
    name: step.name,
    status: "canceled",
    reason: "canceled",
    startedAt: at,
    endedAt: at,
    commands: [],
    lastLines: [],
  };
}
