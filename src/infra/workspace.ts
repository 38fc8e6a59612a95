import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join, posix } from "node:path";
import { z } from "zod";
import type { Secrets } from "../environment/secrets.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import { isThere } from "../shared/is-there.ts";
import { runProgram } from "../shared/run-program.ts";
import type { Secret } from "../shared/secret.ts";
import type { GitCommand } from "../source/git-command.ts";
import type { Database } from "../store/open-store.ts";
import { checkFiles, OVERRIDE_FILES } from "./check-files.ts";
import { sha256 } from "./code-hash.ts";
import type { InfraCode } from "./infra-code.ts";
import { isApplying, type StateIn } from "./infra-run.ts";
import { newRunCredential, runToken } from "./run-credential.ts";
import type { InfraRun } from "./runs.ts";
import type { Terraform, TerraformProgram, Workspace } from "./terraform.ts";
import { type Backend, filesRead, initInputs, localModuleDirs, type TerraformFile } from "./terraform-files.ts";

export type WorkspaceDeps = {
  db: Database;
  secrets: Secrets;
  terraform: Terraform;
  git: GitCommand;
  code: InfraCode;
  /** Everything of infra on disk. */
  dir: string;
  /** Where Terraform reaches our API. */
  apiUrl: string;
};

export type OpenWorkspace = Workspace & {
  backend: Backend;
  stateIn: StateIn;
  /** Must never be seen in a log. */
  password: string;
  /** True when the initialised folder of an earlier run was used as it was. */
  warm: boolean;
};

const LOCK_FILE = ".terraform.lock.hcl";
const IMPORT_FILES = ["zzzz_shipway_import.tf", "zzzz_shipway_import.tofu"] as const;
const OURS: ReadonlySet<string> = new Set([...OVERRIDE_FILES, ...IMPORT_FILES]);
/** A module that calls itself by another path would be looked at for ever. */
const MOST_MODULES = 200;

const dataDirOf = (dir: string, { app, environment }: Place) => join(dir, "data", app, environment);

/** Forgets what init has laid down for an environment, providers among it. It must be idle; repeating it is a no-op. */
export const removeInitialised = (dir: string, place: Place): Promise<void> =>
  rm(dataDirOf(dir, place), { recursive: true, force: true });

export const runDirOf = (dir: string, runId: string) => join(dir, "runs", runId);

/**
 * The checkout of a run, initialised and with its backend proved. Repeating it finds what is there.
 * @throws INFRA_INVALID, INFRA_FAILED, SECRET_MISSING, TERRAFORM_MISSING, and what `InfraCode.ensure` does
 */
export async function openWorkspace(
  deps: WorkspaceDeps,
  run: InfraRun,
  onInit: (text: string) => void,
  signal?: AbortSignal,
): Promise<OpenWorkspace> {
  const runDir = runDirOf(deps.dir, run.id);
  const tree = join(runDir, "tree");
  const codeDir = join(tree, run.spec.dir);
  // What destroys is initialised as what applied; the two never run at once.
  const dataDir = join(dataDirOf(deps.dir, run), isApplying(run.kind) ? "apply" : run.kind);
  await deps.code.ensure(run, run.spec, run.commit);
  const repositoryDir = deps.code.dirOf(run.app, run.spec);
  const [program, secrets] = await Promise.all([
    deps.terraform.program(),
    deps.secrets.resolve(run, run.spec.secrets),
    isApplying(run.kind) ? deps.code.pin(run.app, run.spec, run.commit) : undefined,
    checkOut(deps, run, repositoryDir, tree),
  ]);
  const files = await filesIn(codeDir, program);
  const modules = await moduleFiles(tree, run.spec.dir, program);
  const backend = checkFiles(files, run.spec.dir, program, run.commit, modules);
  const settings = backendSettings(run, backend);
  if (backend.type === "shipway") await writeOurs(codeDir, OVERRIDE_FILES, OVERRIDE, program);
  if (run.imports.length > 0) await writeOurs(codeDir, IMPORT_FILES, importBlocks(run.imports), program);
  const password = await newRunCredential(deps.db, run.id);
  const workspace: Workspace = {
    runDir,
    codeDir,
    dataDir,
    env: environmentOf(deps, run, backend, { password, secrets: secrets.values }),
  };
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  // The folder's own path is in it: providers are linked by absolute paths, which lead nowhere after a move of the data directory.
  const lock = await readFile(join(codeDir, LOCK_FILE), "utf8").catch(() => "");
  const { product, version } = program;
  const key = sha256(
    JSON.stringify([initInputs([...files, ...modules]), lock, product, version, backend.type, dataDir, settings]),
  );
  const warm = await initialise(deps.terraform, workspace, { key, settings, onInit, signal });
  const stateIn = await proveBackend(workspace, backend, run.spec.dir);
  return { ...workspace, backend, stateIn, password, warm };
}

