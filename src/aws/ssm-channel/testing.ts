import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { signConnection } from "./sign-connection.ts";

/** Where Python's AWS library is missing, tests with the other side of a channel are skipped, and say so. */
export const hasBotocore = spawnSync("python3", ["-c", "import botocore"], { stdio: "ignore" }).status === 0;
if (!hasBotocore) console.warn("SKIPPED: tests of ECS Exec's channel. They need: pip install 'moto[server]==5.2.1'");

const AGENT = join(import.meta.dirname, "../../../test/aws/exec_agent.py");
const credentials = async () => ({ accessKeyId: "test", secretAccessKey: "test" });

export type TestAgent = {
  /** What opens a channel to a command there; `faults` are those of `exec_agent.py`. */
  session(
    command: string,
    faults?: Record<string, number | true>,
    channel?: string,
  ): Promise<{
    url: string;
    token: string;
    headers: Record<string, string>;
    openMs: number;
  }>;
  /** What clients sent that AWS's own would not. */
  complaints(): Promise<string[]>;
  cleanUp(): Promise<void>;
};

/** The other side of data channels, in a process of its own. Commands run on this machine. */
export async function newTestAgent(): Promise<TestAgent> {
  const agent = spawn("python3", [AGENT, "0"], { stdio: ["pipe", "pipe", "inherit"] });
  const [port] = (await once(createInterface(agent.stdout), "line")) as [string];
  const url = (channel: string) =>
    `ws://127.0.0.1:${port}/v1/data-channel/${channel}?role=publish_subscribe&cell-number=AAEAAX+/=`;
  return {
    session: async (command, faults = {}, channel = "ecs-execute-command-1") => ({
      url: url(channel),
      token: JSON.stringify({ command, faults }),
      headers: await signConnection(url(channel), { region: "eu-central-1", credentials }),
      openMs: 15_000,
    }),
    complaints: async () => (await (await fetch(`http://127.0.0.1:${port}/complaints`)).json()) as string[],
    async cleanUp() {
      const ended = once(agent, "exit");
      agent.stdin.end();
      await ended;
    },
  };
}
