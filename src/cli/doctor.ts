import { formatBytes } from "./format.ts";

/** One thing that was looked at; `fix` says what to do when it is not ok. `skip`: it was not come to. `figures`: what was measured, by name with its unit. */
export type Check = {
  name: string;
  status: "ok" | "warn" | "fail" | "skip";
  found: string;
  fix?: string;
  figures?: Record<string, number>;
};

/** What the checks ask of the machine. `machine-facts.ts` answers from the real one. */
export type DoctorDeps = {
  /** Version and state of the Docker Engine. Rejects when it cannot be reached. */
  docker(): Promise<DockerFacts>;
  /** The first line a program prints; undefined when there is no such program. */
  versionOf(argv: readonly [string, ...string[]]): Promise<string | undefined>;
  /** Whether git brings the program that serves repositories over HTTP. */
  hasGitHttpBackend(): Promise<boolean>;
  /** Who has a port: nobody, a Shipway of ours, or something else. */
  portOwner(port: number): Promise<"free" | "ours" | "other">;
  freeBytes(path: string): Promise<number>;
  totalMemoryBytes(): number;
  now(): number;
};
export type DockerFacts = {
  version: string;
  /** The engine's own clock, ms since 1970. */
  clockMs: number;
  rootDir: string;
  /** Names with tag of the images that are there. */
  images: string[];
};
export type DoctorOptions = {
  dataDir: string;
  ports: { port: number; purpose: string; flag: string }[];
  /** Needed before any image can be built or traffic carried. */
  baseImages: string[];
  /** The program that runs infrastructure; undefined: terraform or tofu, whichever is there. */
  terraform: string | undefined;
};

const GIB = 1024 ** 3;
const OLDEST_DOCKER = [20, 10] as const;
const OLDEST_GIT = [2, 20] as const;
/** Import blocks, which recovery needs. */
const OLDEST_TERRAFORM = [1, 5] as const;
const DISK_WARN = 10 * GIB;
const DISK_FAIL = 2 * GIB;
/** Postgres, HAProxy, builds and one small app; below this the kernel starts to kill. */
const MEMORY_WARN = 2 * GIB;
const CLOCK_WARN_MS = 5_000;

/** Looks at everything Shipway rests on. Never throws: what cannot be found out is a failed check. Order: what others depend on first. */
export async function runDoctor(deps: DoctorDeps, options: DoctorOptions): Promise<Check[]> {
  const facts = await deps
    .docker()
    .catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))));
  const docker = facts instanceof Error ? undefined : facts;
  const checks = [
    facts instanceof Error ? dockerUnreachable(facts) : checkDocker(facts.version),
    ...(await Promise.all([
      guarded("git", async () => checkGit(await deps.versionOf(["git", "--version"]))),
      guarded("git http-backend", async () => checkHttpBackend(await deps.hasGitHttpBackend())),
      guarded("Terraform", async () =>
        checkTerraform(await firstTerraform(deps, options.terraform), options.terraform),
      ),
      ...options.ports.map((port) =>
        guarded(`port ${port.port}`, async () => checkPort(port, await deps.portOwner(port.port))),
      ),
      guarded("disk", async () =>
        checkDisk("disk for Shipway's data", options.dataDir, await deps.freeBytes(options.dataDir)),
      ),
      ...(docker ? [guarded("Docker's disk", async () => checkDockerDisk(deps, docker.rootDir))] : []),
      guarded("memory", async () => checkMemory(deps.totalMemoryBytes())),
      ...(docker ? [guarded("clock", async () => checkClock(docker.clockMs - deps.now()))] : []),
      ...(docker ? [guarded("base images", async () => checkBaseImages(docker.images, options.baseImages))] : []),
    ])),
  ];
  return checks.filter((check) => check !== undefined);
}

async function guarded(name: string, check: () => Promise<Check | undefined>): Promise<Check | undefined> {
  return check().catch((error: unknown) => ({
    name,
    status: "fail" as const,
    found: `could not be found out: ${error instanceof Error ? error.message : String(error)}`,
    fix: "Run `shipway doctor` as the user that runs `shipway up`.",
  }));
}

function dockerUnreachable(error: Error): Check {
  const denied = "code" in error && error.code === "EACCES";
  return {
    name: "Docker Engine",
    status: "fail",
    found: `cannot be reached: ${error.message}`,
    fix: denied
      ? "Your user may not use Docker: `sudo usermod -aG docker $USER`, then sign in again."
      : "Start it (`sudo systemctl start docker`) or install it (`scripts/setup` does on Debian and Ubuntu).",
  };
}

function checkDocker(version: string): Check {
  const name = "Docker Engine";
  if (isAtLeast(version, OLDEST_DOCKER)) return { name, status: "ok", found: `${version}, builds with BuildKit` };
  return {
    name,
    status: "fail",
    found: `${version}, which is older than ${OLDEST_DOCKER.join(".")}: it has no BuildKit that Shipway can use`,
    fix: "Update Docker Engine: https://docs.docker.com/engine/install/",
  };
}

