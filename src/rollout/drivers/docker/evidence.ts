import { request } from "node:http";
import { connect } from "node:net";
import type Docker from "dockerode";
import type { ReleaseService } from "../../release.ts";
import type { Evidence } from "../../target.ts";
import { lastLines } from "./container-logs.ts";
import { askingUnless } from "./docker-errors.ts";
import { listeningIn } from "./listening-ports.ts";
import { checkOf } from "./traffic.ts";

/** Fits one screen below the sentence that explains it. */
const LAST_LINES = 20;
const BODY_SNIPPET = 200;

export type Suspect = {
  task: string;
  containerId: string | undefined;
  service: ReleaseService;
  address: string | undefined;
  /** What was seen while waiting, oldest first. */
  probes: string[];
  /** What the watcher concluded, for a task that runs and is not reachable in another way. */
  because: string;
};

/** Collects why a task is not healthy: how it ended, what it answers to a probe of our own, where it really listens, its last lines. */
export async function collectEvidence(docker: Docker, suspect: Suspect): Promise<Evidence> {
  const { task, service, containerId } = suspect;
  const info =
    containerId === undefined
      ? undefined
      : await askingUnless([404], "Looking at a task", () => docker.getContainer(containerId).inspect());
  const facts = { task, service: service.name, probes: suspect.probes, listening: [], lastLines: [] };
  if (info === undefined) return { ...facts, state: "missing", summary: `${task} is gone: its container was removed.` };
  const lines = await lastLines(docker, info.Id, LAST_LINES);
  const ended = await howItEnded(docker, info);
  if (ended !== undefined) {
    const state = info.State.Running ? "restarting" : "exited";
    return { ...facts, state, ...ended, lastLines: lines, summary: exitSummary(task, ended) };
  }
  const listening = await listeningIn(docker, { id: info.Id, pid: info.State.Pid });
  const probe = await probeTask(service, suspect.address);
  const probes = probe === undefined ? suspect.probes : [...suspect.probes, probe.text];
  const summary = runningSummary(suspect, { listening, probe });
  return { ...facts, state: "running", probes, listening, lastLines: lines, summary };
}

type Ending = { exitCode: number; outOfMemory: boolean };

/** A task that Docker has restarted shows no trace of its first end but in the engine's events. */
async function howItEnded(docker: Docker, info: Docker.ContainerInspectInfo): Promise<Ending | undefined> {
  const { State } = info;
  if (!State.Running || State.Restarting) return { exitCode: State.ExitCode, outOfMemory: State.OOMKilled };
  if ((info as { RestartCount?: number }).RestartCount === 0) return undefined;
  const events = await pastEvents(docker, info.Id, Date.parse(info.Created));
  const died = events.findLast((event) => event.Action === "die");
  const exitCode = Number(died?.Actor?.Attributes?.exitCode ?? 1);
  return { exitCode, outOfMemory: events.some((event) => event.Action === "oom") };
}

type EngineEvent = { Action?: string; Actor?: { Attributes?: Record<string, string> } };

async function pastEvents(docker: Docker, id: string, sinceMs: number): Promise<EngineEvent[]> {
  const since = Math.floor(sinceMs / 1_000);
  const until = Math.ceil(Date.now() / 1_000);
  const stream = await docker
    .getEvents({ since, until, filters: JSON.stringify({ container: [id], event: ["die", "oom"] }) })
    .catch(() => undefined);
  if (stream === undefined) return [];
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks)
    .toString("utf8")
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => JSON.parse(line) as EngineEvent);
}

function exitSummary(task: string, { exitCode, outOfMemory }: Ending): string {
  if (outOfMemory)
    return `${task} was ended because it needed more memory than the service declares; raise \`memory\` in shipway.yml.`;
  if (exitCode === 0) return `${task} exited with 0: a service must keep running until it is stopped.`;
  // The shell's convention; the engine uses it too when it cannot start the command.
  if (exitCode === 127) return `${task} exited with 127: its command was not found in the image.`;
  return `${task} exited with ${exitCode}.`;
}

type Probe = { text: string; reached: boolean };

