import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { fail } from "../../../shared/errors.ts";
import type { LogSink } from "../../../shared/log-line.ts";
import { Secret } from "../../../shared/secret.ts";
import { sleep } from "../../../shared/until.ts";
import type { BackingSpec } from "../../../spec/app-spec.ts";
import type { Place } from "../../release.ts";
import type { Backing, BackingVariables, KeptData, ObservedBacking } from "../../target.ts";
import { lastLines } from "./container-logs.ts";
import { confinement, networking } from "./container-options.ts";
import { listContainers, type SeenContainer, stopContainer } from "./containers.ts";
import { asking, askingUnless, toDockerError } from "./docker-errors.ts";
import { execIn } from "./exec.ts";
import { backingName, LABEL, placeLabels, volumeName } from "./names.ts";

/** How one engine is run: its public image's own conventions. */
type Engine = {
  image: string;
  defaultVersion: string;
  port: number;
  dataDir: string;
  memoryMiB: number;
  command?: string[];
  /** Variables the image makes user and database from, when its data directory is empty. */
  env(account: Account): Record<string, string>;
  /** A real query: an open port says little, since databases open it while they still prepare their data. Secrets go by `env`, never as arguments. */
  ready(account: Account): { command: string[]; env: string[] };
  url(account: Account, host: string): string;
  hasAccount: boolean;
};

type Account = { user: string; password: string; database: string };

const ENGINES: Record<BackingSpec["engine"], Engine> = {
  mariadb: {
    image: "mariadb",
    defaultVersion: "10.11",
    port: 3306,
    dataDir: "/var/lib/mysql",
    memoryMiB: 1_024,
    // The default pool is 128 MiB as well; naming it keeps a later default from filling a small machine.
    command: ["mariadbd", "--innodb-buffer-pool-size=128M", "--character-set-server=utf8mb4"],
    env: ({ user, password, database }) => ({
      MARIADB_ROOT_PASSWORD: password,
      MARIADB_USER: user,
      MARIADB_PASSWORD: password,
      MARIADB_DATABASE: database,
    }),
    // Over TCP: the temporary server of the first start listens on its socket only.
    ready: ({ user, password, database }) => ({
      command: ["mariadb", "-h127.0.0.1", `-u${user}`, "-e", "select 1", database],
      env: [`MYSQL_PWD=${password}`],
    }),
    url: mysqlUrl,
    hasAccount: true,
  },
  mysql: {
    image: "mysql",
    defaultVersion: "8.4",
    port: 3306,
    dataDir: "/var/lib/mysql",
    memoryMiB: 1_024,
    command: ["mysqld", "--innodb-buffer-pool-size=128M"],
    env: ({ user, password, database }) => ({
      MYSQL_ROOT_PASSWORD: password,
      MYSQL_USER: user,
      MYSQL_PASSWORD: password,
      MYSQL_DATABASE: database,
    }),
    ready: ({ user, password, database }) => ({
      command: ["mysql", "-h127.0.0.1", `-u${user}`, "-e", "select 1", database],
      env: [`MYSQL_PWD=${password}`],
    }),
    url: mysqlUrl,
    hasAccount: true,
  },
  postgres: {
    image: "postgres",
    defaultVersion: "16",
    port: 5432,
    dataDir: "/var/lib/postgresql/data",
    memoryMiB: 1_024,
    env: ({ user, password, database }) => ({
      POSTGRES_USER: user,
      POSTGRES_PASSWORD: password,
      POSTGRES_DB: database,
    }),
    ready: ({ user, password, database }) => ({
      command: ["psql", "-h", "127.0.0.1", "-U", user, "-d", database, "-c", "select 1"],
      env: [`PGPASSWORD=${password}`],
    }),
    url: ({ user, password, database }, host) =>
      `postgres://${user}:${encodeURIComponent(password)}@${host}:5432/${database}`,
    hasAccount: true,
  },
  redis: {
    image: "redis",
    defaultVersion: "7",
    port: 6379,
    dataDir: "/data",
    memoryMiB: 512,
    // Append-only, so that a restart loses a second at most. No password: only this environment's network reaches it.
    command: ["redis-server", "--appendonly", "yes"],
    env: () => ({}),
    ready: () => ({ command: ["redis-cli", "ping"], env: [] }),
    url: (_, host) => `redis://${host}:6379`,
    hasAccount: false,
  },
};

