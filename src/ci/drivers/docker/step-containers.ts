import type Docker from "dockerode";
import { fail } from "../../../shared/errors.ts";
import type { ImageLogin } from "../../executor.ts";
import { messageOf, statusOf, toDockerError } from "./docker-errors.ts";

export type Role = "step" | "service" | "holder";

/** What names a container of a step; all of it is in its labels, so that a restarted Shipway finds it. */
export type StepKey = { instance: string; runId: string; stepId: string };

export type NewContainer = {
  role: Role;
  /** Distinguishes services. */
  suffix?: string;
  image: string;
  entrypoint?: string[];
  command?: string[];
  env?: string[];
  user?: string;
  workingDir?: string;
  memoryMiB: number;
  mounts?: { source: string; target: string; readOnly?: boolean }[];
  /** Joins the network of this container. */
  networkOf?: string;
  openStdin?: boolean;
  labels?: Record<string, string>;
};

/** A step may fork a lot (browsers, compilers), a fork bomb may not take the machine. */
// An eighth of what the smallest task has (its CPU units are its shares) when both want the processor: tests must not starve what serves.
const STEP_CPU_SHARES = 32;
const MOST_PROCESSES = 4_096;

export function newStepContainers(docker: Docker) {
  const pulls = new Map<string, Promise<void>>();
  let hostMemory: Promise<number> | undefined;

  async function memoryBytes(wantedMiB: number): Promise<number> {
    hostMemory ??= docker.info().then((info: { MemTotal: number }) => info.MemTotal);
    return Math.min(wantedMiB * 1024 * 1024, await hostMemory);
  }

  async function pull(image: string, login: ImageLogin | undefined): Promise<void> {
    try {
      const stream = await docker.pull(
        withTag(image),
        login ? { authconfig: { ...login, serveraddress: registryOf(image) } } : {},
      );
      await new Promise<void>((resolve, reject) => {
        docker.modem.followProgress(stream, (error) => (error ? reject(error) : resolve()));
      });
    } catch (error) {
      const mapped = toDockerError(error, `pull the image ${image}`);
      if ("code" in mapped && (mapped.code === "DISK_FULL" || mapped.code === "DOCKER_UNREACHABLE")) throw mapped;
      throw fail("IMAGE_UNAVAILABLE", {
        message: `The image ${image} is not on this machine and cannot be pulled: ${messageOf(error)}`,
        hint: login
          ? "Check its name and tag, and the values that its `username` and `password` take: `shipway secret list --pipelines` shows when each was set."
          : `Check its name and tag, or bring it here with \`docker pull ${image}\` or \`docker load\`. A private registry needs \`username\` and \`password\`.`,
        cause: error,
      });
    }
  }

  return {
    /** Makes sure that the image is here. Steps that want the same one wait for one pull. Returns whether it had to be pulled. */
    async ensureImage(image: string, login?: ImageLogin): Promise<{ info: Docker.ImageInspectInfo; pulled: boolean }> {
      const inspect = () => docker.getImage(withTag(image)).inspect();
      try {
        return { info: await inspect(), pulled: false };
      } catch (error) {
        if (statusOf(error) !== 404) throw toDockerError(error, `look for the image ${image}`);
      }
      const running = pulls.get(image) ?? pull(image, login);
      pulls.set(image, running);
      try {
        await running;
      } finally {
        pulls.delete(image);
      }
      return { info: await inspect(), pulled: true };
    },

    async create(key: StepKey, wanted: NewContainer): Promise<Docker.Container> {
      const memory = await memoryBytes(wanted.memoryMiB);
      const name = ["shipway-ci", key.instance, key.runId, key.stepId, wanted.suffix ?? wanted.role].join("-");
      return docker.createContainer({
        name: name.replace(/[^A-Za-z0-9_.-]/g, "_"),
        Image: withTag(wanted.image),
        ...(wanted.entrypoint ? { Entrypoint: wanted.entrypoint } : {}),
        ...(wanted.command ? { Cmd: wanted.command } : {}),
        ...(wanted.env ? { Env: wanted.env } : {}),
        ...(wanted.user === undefined ? {} : { User: wanted.user }),
        ...(wanted.workingDir ? { WorkingDir: wanted.workingDir } : {}),
        ...(wanted.openStdin ? { OpenStdin: true } : {}),
        Labels: { ...wanted.labels, ...labelsOf(key), "shipway.role": wanted.role },
        HostConfig: {
          Memory: memory,
          CpuShares: STEP_CPU_SHARES,
          // Without this a container may use as much swap again before it is stopped.
          MemorySwap: memory,
          PidsLimit: MOST_PROCESSES,
          NetworkMode: wanted.networkOf ? `container:${wanted.networkOf}` : "default",
          // Read back after a restart, so it must be kept by the engine, whatever driver its administrator set.
          LogConfig: { Type: "json-file", Config: { "max-size": "1g" } },
          Mounts: (wanted.mounts ?? []).map(({ source, target, readOnly = false }) => ({
            Type: "bind" as const,
            Source: source,
            Target: target,
            ReadOnly: readOnly,
          })),
        },
      });
    },

    /** All containers of a step, or of a run when `stepId` is left out, also ended ones. */
    async list(key: Omit<StepKey, "stepId"> & { stepId?: string }): Promise<Docker.ContainerInfo[]> {
      const filters = { label: Object.entries(labelsOf(key)).map(([name, value]) => `${name}=${value}`) };
      return docker.listContainers({ all: true, filters });
    },

    /** Runs that have containers here. One-off commands of rollouts have a run too, but no step. */
    async runs(instance: string): Promise<string[]> {
      const filters = { label: [`shipway.instance=${instance}`, "shipway.step"] };
      const found = await docker.listContainers({ all: true, filters });
      return [...new Set(found.flatMap(({ Labels }) => Labels["shipway.run"] ?? []))];
    },

    async remove(ids: readonly string[]): Promise<void> {
      await Promise.all(
        ids.map(async (id) => {
          const container = docker.getContainer(id);
          try {
            await container.remove({ force: true, v: true });
          } catch (error) {
            if (statusOf(error) === 404) return;
            if (statusOf(error) !== 409) throw toDockerError(error, "remove a container");
            // Another call is removing it; its end is ours too.
            await container.wait({ condition: "removed" }).catch(() => undefined);
          }
        }),
      );
    },

    /** Removes a directory by a container, for files that belong to root where Shipway is another user. */
    async removeAsRoot(image: string, parent: string, name: string): Promise<void> {
      const container = await docker.createContainer({
        Image: withTag(image),
        Entrypoint: ["/bin/rm"],
        Cmd: ["-rf", "--", `/shipway-trash/${name}`],
        User: "0",
        HostConfig: { NetworkMode: "none", Mounts: [{ Type: "bind", Source: parent, Target: "/shipway-trash" }] },
      });
      try {
        await container.start();
        await container.wait();
      } finally {
        await container.remove({ force: true });
      }
    },
  };
}

export type StepContainers = ReturnType<typeof newStepContainers>;

function labelsOf(key: Omit<StepKey, "stepId"> & { stepId?: string }): Record<string, string> {
  return {
    "shipway.instance": key.instance,
    "shipway.run": key.runId,
    ...(key.stepId === undefined ? {} : { "shipway.step": key.stepId }),
  };
}

/** The engine takes a name without a tag to mean all of its tags. */
function withTag(image: string): string {
  const last = image.slice(image.lastIndexOf("/") + 1);
  return last.includes(":") || image.includes("@") ? image : `${image}:latest`;
}

function registryOf(image: string): string {
  const first = image.split("/")[0] ?? "";
  const isHost = image.includes("/") && /[.:]|^localhost$/.test(first);
  return isHost ? first : "docker.io";
}

export function toDockerEnv(variables: Record<string, string>): string[] {
  return Object.entries(variables).map(([name, value]) => `${name}=${value}`);
}