function runningSummary(
  suspect: Suspect,
  seen: { listening: Evidence["listening"]; probe: Probe | undefined },
): string {
  const { task, service, because } = suspect;
  const { port } = service;
  if (port === undefined) return `${task} is not healthy: ${because}.`;
  const atPort = seen.listening.filter((one) => one.port === port);
  const elsewhere = [...new Set(seen.listening.filter((one) => !one.loopbackOnly).map((one) => one.port))];
  if (atPort.length > 0 && atPort.every((one) => one.loopbackOnly)) {
    return `${task} listens on port ${port} of ${atPort[0]?.address} only, which nothing outside its container can reach; make it listen on 0.0.0.0.`;
  }
  if (atPort.length === 0 && elsewhere.length > 0) {
    const found = elsewhere.join(" and ");
    return `${task} listens on ${found}, but shipway.yml says port ${port}; write \`port: ${elsewhere[0]}\` at ${service.name}, or let the program listen on the variable PORT.`;
  }
  if (atPort.length === 0) return `${task} runs but listens on no port yet; shipway.yml says port ${port}.`;
  if (seen.probe?.reached) return `${task} is not healthy: ${seen.probe.text}.`;
  return `${task} is not healthy: ${because}.`;
}

/** One probe of our own from this machine, with what came back. */
async function probeTask(service: ReleaseService, address: string | undefined): Promise<Probe | undefined> {
  if (service.port === undefined || address === undefined) return undefined;
  const check = checkOf(service);
  const timeoutMs = service.health?.timeout ?? 2_000;
  return check.kind === "http"
    ? await probeHttp({ host: address, port: service.port, path: check.path, timeoutMs })
    : await probeTcp({ host: address, port: service.port, timeoutMs });
}

function probeHttp(at: { host: string; port: number; path: string; timeoutMs: number }): Promise<Probe> {
  const what = `GET http://${at.host}:${at.port}${at.path}`;
  return new Promise((resolve) => {
    const asked = request({ ...at, method: "GET", agent: false, headers: { "user-agent": "shipway" } }, (answer) => {
      let body = "";
      answer.setEncoding("utf8");
      answer.on("data", (chunk: string) => {
        body = (body + chunk).slice(0, BODY_SNIPPET);
      });
      const finish = () =>
        resolve({
          text: `${what} → ${describeAnswer(answer.statusCode, answer.headers.location, body)}`,
          reached: true,
        });
      answer.on("end", finish);
      answer.on("error", finish);
    });
    asked.setTimeout(at.timeoutMs, () => asked.destroy(new Error(`no answer within ${at.timeoutMs} ms`)));
    asked.on("error", (error: NodeJS.ErrnoException) =>
      resolve({ text: `${what} → ${describeFailure(error)}`, reached: false }),
    );
    asked.end();
  });
}

function probeTcp(at: { host: string; port: number; timeoutMs: number }): Promise<Probe> {
  const what = `TCP ${at.host}:${at.port}`;
  return new Promise((resolve) => {
    const socket = connect({ host: at.host, port: at.port });
    const finish = (text: string, reached: boolean) => {
      socket.destroy();
      resolve({ text: `${what} → ${text}`, reached });
    };
    socket.setTimeout(at.timeoutMs, () => finish(`no answer within ${at.timeoutMs} ms`, false));
    socket.on("connect", () => finish("connected", true));
    socket.on("error", (error: NodeJS.ErrnoException) => finish(describeFailure(error), false));
  });
}

function describeAnswer(status: number | undefined, location: string | undefined, body: string): string {
  const redirect = location === undefined ? "" : ` to ${location}`;
  const text = body.replaceAll(/\s+/g, " ").trim();
  return `${status ?? "no status"}${redirect}${text === "" ? "" : ` "${text}"`}`;
}

function describeFailure(error: NodeJS.ErrnoException): string {
  if (error.code === "ECONNREFUSED") return "connection refused";
  if (error.code === "EHOSTUNREACH") return "no route to the container";
  if (error.code === "ECONNRESET") return "the connection was closed without an answer";
  return error.message;
}