/** MariaDB prepares its data directory in some 5 s on a slow disk; MySQL 8 takes up to a minute on a quarter of a core. */
const READY_DEADLINE_MS = 180_000;
const READY_EVERY_MS = 100;
const QUERY_TIMEOUT_MS = 3_000;
const LAST_LINES = 20;
const BACKING_CPU = 1_024;

type Context = {
  docker: Docker;
  instance: string;
  place: Place;
  network: string;
  /** Gives out an address of the network that nobody has. */
  lendAddress: <T>(use: (address: string) => Promise<T>) => Promise<T>;
  log: LogSink;
  signal: AbortSignal | undefined;
  proofs: BackingProofs;
};

/** Container id → start time of those that answered a query since: a rollback does not wait for them to answer again. */
export type BackingProofs = Map<string, string>;

type Seeing = Pick<Context, "docker" | "instance" | "place" | "network" | "proofs">;

/** Starts one backing service unless it runs, and waits until it answers a query. Its volume outlives every container. */
export async function ensureBackingService(context: Context, backing: Backing): Promise<void> {
  const engine = ENGINES[backing.spec.engine];
  const image = imageOf(backing.spec);
  const account = accountOf(context.place, backing);
  const id = await startBacking(context, backing, image, engine);
  const startedAt = await startTimeOf(context.docker, id, backing.name);
  if (context.proofs.get(id) === startedAt) return;
  const { command, env } = engine.ready(account);
  const endsAt = Date.now() + READY_DEADLINE_MS;
  for (;;) {
    const answer = await execIn(context.docker, id, command, { env, timeoutMs: QUERY_TIMEOUT_MS });
    if (answer.exitCode === 0) {
      context.proofs.set(id, startedAt);
      return;
    }
    if (Date.now() >= endsAt) throw await neverReady(context.docker, id, backing, answer.output);
    await sleep(READY_EVERY_MS, context.signal);
  }
}

/** What is there of it, from the container itself. */
export async function observeBackingService(seeing: Seeing, backing: Backing): Promise<ObservedBacking> {
  const engine = ENGINES[backing.spec.engine];
  const image = imageOf(backing.spec);
  const told = {
    name: backing.name,
    host: backing.name,
    port: engine.port,
    variables: Object.keys(backingVariables(seeing.place, backing)),
  };
  const found = await findContainer(seeing, backing.name);
  if (found === undefined) return { ...told, state: "missing", version: tagOf(image), isChanged: false };
  return {
    ...told,
    state: await stateOf(seeing, backing, found),
    version: tagOf(found.Config.Image),
    container: found.Name.replace(/^\//, ""),
    isChanged: found.Config.Labels[LABEL.spec] !== specHash(backing, image),
  };
}

async function stateOf(
  seeing: Seeing,
  backing: Backing,
  found: Docker.ContainerInspectInfo,
): Promise<ObservedBacking["state"]> {
  if (!isReachable(found, seeing.network, backing.name)) return "stopped";
  // Docker is about to start it again by itself.
  if (found.State.Restarting) return "starting";
  if (!found.State.Running || found.State.Paused) return "stopped";
  if (seeing.proofs.get(found.Id) === found.State.StartedAt) return "running";
  const { command, env } = ENGINES[backing.spec.engine].ready(accountOf(seeing.place, backing));
  const answer = await execIn(seeing.docker, found.Id, command, { env, timeoutMs: QUERY_TIMEOUT_MS });
  if (answer.exitCode !== 0) return "starting";
  seeing.proofs.set(found.Id, found.State.StartedAt);
  return "running";
}

/** On the place's network, under its name. */
function isReachable(info: Docker.ContainerInspectInfo, network: string, name: string): boolean {
  const endpoint = info.NetworkSettings.Networks[network] as { Aliases?: string[] | null } | undefined;
  return endpoint?.Aliases?.includes(name) === true;
}

async function findContainer(
  { docker, instance, place }: Pick<Seeing, "docker" | "instance" | "place">,
  name: string,
): Promise<Docker.ContainerInspectInfo | undefined> {
  const seen = (await listContainers(docker, instance, place)).find((one) => isBacking(one, name));
  if (seen === undefined) return undefined;
  return askingUnless([404], `Looking at ${name}`, () => docker.getContainer(seen.id).inspect());
}

const isBacking = (one: SeenContainer, name: string) => one.role === "backing" && one.service === name;

/** Ends it gracefully; its volume goes only where asked. True when there was a container or a volume. */
export async function removeBackingService(
  seeing: Pick<Seeing, "docker" | "instance" | "place" | "proofs">,
  name: string,
  data: KeptData,
): Promise<boolean> {
  const { docker, instance, place } = seeing;
  const container = await findContainer(seeing, name);
  if (container !== undefined) {
    await stopContainer(docker, container.Id);
    seeing.proofs.delete(container.Id);
  }
  if (data === "keep") return container !== undefined;
  const volume = docker.getVolume(volumeName(instance, place, name));
  const removed = await askingUnless([404], `Removing the data of ${name}`, async () => {
    await volume.remove();
    return true;
  });
  return container !== undefined || removed === true;
}

/** `db` → `DB_URL`, `DB_HOST`, `DB_PORT`, and `DB_USER`, `DB_PASSWORD`, `DB_NAME` where the engine has accounts. */
export function backingVariables(place: Place, backing: Backing): BackingVariables {
  const engine = ENGINES[backing.spec.engine];
  const account = accountOf(place, backing);
  const prefix = backing.name.toUpperCase().replaceAll("-", "_");
  const values: Record<string, string> = {
    URL: engine.url(account, backing.name),
    HOST: backing.name,
    PORT: String(engine.port),
    ...(engine.hasAccount ? { USER: account.user, PASSWORD: account.password, NAME: account.database } : {}),
  };
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => {
      const name = `${prefix}_${key}`;
      return [name, new Secret(name, value)];
    }),
  );
}

