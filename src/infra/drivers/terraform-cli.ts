import { type ChildProcess, execFile, spawn } from "node:child_process";
import { access, constants, mkdir, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { z } from "zod";
import { fail } from "../../shared/errors.ts";
import { isThere } from "../../shared/is-there.ts";
import { newLineSplitter } from "../../shared/log-line.ts";
import { sleep, until } from "../../shared/until.ts";
import {
  layProviderMirror,
  PROVIDER_NODE_VARIABLE,
  PROVIDER_PROGRAM_VARIABLE,
  PROVIDER_SOURCE,
} from "../provider-mirror.ts";
import type { Finished, Terraform, TerraformProgram, Workspace } from "../terraform.ts";

const LOOK_EVERY_MS = 25;
const LARGEST_OUTPUT_BYTES = 256 * 1024 * 1024;

/** Looked for in this order where the user names no program. */
const PROGRAMS = ["terraform", "tofu"];

/** `program` is run by `node`; `mirrorDir` is for us to write. */
export type OwnProvider = { mirrorDir: string; version: string; program: string; node: string };

/**
 * Terraform or OpenTofu as a child process: `program` when it is given, else the first of the two in `searchPath`, which is also the PATH it gets.
 * `mirrorDir`, when given, is a filesystem mirror of providers that is asked before any registry; `configFile` is written by us, so nothing of the
 * server's own user reaches a run. `environment` is what every run has unless it says otherwise. `ownProvider` is Shipway's own provider, for which a mirror is laid. `reattach` is for tests: TF_REATTACH_PROVIDERS, by
 * which Terraform speaks to providers that are there already; `shipway.yml` may not set it.
 */
export function terraformCli(options: {
  program: string | undefined;
  searchPath: string;
  mirrorDir: string | undefined;
  configFile: string;
  environment?: Record<string, string>;
  ownProvider?: OwnProvider | undefined;
  reattach?: string;
}): Terraform {
  const children = new Map<string, ChildProcess>();
  let configured: Promise<void> | undefined;
  const configure = () => {
    configured ??= writeConfig(options).catch((error: unknown) => {
      configured = undefined;
      throw error;
    });
    return configured;
  };
  let found: Promise<string> | undefined;
  // Not kept while there is none: it may be installed while Shipway runs.
  const find = () => {
    found ??= findProgram(options).catch((error: unknown) => {
      found = undefined;
      throw error;
    });
    return found;
  };
  let program: Promise<TerraformProgram> | undefined;
  const environment = (workspace: Pick<Workspace, "dataDir" | "env" | "runDir">) => ({
    ...options.environment,
    ...workspace.env,
    PATH: options.searchPath,
    HOME: workspace.runDir,
    TF_IN_AUTOMATION: "1",
    TF_INPUT: "0",
    CHECKPOINT_DISABLE: "1",
    TF_DATA_DIR: workspace.dataDir,
    TF_CLI_CONFIG_FILE: options.configFile,
    // Terraform hands its environment on to the providers it starts.
    ...(options.ownProvider && {
      [PROVIDER_PROGRAM_VARIABLE]: options.ownProvider.program,
      [PROVIDER_NODE_VARIABLE]: options.ownProvider.node,
    }),
    ...(options.reattach !== undefined && { TF_REATTACH_PROVIDERS: options.reattach }),
  });

  return {
    program() {
      program ??= configure()
        .then(find)
        .then((name) => readProgram(name, options))
        .catch((error: unknown) => {
          program = undefined;
          throw error;
        });
      return program;
    },

    async run(workspace, args, signal) {
      await configure();
      return runToEnd(await find(), [`-chdir=${workspace.codeDir}`, ...args], environment(workspace), signal);
    },

    async start(workspace, name, args) {
      await configure();
      const executable = await find();
      const { out, err, pid: pidFile } = filesOf(workspace.runDir, name);
      // What an earlier life of ours left that was killed before the program ran.
      if ((await stateOf(workspace.runDir, name, children)) === "never started") await rm(out, { force: true });
      // Exclusive: with the pid file, that this file is there is the journal that this was started.
      const outFile = await open(out, "wx", 0o600);
      const errFile = await open(err, "w", 0o600);
      try {
        const command = [executable, `-chdir=${workspace.codeDir}`, ...args];
        const child = spawn("/bin/sh", ["-c", LAUNCH, "sh", pidFile, ...command], {
          detached: true,
          stdio: ["ignore", outFile.fd, errFile.fd],
          env: environment(workspace),
        });
        await new Promise<void>((resolve, reject) => {
          child.once("spawn", resolve);
          child.once("error", (cause) => reject(missing(executable, cause)));
        });
        child.unref();
        children.set(out, child);
        child.once("exit", () => children.delete(out));
        await until("Terraform starting", async () => (await isThere(pidFile)) || child.exitCode !== null, {
          withinMs: STARTING_MS,
          everyMs: 2,
        });
      } finally {
        await outFile.close();
        await errFile.close();
      }
    },

    async follow(workspace, name, onLine) {
      const { out } = filesOf(workspace.runDir, name);
      const file = await open(out, "r");
      const lines = newLineSplitter(onLine);
      const child = children.get(out);
      const exited = child && child.exitCode === null && child.signalCode === null ? once(child) : undefined;
      try {
        for (;;) {
          // Asked before reading: what was written until it was gone is read after that.
          const running = (await stateOf(workspace.runDir, name, children)) === "running";
          await readOn(file, lines);
          if (!running) break;
          await Promise.race([sleep(LOOK_EVERY_MS), ...(exited ? [exited] : [])]);
        }
        lines.end();
      } finally {
        await file.close();
      }
    },

    async output({ runDir }, name) {
      const text = await readFile(filesOf(runDir, name).out, "utf8").catch(() => "");
      return text.split("\n").filter((line) => line !== "");
    },

    state: ({ runDir }, name) => stateOf(runDir, name, children),
    interrupt: ({ runDir }, name) => signal(runDir, name, "SIGINT", children),
    kill: ({ runDir }, name) => signal(runDir, name, "SIGKILL", children),
  };
}

/**
 * Writes who it is, then becomes the program. Written by us, the file would be missing when we are killed right after the start, and an apply at
 * work would be taken for one that is gone. Without the file the program never ran. The start time is field 22 of /proc/PID/stat (proc(5)).
 */
const LAUNCH = `
pid_file=$1
shift
start_time() { shift 19; printf '"%s"' "$1"; }
started=null
if read -r line 2>/dev/null </proc/$$/stat; then started=$(start_time \${line##*) }); fi
(umask 077 && printf '{"pid":%s,"startedAt":%s}' $$ "$started" >"$pid_file.new") && mv "$pid_file.new" "$pid_file" && exec "$@"
exit 126`;

/** From the spawn to the pid file it takes some 5 ms; on a machine that is out of breath, seconds. */
const STARTING_MS = 10_000;

function filesOf(runDir: string, name: string) {
  return { out: join(runDir, `${name}.jsonl`), err: join(runDir, `${name}.stderr`), pid: join(runDir, `${name}.pid`) };
}

const once = (child: ChildProcess) => new Promise<void>((resolve) => child.once("exit", () => resolve()));

async function readOn(
  file: Awaited<ReturnType<typeof open>>,
  lines: ReturnType<typeof newLineSplitter>,
): Promise<void> {
  const buffer = Buffer.alloc(64 * 1024);
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
    if (bytesRead === 0) return;
    lines.write(Buffer.from(buffer.subarray(0, bytesRead)));
  }
}