function checkGit(firstLine: string | undefined): Check {
  const version = /\d+\.\d+(\.\d+)?/.exec(firstLine ?? "")?.[0];
  if (version === undefined) {
    return { name: "git", status: "fail", found: "not installed", fix: "Install it: `sudo apt-get install git`" };
  }
  if (isAtLeast(version, OLDEST_GIT)) return { name: "git", status: "ok", found: version };
  const found = `${version}, which is older than ${OLDEST_GIT.join(".")}`;
  return { name: "git", status: "fail", found, fix: "Update git." };
}

function checkHttpBackend(present: boolean): Check {
  const name = "git http-backend";
  if (present) return { name, status: "ok", found: "present" };
  return {
    name,
    status: "fail",
    found: "not installed, so nothing can be pushed",
    fix: "Install git's full package (`sudo apt-get install git`; on Alpine `apk add git-daemon`).",
  };
}

async function firstTerraform(deps: DoctorDeps, named: string | undefined) {
  for (const program of named === undefined ? ["terraform", "tofu"] : [named]) {
    const version = await deps.versionOf([program, "version"]);
    if (version !== undefined) return { program, version };
  }
  return undefined;
}

function checkTerraform(found: { program: string; version: string } | undefined, named: string | undefined): Check {
  const name = "Terraform";
  if (found === undefined) {
    return named === undefined
      ? {
          name,
          status: "warn",
          found: "neither terraform nor tofu is installed (only apps with their own infrastructure code need one)",
          fix: "Install Terraform or OpenTofu when an environment of yours declares `infra`.",
        }
      : {
          name,
          status: "fail",
          found: `${named}, which SHIPWAY_TERRAFORM names, cannot be run`,
          fix: "Name the program by its full path in SHIPWAY_TERRAFORM, or unset it to use what is on the PATH.",
        };
  }
  const { program, version } = found;
  const number = /\d+\.\d+/.exec(version)?.[0];
  if (number === undefined || isAtLeast(number, OLDEST_TERRAFORM))
    return { name, status: "ok", found: `${version} (${program})` };
  return {
    name,
    status: "warn",
    found: `${version} (${program}), which is older than ${OLDEST_TERRAFORM.join(".")}`,
    fix: "Update it: Shipway needs its JSON output and import blocks.",
  };
}

function checkPort({ port, purpose, flag }: DoctorOptions["ports"][number], owner: "free" | "ours" | "other"): Check {
  const name = `port ${port}`;
  if (owner === "free") return { name, status: "ok", found: `free (${purpose})` };
  if (owner === "ours") return { name, status: "ok", found: `served by Shipway (${purpose})` };
  return {
    name,
    status: "fail",
    found: `taken by another program (${purpose})`,
    fix: `Stop that program (\`ss -ltnp 'sport = :${port}'\` names it), or take another port: \`shipway up ${flag} N\``,
  };
}

async function checkDockerDisk(deps: DoctorDeps, rootDir: string): Promise<Check | undefined> {
  // With Docker Desktop or a remote engine its directory is not on this machine: there is nothing to measure here.
  const free = await deps.freeBytes(rootDir).catch(() => undefined);
  return free === undefined ? undefined : checkDisk("disk for Docker's images", rootDir, free);
}

function checkDisk(name: string, path: string, freeBytes: number): Check {
  const found = `${formatBytes(freeBytes)} free (${path})`;
  if (freeBytes >= DISK_WARN) return { name, status: "ok", found };
  return {
    name,
    status: freeBytes < DISK_FAIL ? "fail" : "warn",
    found,
    fix: "Make room: `docker image prune` removes images that nothing uses and no tag names; `docker builder prune` old build cache.",
  };
}

function checkMemory(totalBytes: number): Check {
  const found = formatBytes(totalBytes);
  if (totalBytes >= MEMORY_WARN) return { name: "memory", status: "ok", found };
  return {
    name: "memory",
    status: "warn",
    found,
    fix: `Give the machine at least ${formatBytes(MEMORY_WARN)}: during a rollout the old and the new tasks run side by side.`,
  };
}

function checkClock(aheadMs: number): Check {
  const seconds = Math.round(Math.abs(aheadMs) / 1_000);
  if (Math.abs(aheadMs) <= CLOCK_WARN_MS) return { name: "clock", status: "ok", found: "agrees with Docker's" };
  return {
    name: "clock",
    status: "warn",
    found: `Docker's clock is ${seconds} s ${aheadMs > 0 ? "ahead of" : "behind"} this program's`,
    fix: "Turn time synchronisation on (`sudo timedatectl set-ntp true`); with Docker Desktop, restart it.",
  };
}

function checkBaseImages(present: readonly string[], needed: readonly string[]): Check {
  const name = "base images";
  const missing = needed.filter((image) => !present.includes(image));
  if (missing.length === 0) return { name, status: "ok", found: needed.join(", ") };
  return {
    name,
    status: "warn",
    found: `not here yet: ${missing.join(", ")}`,
    fix: "They are pulled when first needed; without a registry, `scripts/offline-images` makes them.",
  };
}

/** Compares major and minor; what follows them (`+dfsg1`, `-rc1`) does not matter here. */
function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const match = /^(\d+)\.(\d+)/.exec(version);
  if (!match) return false;
  const [have, haveMinor] = [Number(match[1]), Number(match[2])];
  return have > major || (have === major && haveMinor >= minor);
}
