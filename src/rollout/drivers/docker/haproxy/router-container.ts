import { createHash } from "node:crypto";
import { setTimeout as after } from "node:timers/promises";
import type Docker from "dockerode";
import { fail, hasCode } from "../../../../shared/errors.ts";
import { asking, askingUnless } from "../docker-errors.ts";
import { CONFIG_FILE, MASTER_SOCKET, MOUNT, OUTSIDE_PORT } from "./render-config.ts";

export type RouterContainerOptions = {
  docker: Docker;
  image: string;
  dir: string;
  httpPort: number;
  bindAddress: string;
  name: string;
  /** The router's own network, through which its published port is led. */
  network: string;
  labels: Record<string, string>;
  user: { uid: number; gid: number };
};

const CONFIG_LABEL = "shipway.router.config";

/** Makes the container run as declared. One that does already is left alone; one declared otherwise is replaced. Says what it did. */
export async function ensureContainer(options: RouterContainerOptions): Promise<"adopted" | "started" | "created"> {
  const wanted = describeContainer(options);
  const found = await inspectRouter(options);
  const same = found?.Config.Labels[CONFIG_LABEL] === wanted.Labels[CONFIG_LABEL];
  if (found && same && found.State.Running && !found.State.Paused) return "adopted";
  if (found && same) {
    await startContainer(options);
    return "started";
  }
  await ensureImage(options);
  await ensureNetwork(options);
  if (found) await removeContainer(options);
  await asking(`Creating the router ${options.name}`, () => options.docker.createContainer(wanted));
  await startContainer(options);
  return "created";
}

export async function isRunning(options: RouterContainerOptions): Promise<boolean> {
  return (await inspectRouter(options))?.State.Running === true;
}

export async function removeContainer({ docker, name }: RouterContainerOptions): Promise<void> {
  const container = docker.getContainer(name);
  await askingUnless([404], `Removing the router ${name}`, () => container.remove({ force: true }));
}

/** The base network, if nobody else is in it (403). */
export async function removeNetwork({ docker, network }: RouterContainerOptions): Promise<void> {
  await askingUnless([403, 404], `Removing network ${network}`, () => docker.getNetwork(network).remove());
}

/** What the router wrote to its log since `since` (seconds since 1970), for an error to show. */
export async function lastLines({ docker, name }: RouterContainerOptions, since: number): Promise<string[]> {
  const log = await docker
    .getContainer(name)
    .logs({ stdout: true, stderr: true, since, tail: 50 })
    .catch(() => Buffer.alloc(0));
  return demultiplex(log)
    .split("\n")
    .filter((line) => /ALERT|WARNING|error/i.test(line));
}

/**
 * Lets the router's own HAProxy judge a configuration that is not in force yet.
 * @returns its complaints; empty when the file is good
 */
export async function checkConfig({ docker, name }: RouterContainerOptions, file: string): Promise<string[]> {
  return await asking("Checking the router's configuration", async () => {
    const exec = await docker.getContainer(name).exec({
      Cmd: ["haproxy", "-c", "-f", `${MOUNT}/${file}`],
      AttachStdout: true,
      AttachStderr: true,
    });
    const stream = await exec.start({});
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    const exitCode = await exitCodeOf(exec);
    if (exitCode === 0) return [];
    const lines = demultiplex(Buffer.concat(chunks))
      .split("\n")
      .filter((line) => line.trim() !== "");
    return lines.length > 0 ? lines : [`haproxy -c ended with ${exitCode}`];
  });
}

/** The engine closes the stream a moment before it has noted the exit code. */
async function exitCodeOf(exec: Docker.Exec): Promise<number | null> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const { ExitCode, Running } = await exec.inspect();
    if (!Running) return ExitCode;
    await after(10);
  }
  return null;
}

/** Connects the router to a network under a fixed address; a connection with another address is replaced. */
export async function connectRouter(options: RouterContainerOptions, network: string, address: string): Promise<void> {
  const found = (await inspectRouter(options))?.NetworkSettings.Networks[network];
  // A stopped container has no IPAddress, but keeps the address it asked for.
  if (found && (found.IPAddress === address || configuredAddress(found) === address)) return;
  if (found) await disconnectRouter(options, network);
  await asking(`Attaching the router to ${network}`, () =>
    options.docker.getNetwork(network).connect({
      Container: options.name,
      EndpointConfig: { IPAMConfig: { IPv4Address: address } },
    }),
  );
}

/** The router's address in each network it is in. */
export async function attachedNetworks(options: RouterContainerOptions): Promise<Record<string, string>> {
  const networks = (await inspectRouter(options))?.NetworkSettings.Networks ?? {};
  return Object.fromEntries(Object.entries(networks).map(([name, { IPAddress }]) => [name, IPAddress]));
}

export async function disconnectRouter({ docker, name }: RouterContainerOptions, network: string): Promise<void> {
  // 404: the network or the container is gone; 500/403 with "is not connected" is told apart by looking first.
  const container = await askingUnless([404], "Reading the router", () => docker.getContainer(name).inspect());
  if (!container?.NetworkSettings.Networks[network]) return;
  await askingUnless([404], `Detaching the router from ${network}`, () =>
    docker.getNetwork(network).disconnect({ Container: name, Force: true }),
  );
}

