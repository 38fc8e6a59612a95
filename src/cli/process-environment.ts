import { z } from "zod";

/** The variables that Shipway takes notice of; `main.ts` reads them, once. */
export const ProcessEnvironment = z.object({
  DATABASE_URL: z.url().optional(),
  DOCKER_HOST: z
    .string()
    .startsWith("unix://", "only a Unix socket is supported, such as unix:///var/run/docker.sock")
    .default("unix:///var/run/docker.sock"),
  PATH: z.string().default("/usr/local/bin:/usr/bin:/bin"),
  NO_COLOR: z.string().optional(),
  SHIPWAY_DATA: z.string().optional(),
  SHIPWAY_LOG: z.enum(["debug", "info", "warn", "error", "silent"]).default("warn"),
  SHIPWAY_SERVER: z.string().optional(),
  SHIPWAY_TOKEN: z.string().optional(),
  XDG_CONFIG_HOME: z.string().optional(),
  XDG_DATA_HOME: z.string().optional(),
});