/** @throws INFRA_INVALID where there is nothing that they would complete */
function backendSettings({ spec }: InfraRun, backend: Backend): string[] {
  // Absent in what was recorded before there were any.
  const settings = Object.entries(spec.backend ?? {}).map(([name, value]) => `-backend-config=${name}=${value}`);
  if (settings.length === 0 || backend.type !== "shipway") return settings;
  throw fail("INFRA_INVALID", {
    message: `shipway.yml completes a backend of ${spec.dir}, but the code there names none: Shipway keeps its state.`,
    hint: 'Add the block it belongs to (`backend "s3" {}`), or remove `infra: { backend: … }`.',
  });
}

const OVERRIDE = `${JSON.stringify({ terraform: { backend: { http: {} } } })}\n`;

export function importBlocks(imports: readonly { address: string; id: string }[]): string {
  // ${ and %{ begin a template in Terraform's texts.
  const quoted = (id: string) => JSON.stringify(id).replace(/([$%])\{/g, "$1$1{");
  return imports.map(({ address, id }) => `import {\n  to = ${address}\n  id = ${quoted(id)}\n}\n`).join("\n");
}

async function checkOut(deps: WorkspaceDeps, run: InfraRun, repositoryDir: string, tree: string): Promise<void> {
  if (await isThere(tree)) return;
  const beside = `${tree}.new`;
  await rm(beside, { recursive: true, force: true });
  await mkdir(beside, { recursive: true, mode: 0o700 });
  const env = { ...deps.git.environment(), GIT_INDEX_FILE: join(tree, "..", "index") };
  const git = (...args: string[]) =>
    runProgram(["git", `--git-dir=${repositoryDir}`, `--work-tree=${beside}`, ...args], {
      cwd: beside,
      env,
    });
  try {
    await git("read-tree", run.commit);
    await git("checkout-index", "--all", "--quiet");
  } catch (cause) {
    const message = `The commit ${run.commit.slice(0, 7)} could not be checked out: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw fail("GIT_FAILED", { message, cause });
  }
  await rename(beside, tree);
}

/** OpenTofu of any version reads one of the two names, and not the other's; Terraform knows the first alone. */
async function writeOurs(
  codeDir: string,
  [tf, tofu]: readonly [string, string],
  text: string,
  { product }: TerraformProgram,
): Promise<void> {
  for (const name of product === "OpenTofu" ? [tf, tofu] : [tf]) await writeFile(join(codeDir, name), text);
}

async function filesIn(codeDir: string, program: TerraformProgram): Promise<TerraformFile[]> {
  const names = filesRead(await readdir(codeDir).catch(() => []), program).filter((name) => !OURS.has(name));
  return Promise.all(names.sort().map(async (name) => ({ name, text: await readFile(join(codeDir, name), "utf8") })));
}

/** The files of all modules that are reached by relative paths, named by their path in the repository. */
async function moduleFiles(tree: string, dir: string, program: TerraformProgram): Promise<TerraformFile[]> {
  const own = posix.normalize(dir).replace(/\/$/, "");
  const seen = new Set([own]);
  const found: TerraformFile[] = [];
  // A set is walked over what is added to it meanwhile.
  for (const one of seen) {
    const files = await filesIn(join(tree, one), program);
    if (one !== own) found.push(...files.map(({ name, text }) => ({ name: posix.join(one, name), text })));
    for (const module of localModuleDirs(files, one)) if (seen.size < MOST_MODULES) seen.add(module);
  }
  return found;
}

/** About three minutes in all: a Terraform that finishes while Shipway restarts must find it again. */
const STATE_RETRIES = { TF_HTTP_RETRY_MAX: "40", TF_HTTP_RETRY_WAIT_MIN: "1", TF_HTTP_RETRY_WAIT_MAX: "5" };

function environmentOf(
  deps: WorkspaceDeps,
  run: InfraRun,
  backend: Backend,
  { password, secrets: values }: { password: string; secrets: Record<string, Secret> },
): Record<string, string> {
  const secrets = Object.fromEntries(Object.entries(values).map(([name, secret]) => [name, secret.reveal()]));
  const state = `${deps.apiUrl}/api/apps/${run.app}/environments/${run.environment}/infra/state`;
  return {
    ...run.spec.env,
    ...secrets,
    // For a provider that declares what Shipway itself keeps: variables, environments, backing services.
    SHIPWAY_SERVER: deps.apiUrl,
    SHIPWAY_TOKEN: runToken(run.id, password),
    // As variables of the process, none of this is written to .terraform or into a plan.
    ...(backend.type === "shipway" && {
      TF_HTTP_ADDRESS: state,
      TF_HTTP_LOCK_ADDRESS: `${state}/lock`,
      TF_HTTP_LOCK_METHOD: "POST",
      TF_HTTP_UNLOCK_ADDRESS: `${state}/unlock`,
      TF_HTTP_UNLOCK_METHOD: "POST",
      TF_HTTP_USERNAME: run.id,
      TF_HTTP_PASSWORD: password,
      ...STATE_RETRIES,
    }),
  };
}

const keyFileOf = ({ dataDir }: Pick<Workspace, "dataDir">) => join(dataDir, "shipway-initialised");

/** The next run initialises anew: Terraform found something missing that the files did not tell of. */
export const forgetInitialised = (workspace: Pick<Workspace, "dataDir">): Promise<void> =>
  rm(keyFileOf(workspace), { force: true });

/** True when an earlier run had initialised the same already. */
async function initialise(
  terraform: Terraform,
  workspace: Workspace,
  {
    key,
    settings,
    onInit,
    signal,
  }: { key: string; settings: string[]; onInit: (text: string) => void; signal: AbortSignal | undefined },
): Promise<boolean> {
  const keyFile = keyFileOf(workspace);
  const lockFile = join(workspace.codeDir, LOCK_FILE);
  const keptLock = join(workspace.dataDir, "shipway.lock.hcl");
  const isLocked = await isThere(lockFile);
  if ((await readFile(keyFile, "utf8").catch(() => "")) === key) {
    // Without a committed lock file, plan wants the one that init wrote.
    const kept = isLocked ? undefined : await readFile(keptLock, "utf8").catch(() => undefined);
    if (kept !== undefined) await writeFile(lockFile, kept);
    return true;
  }
  await rm(keyFile, { force: true });
  const readonly = isLocked ? ["-lockfile=readonly"] : [];
  const args = ["init", "-input=false", "-no-color", "-reconfigure", ...readonly, ...settings];
  const { exitCode, stdout, stderr } = await terraform.run(workspace, args, signal);
  onInit(`${stdout}\n${stderr}`.trim());
  if (exitCode !== 0) throw initFailed(stderr, isLocked);
  const made = isLocked ? undefined : await readFile(lockFile, "utf8").catch(() => undefined);
  if (made === undefined) await rm(keptLock, { force: true });
  else await writeFile(keptLock, made);
  await writeFile(keyFile, key);
  return false;
}

function initFailed(stderr: string, isLocked: boolean) {
  const text = stderr.replace(/^[╷│╵]\s?/gm, "").trim();
  return fail("INFRA_FAILED", {
    message: `terraform init failed: ${text || "it said nothing"}`,
    hint: isLocked
      ? "If providers are missing from the lock file: `terraform providers lock -platform=linux_amd64`, then commit .terraform.lock.hcl."
      : "Mend what it names, commit and try again.",
  });
}

/** What init has settled on is what counts, whatever files the repository has. @throws INFRA_INVALID */
async function proveBackend(workspace: Workspace, backend: Backend, dir: string): Promise<StateIn> {
  const text = await readFile(join(workspace.dataDir, "terraform.tfstate"), "utf8").catch(() => "{}");
  const { backend: found } = Initialised.parse(JSON.parse(text));
  const wanted = backend.type === "shipway" ? "http" : backend.type;
  const isOurs = backend.type !== "shipway" || (found?.config.address ?? null) === null;
  if (found?.type === wanted && isOurs) return { type: backend.type, config: namesOf(backend, found.config) };
  throw fail("INFRA_INVALID", {
    message: `After init, the state of ${dir} would lie in a backend "${found?.type ?? "local"}" and not where it should ("${wanted}").`,
    hint: "Remove what sets another backend in that folder (`grep -rn backend`), and commit.",
  });
}

const Initialised = z.object({
  backend: z.object({ type: z.string(), config: z.record(z.string(), z.unknown()).default({}) }).optional(),
});

/** What says where it lies. A credential that the code itself has in clear is none of it. */
function namesOf({ type }: Backend, config: Record<string, unknown>): Record<string, string> {
  if (type === "shipway") return {};
  const entries = Object.entries(config).filter(([name]) => NAMES_A_PLACE.has(name));
  return Object.fromEntries(
    // An address may carry its own password.
    entries.flatMap(([name, value]) => (typeof value === "string" && !value.includes("@") ? [[name, value]] : [])),
  );
}

/** Of Terraform's own backends: s3, gcs, azurerm, http, consul, kubernetes, cos, oss, pg. */
const NAMES_A_PLACE = new Set(
  "bucket key region prefix storage_account_name container_name address path secret_suffix namespace schema_name".split(
    " ",
  ),
);