function configuredAddress(endpoint: { IPAMConfig?: unknown }): string | undefined {
  const config = endpoint.IPAMConfig;
  if (typeof config !== "object" || config === null || !("IPv4Address" in config)) return undefined;
  return String(config.IPv4Address);
}

async function inspectRouter({ docker, name }: RouterContainerOptions) {
  return await askingUnless([404], `Reading the router ${name}`, () => docker.getContainer(name).inspect());
}

async function ensureImage({ docker, image }: RouterContainerOptions): Promise<void> {
  const present = await askingUnless([404], `Reading image ${image}`, () => docker.getImage(image).inspect());
  if (present) return;
  try {
    const stream = await docker.pull(image);
    await new Promise<void>((resolve, reject) => {
      docker.modem.followProgress(stream, (error) => (error ? reject(error) : resolve()));
    });
  } catch (cause) {
    throw fail("IMAGE_UNAVAILABLE", {
      message: `The router's image ${image} is not on this machine and could not be pulled: ${messageOf(cause)}`,
      hint: "Make it with `scripts/offline-images haproxy`, or check that this machine reaches the image registry.",
      cause,
    });
  }
}

async function ensureNetwork({ docker, network, labels }: RouterContainerOptions): Promise<void> {
  const present = await askingUnless([404], `Reading network ${network}`, () => docker.getNetwork(network).inspect());
  if (present) return;
  await askingUnless([409], `Creating network ${network}`, () =>
    docker.createNetwork({ Name: network, CheckDuplicate: true, Labels: { ...labels, "shipway.role": "router" } }),
  );
}

async function startContainer(options: RouterContainerOptions): Promise<void> {
  const { docker, name, httpPort, bindAddress } = options;
  const container = docker.getContainer(name);
  const state = (await container.inspect()).State;
  try {
    if (state.Paused) await askingUnless([304, 409], `Resuming the router ${name}`, () => container.unpause());
    await askingUnless([304], `Starting the router ${name}`, () => container.start());
  } catch (error) {
    if (!hasCode(error, "PORT_IN_USE")) throw error;
    // Left behind it would try again with every start of the engine, and win the port from whoever has it.
    await removeContainer(options);
    // 403: somebody else's container is in it.
    await askingUnless([403, 404, 409], `Removing network ${options.network}`, () =>
      docker.getNetwork(options.network).remove(),
    );
    throw fail("PORT_IN_USE", {
      message: `The router cannot listen on ${bindAddress}:${httpPort}: something else on this machine does.`,
      hint: `See what with \`ss -ltnp sport = :${httpPort}\`, or choose another port with \`--http-port\`.`,
      cause: error,
    });
  }
}

/** A pure description; its hash tells whether a running container was made from the same one. */
function describeContainer(options: RouterContainerOptions) {
  const { image, dir, httpPort, bindAddress, name, network, labels, user } = options;
  const description = {
    Image: image,
    Entrypoint: ["haproxy"],
    // In master-worker mode a reload starts a worker beside the old one, which ends when its connections do.
    Cmd: ["-W", "-db", "-S", `${MOUNT}/${MASTER_SOCKET},mode,600`, "-f", `${MOUNT}/${CONFIG_FILE}`],
    WorkingDir: "/",
    User: `${user.uid}:${user.gid}`,
    ExposedPorts: { [`${OUTSIDE_PORT}/tcp`]: {} },
    HostConfig: {
      Binds: [`${dir}:${MOUNT}`],
      PortBindings: { [`${OUTSIDE_PORT}/tcp`]: [{ HostIp: bindAddress, HostPort: String(httpPort) }] },
      NetworkMode: network,
      RestartPolicy: { Name: "unless-stopped" },
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges"],
      // Port 80 for a user without capabilities.
      Sysctls: { "net.ipv4.ip_unprivileged_port_start": "0" },
      Memory: 512 * 1024 * 1024,
      // Every request of every app passes here: it comes before any one of them, and needs little.
      CpuShares: 4_096,
      PidsLimit: 1_024,
      LogConfig: { Type: "json-file", Config: { "max-size": "10m", "max-file": "3" } },
    },
  };
  const hash = createHash("sha256").update(JSON.stringify(description)).digest("hex").slice(0, 16);
  return {
    name,
    ...description,
    Labels: { ...labels, "shipway.role": "router", [CONFIG_LABEL]: hash },
  };
}

/** Docker frames the two streams of a container without a terminal: 8 bytes of header, the last 4 of them the length. */
function demultiplex(buffer: Buffer): string {
  const parts: string[] = [];
  for (let at = 0; at + 8 <= buffer.length; ) {
    const length = buffer.readUInt32BE(at + 4);
    parts.push(buffer.toString("utf8", at + 8, at + 8 + length));
    at += 8 + length;
  }
  return parts.join("");
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));
