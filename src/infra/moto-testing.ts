import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { describe } from "vitest";
import { findFreePort } from "../shared/free-port.ts";
import { runProgram } from "../shared/run-program.ts";
import { until } from "../shared/until.ts";

const has = (program: string, ...args: string[]) => spawnSync(program, args, { stdio: "ignore" }).status === 0;

/** Whether the emulator of AWS (`pip install "moto[server]"`) is there: an implementation of its own, not ours. */
export const hasMoto = has("moto_server", "--help");

/** A filesystem mirror that holds hashicorp/aws. */
export const AWS_MIRROR = process.env.SHIPWAY_TERRAFORM_MIRROR;

/** What the tests with the AWS provider lack here; empty when they can run. */
const missingForAws: readonly string[] =
  AWS_MIRROR === undefined
    ? ["SHIPWAY_TERRAFORM_MIRROR with hashicorp/aws"]
    : [
        ...(has("terraform", "version") ? [] : ["terraform"]),
        ...(hasMoto ? [] : ["moto_server"]),
        ...(has("aws", "--version") ? [] : ["aws"]),
      ];

/** Tests that need the real AWS provider and moto; where they cannot run they are skipped, and it is said what for. */
export function describeWithAws(title: string, tests: () => void): void {
  if (missingForAws.length === 0) return void describe(title, tests);
  console.warn(`SKIPPED, for want of ${missingForAws.join(", ")}: ${title}`);
  describe.skip(`${title} (needs ${missingForAws.join(", ")})`, tests);
}

export type Moto = {
  endpoint: string;
  /** What the AWS provider and the AWS CLI need to reach it and nothing else. */
  env: Record<string, string>;
  /** What the AWS CLI, a second client beside Terraform, printed, as JSON; undefined when it printed nothing. */
  aws<T>(...args: string[]): Promise<T>;
  close(): Promise<void>;
};

/** An AWS of one's own, empty, that answers. */
export async function startMoto(): Promise<Moto> {
  const port = await findFreePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const server = spawn("moto_server", ["-p", String(port)], { stdio: "ignore" });
  const env = {
    AWS_ENDPOINT_URL: endpoint,
    AWS_REGION: "eu-central-1",
    AWS_ACCESS_KEY_ID: "testing",
    AWS_SECRET_ACCESS_KEY: "testing",
  };
  await until("moto answering", async () => (await fetch(`${endpoint}/moto-api/data.json`)).ok, {
    withinMs: 90_000,
    everyMs: 200,
  });
  return {
    endpoint,
    env,
    async aws<T>(...args: string[]) {
      const { stdout } = await runProgram(["aws", ...args, "--output", "json"], {
        env: { ...process.env, ...env, AWS_DEFAULT_REGION: env.AWS_REGION, AWS_PAGER: "" },
      });
      return (stdout.trim() === "" ? undefined : JSON.parse(stdout)) as T;
    },
    close: () => stop(server),
  };
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const gone = once(server, "exit");
  server.kill();
  await gone;
}