const Pid = z.object({ pid: z.int().positive(), startedAt: z.string().nullable() });

async function readPid(runDir: string, name: string): Promise<z.infer<typeof Pid> | undefined> {
  const text = await readFile(filesOf(runDir, name).pid, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return Pid.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

async function stateOf(runDir: string, name: string, children: ReadonlyMap<string, ChildProcess>) {
  const { out, pid } = filesOf(runDir, name);
  const child = children.get(out);
  if (child) return child.exitCode === null && child.signalCode === null ? ("running" as const) : ("gone" as const);
  if (!(await hasStarted(out, pid))) return "never started" as const;
  const known = await readPid(runDir, name);
  return known !== undefined && (await isAlive(known)) ? ("running" as const) : ("gone" as const);
}

/** An output file alone is a start that was cut off, or one that another life of ours has just begun. */
async function hasStarted(out: string, pidFile: string): Promise<boolean> {
  for (;;) {
    const begun = await stat(out).catch(() => undefined);
    if (await isThere(pidFile)) return true;
    if (begun === undefined || Date.now() - begun.mtimeMs > STARTING_MS) return false;
    await sleep(LOOK_EVERY_MS);
  }
}

/** A number alone could belong to another process by now; its start time tells them apart. */
async function isAlive({ pid, startedAt }: z.infer<typeof Pid>): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return (await startTimeOf(pid)) === startedAt;
}

/** Field 22 of /proc/PID/stat (proc(5)); null where there is no /proc, or for a process that is gone or a zombie. */
async function startTimeOf(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  const fields = text?.slice(text.lastIndexOf(")") + 2).split(" ");
  if (fields === undefined || fields[0] === "Z") return null;
  return fields[19] ?? null;
}

async function signal(
  runDir: string,
  name: string,
  kind: "SIGINT" | "SIGKILL",
  children: ReadonlyMap<string, ChildProcess>,
): Promise<boolean> {
  const known = await readPid(runDir, name);
  if (!known) return false;
  const running = (await stateOf(runDir, name, children)) === "running";
  // Providers and provisioners outlive a Terraform that was killed; their group keeps its number as long as one of them is left.
  if (!running && (kind === "SIGINT" || (await startTimeOf(known.pid)) !== null)) return false;
  try {
    // An interrupt goes to Terraform alone: it hands it on to its providers, and two of them would be taken for "stop at once".
    process.kill(kind === "SIGKILL" ? -known.pid : known.pid, kind);
    return true;
  } catch {
    // It ended in between.
    return false;
  }
}

function runToEnd(
  program: string,
  args: readonly string[],
  env: Record<string, string>,
  signal?: AbortSignal,
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    execFile(
      program,
      [...args],
      { env, encoding: "utf8", maxBuffer: LARGEST_OUTPUT_BYTES, ...(signal && { signal }) },
      (error, stdout, stderr) => {
        if (signal?.aborted) return reject(signal.reason);
        if (error === null) return resolve({ exitCode: 0, stdout, stderr });
        if (typeof error.code === "number") return resolve({ exitCode: error.code, stdout, stderr });
        reject(missing(program, error));
      },
    );
  });
}

