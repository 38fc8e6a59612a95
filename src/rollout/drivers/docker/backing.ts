import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { fail } from "../../../shared/errors.ts";
import type { LogSink } from "../../../shared/log-line.ts";
import { Secret } from "../../../shared/secret.ts";
import { sleep } from "../../../shared/until.ts";
import type { BackingSpec } from "../../../spec/app-spec.ts";
import type { Place } from "../../release.ts";
import type { Backing, BackingVariables } from "../../target.ts";
import { lastLines } from "./container-logs.ts";
import { confinement, networking } from "./container-options.ts";
import { type SeenContainer, stopContainer } from "./containers.ts";
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

type Context = {
  docker: Docker;
  instance: string;
  place: Place;
  network: string;
  /** Gives out an address of the network that nobody has. */
  lendAddress: <T>(use: (address: string) => Promise<T>) => Promise<T>;
  seen: SeenContainer[];
  log: LogSink;
  signal: AbortSignal | undefined;
  /** Container id → start time of those that answered a query since: a rollback does not wait for them to answer again. */
  proofs: Map<string, string>;
};

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
  const existing = context.seen.find((one) => one.role === "backing" && one.service === backing.name);
  if (existing !== undefined) {
    const info = await askingUnless([404], "Looking at a backing service", () =>
      docker.getContainer(existing.id).inspect(),
    );
    if (info?.Config.Labels[LABEL.spec] === spec) {
      if (!info.State.Running) await startAgain(docker, existing.id, backing.name);
      return existing.id;
    }
    say(log, `${backing.name} is to run ${image}: replacing its container, keeping its data.`);
    await stopContainer(docker, existing.id);
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
        ...confinement({ cpu: 1_024, memoryMiB: engine.memoryMiB }),
        RestartPolicy: { Name: "unless-stopped" },
        Binds: [`${await ensureVolume(context, backing.name)}:${engine.dataDir}`],
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

async function ensureVolume({ docker, instance, place }: Context, name: string): Promise<string> {
  const volume = volumeName(instance, place, name);
  await asking(`Creating volume ${volume}`, () =>
    docker.createVolume({ Name: volume, Labels: { ...placeLabels(instance, place), [LABEL.service]: name } }),
  );
  return volume;
}

async function startAgain(docker: Docker, id: string, name: string): Promise<void> {
  await askingUnless([304], `Starting ${name}`, () => docker.getContainer(id).start());
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