async function startBacking(context: Context, backing: Backing, image: string, engine: Engine): Promise<string> {
  const { docker, instance, place, log } = context;
  const spec = specHash(backing, image);
  const existing = await findContainer(context, backing.name);
  if (existing !== undefined) {
    const isRight = existing.Config.Labels[LABEL.spec] === spec && isReachable(existing, context.network, backing.name);
    if (isRight) {
      if (existing.State.Paused) await unpause(docker, existing.Id, backing.name);
      else if (!existing.State.Running) await startAgain(docker, existing.Id, backing.name);
      return existing.Id;
    }
    // Its volume may be of a time when volumes did not say which engine made them.
    refuseOtherEngine(backing, engineOf(existing.Config.Image));
  }
  const volume = await ensureVolume(context, backing);
  if (existing !== undefined) {
    say(log, `${backing.name} is to run ${image}: replacing its container, keeping its data.`);
    await stopContainer(docker, existing.Id);
  }
  say(log, `Starting ${backing.name} (${image}).`);
  return await context.lendAddress(async (address) => {
    const options: Docker.ContainerCreateOptions = {
      name: backingName(instance, place, backing.name),
      Image: image,
      ...(engine.command ? { Cmd: engine.command } : {}),
      Env: Object.entries(engine.env(accountOf(place, backing))).map(([name, value]) => `${name}=${value}`),
      Labels: {
        ...placeLabels(instance, place),
        [LABEL.service]: backing.name,
        [LABEL.role]: "backing",
        [LABEL.spec]: spec,
      },
      StopTimeout: 30,
      NetworkingConfig: networking({ network: context.network, address, aliases: [backing.name] }),
      HostConfig: {
        ...confinement({ cpu: BACKING_CPU, memoryMiB: engine.memoryMiB }),
        RestartPolicy: { Name: "unless-stopped" },
        Binds: [`${volume}:${engine.dataDir}`],
      },
    };
    const id = await createWithImage(docker, options, image, log);
    await startAgain(docker, id, backing.name);
    return id;
  });
}

async function startTimeOf(docker: Docker, id: string, name: string): Promise<string> {
  const info = await asking(`Looking at ${name}`, () => docker.getContainer(id).inspect());
  return info.State.StartedAt;
}

/** @throws BACKING_REFUSED when another engine made its data */
async function ensureVolume({ docker, instance, place }: Context, { name, spec }: Backing): Promise<string> {
  const volume = volumeName(instance, place, name);
  const labels = { ...placeLabels(instance, place), [LABEL.service]: name, [LABEL.engine]: spec.engine };
  // A volume that is there is given as it is, with the labels it was made with.
  await asking(`Creating volume ${volume}`, () => docker.createVolume({ Name: volume, Labels: labels }));
  const { Labels } = await asking(`Looking at volume ${volume}`, () => docker.getVolume(volume).inspect());
  refuseOtherEngine({ name, spec }, Labels?.[LABEL.engine]);
  return volume;
}

