import type Docker from "dockerode";

/** Removes all containers, volumes, networks and images of one installation, data included. The engine's build cache stays. */
export async function removeInstance(docker: Docker, instance: string): Promise<void> {
  const filters = { label: [`shipway.instance=${instance}`] };
  const containers = await docker.listContainers({ all: true, filters });
  await Promise.all(
    containers.map(({ Id }) =>
      docker
        .getContainer(Id)
        .remove({ force: true, v: true })
        .catch(() => undefined),
    ),
  );
  const images = (await docker.listImages()).flatMap(({ RepoTags }) => RepoTags ?? []);
  const own = images.filter((name) => name.startsWith(`shipway-${instance}/`));
  await Promise.all(
    own.map((name) =>
      docker
        .getImage(name)
        .remove({ force: true })
        .catch(() => undefined),
    ),
  );
  const { Volumes } = await docker.listVolumes({ filters });
  await Promise.all(
    (Volumes ?? []).map(({ Name }) =>
      docker
        .getVolume(Name)
        .remove({ force: true })
        .catch(() => undefined),
    ),
  );
  const networks = await docker.listNetworks({ filters });
  await Promise.all(
    networks.map(({ Id }) =>
      docker
        .getNetwork(Id)
        .remove()
        .catch(() => undefined),
    ),
  );
}
