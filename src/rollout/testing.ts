import type { Release, ReleaseService } from "./release.ts";

/** A service as tests need it: serves on port 3000, one task; `port: undefined` makes it a worker. */
export function newService(
  name: string,
  changes: Partial<Omit<ReleaseService, "port">> & { port?: number | undefined } = {},
): ReleaseService {
  const { port, ...rest } = "port" in changes ? changes : { ...changes, port: 3000 };
  return {
    name,
    image: "shop:1",
    cpu: 256,
    memoryMiB: 512,
    count: 1,
    env: {},
    secrets: [],
    hosts: port === undefined ? [] : [`${name}.production.shop.localhost`],
    stopTimeoutMs: 1_000,
    volumes: [],
    acceptsDowntime: false,
    ...(port === undefined ? {} : { port }),
    ...rest,
  };
}

export function newRelease(number: number, services: ReleaseService[] = [newService("web")]): Release {
  return { app: "shop", number, services };
}
