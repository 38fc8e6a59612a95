import type { RouterBackend, RouterServer } from "../router.ts";

/** Builders for the tests of this folder. */
export function newServer(
  name: string,
  state: RouterServer["state"],
  changes: Partial<RouterServer> = {},
): RouterServer {
  return { name, address: "10.0.0.5", port: 3000, state, ...changes };
}

export function newBackend(changes: Partial<RouterBackend> = {}): RouterBackend {
  return {
    name: "shop.production.web",
    hosts: ["web.production.shop.localhost"],
    internalAddress: "10.0.0.2",
    internalHost: "web",
    check: { kind: "http", path: "/health", declared: true },
    timing: { interval: 1_000, timeout: 2_000, healthy: 2, unhealthy: 3 },
    servers: [],
    ...changes,
  };
}
