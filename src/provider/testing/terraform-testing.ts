import { execFile, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Provider } from "../protocol/define-provider.ts";
import { serveReattach } from "../protocol/serve-reattach.ts";

/** Where the program is missing its tests are skipped, and say so. */
export const hasTerraform = spawnSync("terraform", ["version"], { stdio: "ignore" }).status === 0;

type Change = { actions: string[]; before: Record<string, unknown> | null; after: Record<string, unknown> | null };
export type PlanFacts = {
  exitCode: number;
  /** `update,reality_object.web` for all that would be done; a no-op is left out. */
  does: string[];
  /** The same for what was found changed. */
  drift: string[];
  changes: { address: string; change: Change; action_reason?: string }[];
  drifted: { address: string; change: Change }[];
  /** Errors and warnings: `summary | detail | attribute's line`. */
  diagnostics: string[];
};

type Ran = { exitCode: number; stdout: string; stderr: string };

export type TerraformDir = {
  /** Replaces the whole configuration. */
  write(text: string): Promise<void>;
  init(): Promise<void>;
  plan(...args: string[]): Promise<PlanFacts>;
  /** Plans and applies. */
  apply(...args: string[]): Promise<{ exitCode: number; diagnostics: string[] }>;
  /** The attributes of a resource in the state; nothing where it is not there. */
  state(address: string): Promise<Record<string, unknown> | undefined>;
  /** All there is on disk about the state, in clear. */
  stateText(): Promise<string>;
  pushState(text: string): Promise<void>;
  run(...args: string[]): Promise<Ran>;
  /** As `run`, with the means to send it SIGINT. */
  start(...args: string[]): { interrupt(): void; ended: Promise<Ran> };
  close(): Promise<void>;
};

/** A directory with the real Terraform, speaking to a provider in this process. */
export async function newTerraformDir<Client>(
  provider: Provider<Client>,
  env: Record<string, string> = {},
): Promise<TerraformDir> {
  const dir = await mkdtemp(join(tmpdir(), "shipway-tf-"));
  const { reattach, close } = await serveReattach(provider, (text) => process.stderr.write(`${text}\n`));
  const whole = {
    PATH: process.env.PATH ?? "",
    HOME: dir,
    TF_IN_AUTOMATION: "1",
    CHECKPOINT_DISABLE: "1",
    TF_REATTACH_PROVIDERS: reattach,
    ...env,
  };
  const start: TerraformDir["start"] = (...args) => {
    let interrupt = (): void => undefined;
    const ended = new Promise<Ran>((resolve, reject) => {
      const child = execFile("terraform", args, { cwd: dir, env: whole }, (error, stdout, stderr) => {
        if (error && typeof error.code !== "number") return reject(error);
        resolve({ exitCode: Number(error?.code ?? 0), stdout, stderr });
      });
      interrupt = () => void child.kill("SIGINT");
    });
    return { interrupt: () => interrupt(), ended };
  };
  const run: TerraformDir["run"] = (...args) => start(...args).ended;
  return {
    run,
    start,
    write: (text) => writeFile(join(dir, "main.tf"), text),
    async init() {
      const { exitCode, stdout, stderr } = await run("init", "-no-color", "-input=false");
      if (exitCode !== 0) throw new Error(`init: ${stdout}${stderr}`);
    },
    async plan(...args) {
      const { exitCode, stdout } = await run("plan", "-json", "-detailed-exitcode", "-out=plan.tfplan", ...args);
      const shown = exitCode === 1 ? "{}" : (await run("show", "-json", "plan.tfplan")).stdout;
      const { resource_changes: all = [], resource_drift: drifted = [] } = JSON.parse(shown);
      const changes = (all as PlanFacts["changes"]).filter(({ change }) => change.actions.join() !== "no-op");
      const said = ({ address, change }: { address: string; change: Change }) =>
        `${change.actions.join("+")} ${address}`;
      return {
        exitCode,
        changes,
        drifted,
        does: changes.map(said),
        drift: drifted.map(said),
        diagnostics: diagnosticsIn(stdout),
      };
    },
    async apply(...args) {
      const { exitCode, stdout } = await run("apply", "-json", "-auto-approve", ...args);
      return { exitCode, diagnostics: diagnosticsIn(stdout) };
    },
    async state(address) {
      const { values } = JSON.parse((await run("show", "-json")).stdout);
      const resources: { address: string; values: Record<string, unknown> }[] = values?.root_module?.resources ?? [];
      return resources.find((one) => one.address === address)?.values;
    },
    stateText: async () => (await run("state", "pull")).stdout,
    async pushState(text) {
      await writeFile(join(dir, "pushed.tfstate"), text);
      const { exitCode, stderr } = await run("state", "push", "pushed.tfstate");
      if (exitCode !== 0) throw new Error(`state push: ${stderr}`);
    },
    async close() {
      await close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

function diagnosticsIn(stream: string): string[] {
  return stream
    .split("\n")
    .filter((line) => line.includes('"type":"diagnostic"'))
    .map((line) => JSON.parse(line).diagnostic)
    .map(({ summary, detail, snippet }) => [summary, detail, snippet?.code?.trim()].filter(Boolean).join(" | "));
}