function refuseOtherEngine({ name, spec }: Pick<Backing, "name" | "spec">, before: string | undefined): void {
  if (before === undefined || before === spec.engine) return;
  throw fail("BACKING_REFUSED", {
    message: `${name} is to run ${spec.engine}, but its kept data were made by ${before}: neither can read the other's.`,
    hint: `Give the new one another name; or, if nobody needs the data: \`shipway backing remove ${name} --data remove\`.`,
  });
}

async function startAgain(docker: Docker, id: string, name: string): Promise<void> {
  await askingUnless([304], `Starting ${name}`, () => docker.getContainer(id).start());
}

async function unpause(docker: Docker, id: string, name: string): Promise<void> {
  // 409 or 500: it is not paused any more.
  await askingUnless([409, 500], `Waking ${name}`, () => docker.getContainer(id).unpause());
}

/** Creates the container, and pulls the image first when it is not there. */
async function createWithImage(
  docker: Docker,
  options: Docker.ContainerCreateOptions,
  image: string,
  log: LogSink,
): Promise<string> {
  const create = async () => (await docker.createContainer(options)).id;
  try {
    return await create();
  } catch (error) {
    const known = toDockerError(error, `Creating ${options.name}`);
    if (!("code" in known) || known.code !== "IMAGE_UNAVAILABLE") throw known;
  }
  say(log, `Pulling ${image}.`);
  await pull(docker, image);
  return await asking(`Creating ${options.name}`, create);
}

async function pull(docker: Docker, image: string): Promise<void> {
  try {
    const progress = await docker.pull(image);
    await new Promise<void>((resolve, reject) => {
      docker.modem.followProgress(progress, (error) => (error ? reject(error) : resolve()));
    });
  } catch (error) {
    throw fail("IMAGE_UNAVAILABLE", {
      message: `The image ${image} is not on this machine and could not be pulled: ${error instanceof Error ? error.message : String(error)}`,
      hint: `Pull it with \`docker pull ${image}\`, or name a version that is here.`,
      cause: error,
    });
  }
}

async function neverReady(docker: Docker, id: string, backing: Backing, answer: string): Promise<Error> {
  const lines = await lastLines(docker, id, LAST_LINES);
  return fail("BACKING_UNHEALTHY", {
    message: `${backing.name} (${imageOf(backing.spec)}) did not answer a query: ${answer || "it gave no output"}\n${lines.join("\n")}`,
    hint: "Its last lines are above. Its data is kept in a volume; a password that differs from the one the data was made with is refused.",
  });
}

function imageOf(spec: BackingSpec): string {
  const engine = ENGINES[spec.engine];
  return `${engine.image}:${spec.version ?? engine.defaultVersion}`;
}

const tagOf = (image: string): string => image.slice(image.lastIndexOf(":") + 1);

/** Which of ours an image is; undefined for a foreign one. */
const engineOf = (image: string): string | undefined =>
  Object.entries(ENGINES).find(([, engine]) => image.startsWith(`${engine.image}:`))?.[0];

/** One account and one database, named by the app: what most frameworks expect. MySQL allows 32 characters for a user. */
function accountOf(place: Place, backing: Backing): Account {
  const name = place.app.replaceAll("-", "_").slice(0, 32);
  return { user: name, password: backing.password.reveal(), database: name };
}

/** Its password is left out: it takes effect only when the data is made, and a hash of it would be a thing to guess it by. */
function specHash(backing: Backing, image: string): string {
  const { command, memoryMiB } = ENGINES[backing.spec.engine];
  return createHash("sha256")
    .update(JSON.stringify([image, command, memoryMiB]))
    .digest("hex")
    .slice(0, 16);
}

function mysqlUrl({ user, password, database }: Account, host: string): string {
  return `mysql://${user}:${encodeURIComponent(password)}@${host}:3306/${database}`;
}

function say(log: LogSink, text: string): void {
  log([{ at: Date.now(), stream: "meta", text }]);
}

/** What a running one is compared with. Its variables count only when its data are made, so they are left out. */
export function backingDeclaration(instance: string, place: Place, backing: Backing) {
  const engine = ENGINES[backing.spec.engine];
  const image = imageOf(backing.spec);
  const options: Docker.ContainerCreateOptions = {
    name: backingName(instance, place, backing.name),
    Image: image,
    ...(engine.command ? { Cmd: engine.command } : {}),
    HostConfig: {
      ...confinement({ cpu: BACKING_CPU, memoryMiB: engine.memoryMiB }),
      RestartPolicy: { Name: "unless-stopped" },
    },
  };
  return { options, spec: specHash(backing, image), dataDir: engine.dataDir };
}
