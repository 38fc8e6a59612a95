import type Docker from "dockerode";
import { formatDurationMs } from "../../../shared/duration.ts";
import type { ServicePlan } from "../../executor.ts";
import { readyCheckOf } from "../../ready-check.ts";
import { expandVariables } from "../../step-environment.ts";
import { readLogs } from "./follow-logs.ts";
import { awaitReady, type Namespace } from "./service-readiness.ts";
import { toDockerEnv } from "./step-containers.ts";
import { ensureImage, type StepRun } from "./step-run.ts";

/** The network that a step shares with its services. */
export type Services = { namespace: Namespace };

/** A service that stopped or never answered: the step fails with the service's own last lines. */
export class ServiceFailure extends Error {
  readonly service: string;
  readonly lines: string[];

  constructor(service: string, message: string, lines: string[]) {
    super(message);
    this.service = service;
    this.lines = lines;
  }
}

const HOLDER_MIB = 64;
const SHOWN_LINES = 15;
/** Of a service of which only its ports are known, Bitbucket would not wait at all: after this time the step starts without it. */
const UNKNOWN_KIND_MS = 30_000;

/**
 * Starts the services of a step and resolves when all of them answer; undefined when it has none. They share one network namespace, whose owner is a
 * container that only waits: a service that stops then does not take the network with it.
 */
export async function startServices(run: StepRun, stepImage: Promise<unknown>): Promise<Services | undefined> {
  const { step, containers, key } = run;
  if (step.services.length === 0) return undefined;
  const hold = async (): Promise<Namespace> => {
    await stepImage;
    run.signal.throwIfAborted();
    // A shell whose input never ends waits for ever, and needs no other program in the image.
    const container = await containers.create(key, {
      role: "holder",
      image: step.image,
      entrypoint: ["/bin/sh"],
      command: [],
      user: "0",
      memoryMiB: HOLDER_MIB,
      openStdin: true,
    });
    await container.start();
    const { State } = await container.inspect();
    return { container, pid: State.Pid };
  };
  const holding = hold();
  const results = await Promise.allSettled(step.services.map((service) => startService(run, service, holding)));
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
  return { namespace: await holding };
}

async function startService(run: StepRun, service: ServicePlan, holding: Promise<Namespace>): Promise<void> {
  const [image, namespace] = await Promise.all([ensureImage(run, service.image, service.login), holding]);
  run.signal.throwIfAborted();
  const variables = Object.fromEntries(
    Object.entries(service.variables).map(([name, value]) => [name, expandVariables(value, run.environment)]),
  );
  const startedAt = run.now();
  const container = await run.containers.create(run.key, {
    role: "service",
    suffix: `service-${service.name}`,
    image: service.image,
    env: toDockerEnv(variables),
    memoryMiB: service.memoryMiB,
    networkOf: namespace.container.id,
    labels: { "shipway.service": service.name },
  });
  await container.start();
  const exposed = Object.keys(image.Config.ExposedPorts ?? {}).filter((port) => port.endsWith("/tcp"));
  const check = readyCheckOf(
    service.image,
    variables,
    exposed.map((port) => Number.parseInt(port, 10)),
  );
  const limitMs = check.kind === "query" ? run.serviceDeadlineMs : Math.min(UNKNOWN_KIND_MS, run.serviceDeadlineMs);
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), limitMs);
  const exited = container.wait().then(({ StatusCode }: { StatusCode: number }) => {
    over.abort();
    return StatusCode;
  });
  exited.catch(() => undefined);
  const unanswered = await awaitReady(check, container, namespace, AbortSignal.any([run.signal, over.signal]));
  clearTimeout(timer);
  run.signal.throwIfAborted();
  const durationMs = run.now() - startedAt;
  if (unanswered === undefined) {
    run.options.onProgress?.({ kind: "serviceReady", service: service.name, durationMs });
    run.remark(
      `service ${service.name} ${check.kind === "none" ? "started" : "ready"} after ${formatDurationMs(durationMs)}`,
    );
    return;
  }
  const { State } = await container.inspect();
  if (!State.Running)
    throw await serviceFailure(service, container, `stopped with exit code ${await exited} before it answered`);
  if (check.kind === "query") {
    throw await serviceFailure(service, container, `did not answer within ${formatDurationMs(limitMs)}: ${unanswered}`);
  }
  run.remark(
    `service ${service.name}: ${unanswered} after ${formatDurationMs(limitMs)}; the step starts without waiting longer`,
  );
}

async function serviceFailure(
  service: ServicePlan,
  container: Docker.Container,
  what: string,
): Promise<ServiceFailure> {
  const lines: string[] = [];
  await readLogs(container, false, (batch) => lines.push(...batch.map(({ text }) => text)));
  return new ServiceFailure(
    service.name,
    `service ${service.name} (${service.image}) ${what}`,
    lines.slice(-SHOWN_LINES),
  );
}
