import { z } from "zod";
import type { StoredRouter } from "./render-config.ts";

const Server = z.strictObject({
  name: z.string(),
  address: z.string(),
  port: z.number(),
  state: z.enum(["ready", "drain", "maint"]),
});

const Backend = z.strictObject({
  name: z.string(),
  hosts: z.array(z.string()),
  internalAddress: z.string(),
  internalHost: z.string(),
  check: z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("http"), path: z.string(), declared: z.boolean() }),
    z.strictObject({ kind: z.literal("tcp") }),
  ]),
  timing: z.strictObject({ interval: z.number(), timeout: z.number(), healthy: z.number(), unhealthy: z.number() }),
  servers: z.array(Server),
});

const Stored = z.strictObject({ networks: z.record(z.string(), z.string()), backends: z.array(Backend) });

/** Parses what the configuration file carries of the desired state. Unknown keys are errors: a newer Shipway wrote them. */
export function parseStoredRouter(input: unknown): StoredRouter {
  return Stored.parse(input);
}
