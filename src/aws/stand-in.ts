import { spawn } from "node:child_process";
import { join } from "node:path";
import { findFreePort } from "../shared/free-port.ts";
import { until } from "../shared/until.ts";

export type StandInOptions = {
  /** Where the project lies: the stand-in is in `test/aws`. */
  projectDir: string;
  /** Tasks start only from images that are there. */
  registry?: string;
  /** The socket of the Docker Engine that runs tasks as real containers; without it tasks are played. */
  containers?: string;
  /** AWS's own waits (health check intervals, draining) are shorter by this factor. */
  pace?: number;
  /** A load balancer does at this port of the loopback address what the rules of the only listener say; tasks reach it by its names. */
  balancerPort?: number;
  /** Until a line of a container is in CloudWatch Logs. */
  logDelayMs?: number;
  /** What its programs get: PATH and the like. */
  environment: NodeJS.ProcessEnv;
};

/** moto, an independent emulator of AWS's interfaces, with what we believe of ECS and Fargate beside it (`test/aws/scheduler.py`). */
export type StandIn = {
  endpoint: string;
  /** Where the containers of tasks reach `endpoint`; undefined when tasks are played. */
  endpointOfTasks: string | undefined;
  ask<T>(path: string): Promise<T>;
  /** Starts a load balancer on this machine that does what the listener's rules say; port 0 is any free one. Returns its port. */
  listen(listener: string, port: number): Promise<number>;
  /** Ends it and removes what its tasks left on the engine. The same happens when this process ends in any other way. */
  close(): Promise<void>;
};

const STARTS_WITHIN_MS = 50_000;
/** As long as removing the containers of some dozen tasks may take on a busy machine. */
const CLOSES_WITHIN_MS = 120_000;

export async function startStandIn(options: StandInOptions): Promise<StandIn> {
  const [port, control] = [await findFreePort(), await findFreePort()];
  const server = spawn("python3", [...programOf(options, port, control)], {
    env: options.environment,
    // It sees by its standard input that this process is gone. A group of its own: Ctrl-C is for whoever started it.
    stdio: ["pipe", "ignore", "pipe"],
    detached: true,
  });
  let said = "";
  server.stderr.on("data", (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4_000);
    // It says nothing but what went wrong in itself.
    process.stderr.write(chunk);
  });
  const ended = new Promise<void>((resolve) => server.once("exit", () => resolve()));
  const endpoint = `http://127.0.0.1:${port}`;
  const ask = async <T>(path: string): Promise<T> =>
    (await (await fetch(`http://127.0.0.1:${control}${path}`)).json()) as T;
  const close = async () => {
    server.stdin.end();
    const late = setTimeout(() => server.kill("SIGKILL"), CLOSES_WITHIN_MS);
    await ended;
    clearTimeout(late);
  };
  try {
    await Promise.race([
      until("moto answers", async () => (await fetch(`${endpoint}/moto-api/`)).ok, { withinMs: STARTS_WITHIN_MS }),
      ended.then(() => Promise.reject(new Error("it ended at once"))),
    ]);
    const { endpoint: ofTasks } = await ask<{ endpoint: string | null }>("/endpoint");
    const listen = async (listener: string, at: number) =>
      (await ask<{ port: number }>(`/listen?${new URLSearchParams({ listener, port: String(at) })}`)).port;
    return { endpoint, endpointOfTasks: ofTasks ?? undefined, ask, listen, close };
  } catch (error) {
    await close();
    throw new Error(`the stand-in for AWS did not come up: ${said}`, { cause: error });
  }
}

function programOf(options: StandInOptions, port: number, control: number): string[] {
  const { projectDir, registry, containers, pace, balancerPort, logDelayMs } = options;
  return [
    join(projectDir, "test/aws/scheduler.py"),
    String(port),
    String(control),
    "--until-stdin-ends",
    ...(registry === undefined ? [] : ["--registry", registry]),
    ...(containers === undefined ? [] : ["--containers", containers]),
    ...(pace === undefined ? [] : ["--pace", String(pace)]),
    ...(balancerPort === undefined ? [] : ["--balancer", String(balancerPort)]),
    ...(logDelayMs === undefined ? [] : ["--log-delay", String(logDelayMs / 1_000)]),
  ];
}