const INSTALL =
  "Install Terraform 1.5 or later (https://developer.hashicorp.com/terraform/install) or OpenTofu (https://opentofu.org/docs/intro/install) on Shipway's machine; SHIPWAY_TERRAFORM names a program that is not on its PATH.";

function missing(program: string, cause: Error) {
  return fail("TERRAFORM_MISSING", { message: `${program} cannot be run: ${cause.message}`, hint: INSTALL, cause });
}

async function findProgram({ program, searchPath }: { program: string | undefined; searchPath: string }) {
  if (program !== undefined) return program;
  for (const name of PROGRAMS) {
    for (const dir of searchPath.split(delimiter).filter((one) => one !== "")) {
      if (await isExecutable(join(dir, name))) return join(dir, name);
    }
  }
  throw fail("TERRAFORM_MISSING", {
    message: "Neither terraform nor tofu is on the PATH of Shipway.",
    hint: INSTALL,
  });
}

const isExecutable = (path: string): Promise<boolean> =>
  Promise.all([access(path, constants.X_OK), stat(path)]).then(
    ([, found]) => found.isFile(),
    () => false,
  );

/** Both name their version under the same key; which of the two it is only the text says. */
async function readProgram(
  program: string,
  options: { searchPath: string; configFile: string },
): Promise<TerraformProgram> {
  const env = { PATH: options.searchPath, CHECKPOINT_DISABLE: "1", TF_CLI_CONFIG_FILE: options.configFile };
  const [json, text] = await Promise.all([
    runToEnd(program, ["version", "-json"], env),
    runToEnd(program, ["version"], env),
  ]);
  const parsed = z.object({ terraform_version: z.string() }).safeParse(parseJson(json.stdout));
  if (!parsed.success) throw missing(program, new Error("it does not say its version"));
  return {
    product: /^OpenTofu\b/.test(text.stdout) ? "OpenTofu" : "Terraform",
    version: parsed.data.terraform_version,
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function writeConfig(options: {
  configFile: string;
  mirrorDir: string | undefined;
  ownProvider?: OwnProvider | undefined;
}): Promise<void> {
  const { configFile, mirrorDir, ownProvider } = options;
  await mkdir(join(configFile, ".."), { recursive: true, mode: 0o700 });
  const mirrors: Mirror[] = [];
  if (ownProvider) {
    await layProviderMirror(ownProvider.mirrorDir, ownProvider.version);
    mirrors.push({ path: ownProvider.mirrorDir, providers: [PROVIDER_SOURCE] });
  }
  for (const path of [mirrorDir, ...IMPLIED_MIRRORS]) {
    const providers = path === undefined ? [] : await providersIn(path);
    // A mirror that is named is asked even while it is empty, so that it says so itself.
    if (path !== undefined && (providers.length > 0 || path === mirrorDir)) mirrors.push({ path, providers });
  }
  await writeFile(
    configFile,
    `# Written by Shipway; changes are overwritten.\ndisable_checkpoint = true\n${installationFrom(mirrors)}`,
    {
      mode: 0o600,
    },
  );
}

type Mirror = { path: string; providers: string[] };
/** Where Terraform looks by itself as long as no configuration says where to look ("Implied Local Mirror Directories"). */
const IMPLIED_MIRRORS = ["/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins"];

/** What a mirror has comes from there and nowhere else: Terraform would ask the registry, too, and fail where there is none. */
function installationFrom(mirrors: Mirror[]): string {
  if (mirrors.length === 0) return "";
  const blocks = mirrors.map(
    ({ path, providers }) =>
      `  filesystem_mirror {\n    path    = ${JSON.stringify(path)}\n    include = ${JSON.stringify(providers)}\n  }\n`,
  );
  const elsewhere = JSON.stringify([...new Set(mirrors.flatMap(({ providers }) => providers))]);
  return `provider_installation {\n${blocks.join("")}  direct {\n    exclude = ${elsewhere}\n  }\n}\n`;
}

/** `HOST/NAMESPACE/TYPE`, as a filesystem mirror is laid out. */
async function providersIn(mirrorDir: string): Promise<string[]> {
  const below = async (dirs: string[]): Promise<string[]> => {
    const found = await Promise.all(
      dirs.map(async (dir) => (await readdir(join(mirrorDir, dir)).catch(() => [])).map((name) => join(dir, name))),
    );
    return found.flat().sort();
  };
  return below(await below(await below(["."])));
}
