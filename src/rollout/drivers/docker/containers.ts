import type Docker from "dockerode";
import type { Place } from "../../release.ts";
import { asking, askingUnless } from "./docker-errors.ts";
import { LABEL, labelFilter, networkName, placeLabels, type Role } from "./names.ts";

/** A container of a place as one list call shows it. */
export type SeenContainer = {
  id: string;
  /** As on the engine, with the instance's prefix. */
  containerName: string;
  role: Role;
  service: string;
  /** Absent for backing services. */
  release: number | undefined;
  /** The task's name, or the key of a one-off run, or the name of a backing service. */
  name: string;
  state: "created" | "running" | "paused" | "restarting" | "exited" | "dead" | "removing";
  /** Its fixed address in the place's network. */
  address: string | undefined;
};

/** All containers of a place, whatever their state. */
export async function listContainers(docker: Docker, instance: string, place: Place): Promise<SeenContainer[]> {
  const filters = { label: labelFilter(placeLabels(instance, place)) };
  const found = await asking("Listing containers", () => docker.listContainers({ all: true, filters }));
  return found.map((one) => seen(one, networkName(instance, place)));
}

export type SeenTask = Pick<SeenContainer, "id" | "name" | "service" | "release" | "state"> & {
  place: Place;
  /** By the check of its image. */
  isUnhealthy: boolean;
};

/** The tasks of every place of an installation, whatever their state. */
export async function listTasks(docker: Docker, instance: string): Promise<SeenTask[]> {
  const role: Role = "task";
  const filters = { label: labelFilter({ [LABEL.instance]: instance, [LABEL.role]: role }) };
  const found = await asking("Listing containers", () => docker.listContainers({ all: true, filters }));
  return found.map((info) => {
    const place = { app: info.Labels[LABEL.app] ?? "", environment: info.Labels[LABEL.environment] ?? "" };
    return { ...seen(info, networkName(instance, place)), place, isUnhealthy: /\(unhealthy\)/.test(info.Status) };
  });
}

function seen(info: Docker.ContainerInfo, network: string): SeenContainer {
  const label = (name: string) => info.Labels[name];
  const release = label(LABEL.release);
  const endpoint = info.NetworkSettings?.Networks[network];
  const fixed = (endpoint?.IPAMConfig as { IPv4Address?: string } | null | undefined)?.IPv4Address;
  return {
    id: info.Id,
    containerName: (info.Names[0] ?? info.Id).replace(/^\//, ""),
    role: (label(LABEL.role) ?? "task") as Role,
    service: label(LABEL.service) ?? "",
    release: release === undefined ? undefined : Number(release),
    name: label(LABEL.task) ?? label(LABEL.run) ?? label(LABEL.service) ?? "",
    state: info.State as SeenContainer["state"],
    address: fixed || endpoint?.IPAddress || undefined,
  };
}

/** Runs `work` for all of them side by side; the first error is thrown after every one has ended, so none is left running unseen. */
export async function sideBySide<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const ended = await Promise.allSettled(items.map(work));
  for (const one of ended) if (one.status === "rejected") throw one.reason;
}

export async function pauseContainer(docker: Docker, id: string): Promise<void> {
  // 409: paused already, or not running; the caller looks at what it sees afterwards.
  await askingUnless([404, 409], "Pausing a task", () => docker.getContainer(id).pause());
}

/** SIGTERM, the container's own stop timeout, SIGKILL, gone. A container that is gone already is no error. */
/** Ends it gracefully within its own stop timeout, or within `atMostS` seconds. */
export async function stopContainer(docker: Docker, id: string, atMostS?: number): Promise<void> {
  const container = docker.getContainer(id);
  const limit = atMostS === undefined ? {} : { t: atMostS };
  await askingUnless([304, 404], "Stopping a task", () => container.stop(limit));
  await removeContainer(docker, id);
}

export async function removeContainer(docker: Docker, id: string): Promise<void> {
  // 409: its removal is in progress already.
  await askingUnless([404, 409], "Removing a task", () => docker.getContainer(id).remove({ force: true, v: true }));
}
