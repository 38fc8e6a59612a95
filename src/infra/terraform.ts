/** A folder in which Terraform is run, and how. */
export type Workspace = {
  /** Everything of this run: the checkout, output files, the plan. Only ours to read. */
  runDir: string;
  /** Where the Terraform files are. */
  codeDir: string;
  /** TF_DATA_DIR: providers and modules, kept from run to run. */
  dataDir: string;
  /** All that the process gets as its environment beside what the driver sets. */
  env: Record<string, string>;
};

/** Which of the two programs the user has; `version` is such as `1.11.4`. */
export type TerraformProgram = { product: "Terraform" | "OpenTofu"; version: string };

export type Finished = { exitCode: number; stdout: string; stderr: string };

/** The user's own Terraform or OpenTofu, as a program. Driver: `drivers/terraform-cli.ts`. */
export type Terraform = {
  /** @throws TERRAFORM_MISSING when neither program is there, or what is named as one does not say its version */
  program(): Promise<TerraformProgram>;
  /** Runs a command that changes no state (init, show, output) to its end, or until `signal` aborts: then it rejects. */
  run(workspace: Workspace, args: readonly string[], signal?: AbortSignal): Promise<Finished>;
  /**
   * Starts a command that must outlive us, in a process group of its own, its output going to files in `runDir`: a program that writes into the pipe
   * of a server that died is killed by that, and its state with it. Starting a `name` that was started already is an error.
   */
  start(workspace: Workspace, name: string, args: readonly string[]): Promise<void>;
  /** Lines of its standard output from the first on, until the process is gone; also one that was started by an earlier life of ours. */
  follow(workspace: Pick<Workspace, "runDir">, name: string, onLine: (line: string) => void): Promise<void>;
  /** What it wrote, of a process that may be gone. */
  output(workspace: Pick<Workspace, "runDir">, name: string): Promise<string[]>;
  state(workspace: Pick<Workspace, "runDir">, name: string): Promise<"never started" | "running" | "gone">;
  /** The first SIGINT makes Terraform save what it has and end, the second end at once. False when none was sent: it is gone, or not yet known. */
  interrupt(workspace: Pick<Workspace, "runDir">, name: string): Promise<boolean>;
  /** Kills the whole group: a command that changes nothing, or what one that is gone has left behind. */
  kill(workspace: Pick<Workspace, "runDir">, name: string): Promise<boolean>;
};
