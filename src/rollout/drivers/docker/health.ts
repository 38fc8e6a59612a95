import { formatDurationMs } from "../../../shared/duration.ts";
import type { ReleaseService } from "../../release.ts";
import type { ServerStatus } from "./router.ts";

/** What is known of one task at one moment. */
export type TaskFacts = {
  container: "running" | "ended" | "missing";
  /** For how long it has been running. */
  upMs: number;
  /** Of the image's own HEALTHCHECK. */
  imageHealth: "none" | "starting" | "healthy" | "unhealthy";
  /** What the router says; undefined when it does not know the task (yet), or the service has no port. */
  server: Pick<ServerStatus, "operational" | "lastCheck"> | undefined;
  /** Runs of the declared health command, in a row; undefined when there is none. */
  command: { passed: number; failed: number; last: string } | undefined;
};

export type Verdict = { is: "healthy" } | { is: "waiting"; detail: string } | { is: "failed"; because: string };

/** A worker that cannot be asked is given this long to fail: most that cannot start (no database, bad configuration) do so within a second. */
const WORKER_GRACE_MS = 2_000;

/** Whether a task that is being proved is healthy. One that ended will not become so, and is not waited for. */
export function judgeNew(service: ReleaseService, facts: TaskFacts): Verdict {
  const gone = judgeContainer(facts);
  if (gone !== undefined) return gone;
  const command = service.health?.command === undefined ? undefined : judgeCommand(service, facts);
  if (command !== undefined && command.is !== "healthy") return command;
  if (service.port !== undefined) return judgeServer(facts);
  if (command !== undefined) return command;
  if (facts.imageHealth !== "none") return judgeImage(facts);
  const graceMs = service.health?.grace ?? WORKER_GRACE_MS;
  if (facts.upMs >= graceMs) return { is: "healthy" };
  return { is: "waiting", detail: `up for ${formatDurationMs(facts.upMs)} of ${formatDurationMs(graceMs)}` };
}

/** Whether a task that was healthy has failed since. The router and the health command count to `unhealthy` themselves. */
export function judgeProved(service: ReleaseService, facts: TaskFacts): Verdict {
  const gone = judgeContainer(facts);
  if (gone !== undefined) return gone;
  if (service.port !== undefined && facts.server?.operational === "down") {
    return { is: "failed", because: `its health check fails: ${facts.server.lastCheck}` };
  }
  const tolerated = service.health?.unhealthy ?? 3;
  if (facts.command !== undefined && facts.command.failed >= tolerated) {
    return { is: "failed", because: `its health command failed ${tolerated} times in a row: ${facts.command.last}` };
  }
  if (service.port === undefined && facts.imageHealth === "unhealthy") {
    return { is: "failed", because: "the image's HEALTHCHECK fails" };
  }
  return { is: "healthy" };
}

/** What a person should know about how these services were judged. */
export function healthNotes(
  service: ReleaseService,
  { imageHealth, server }: Pick<TaskFacts, "imageHealth" | "server">,
): string[] {
  if (service.count === 0) return [];
  const redirect = /^HTTP 3\d\d$/.exec(server?.lastCheck ?? "")?.[0];
  if (redirect !== undefined) {
    return [`${service.name} answers its health check with a redirect (${redirect}), which counts as healthy.`];
  }
  if (service.port !== undefined || service.health?.command !== undefined) return [];
  if (imageHealth !== "none") return [`${service.name} has no port: judged by its image's HEALTHCHECK.`];
  const graceMs = service.health?.grace ?? WORKER_GRACE_MS;
  return [
    `${service.name} has no port and no health command: taken for healthy because it stayed up for ${formatDurationMs(graceMs)}.`,
  ];
}

function judgeContainer(facts: TaskFacts): Verdict | undefined {
  if (facts.container === "missing") return { is: "failed", because: "its container is gone" };
  if (facts.container === "ended") return { is: "failed", because: "it exited" };
  return undefined;
}

function judgeServer({ server }: TaskFacts): Verdict {
  if (server?.operational === "up") return { is: "healthy" };
  return { is: "waiting", detail: server?.lastCheck || "not checked yet" };
}

function judgeCommand(service: ReleaseService, { command }: TaskFacts): Verdict {
  const wanted = service.health?.healthy ?? 2;
  if (command !== undefined && command.passed >= wanted) return { is: "healthy" };
  return { is: "waiting", detail: command?.last || "its health command has not answered yet" };
}

function judgeImage({ imageHealth }: TaskFacts): Verdict {
  switch (imageHealth) {
    case "healthy":
      return { is: "healthy" };
    case "unhealthy":
      return { is: "failed", because: "the image's HEALTHCHECK fails" };
    default:
      return { is: "waiting", detail: "the image's HEALTHCHECK has not answered yet" };
  }
}
