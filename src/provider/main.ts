#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { servePlugin } from "./protocol/serve-plugin.ts";
import { shipwayProvider } from "./shipway-provider.ts";

// terraform-provider-shipway: Terraform starts this, three or four times for each of its commands. Like main.ts it is a program, and reads the environment.
const { env } = process;
const packageJson: { version: string } = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
);
// A Ctrl-C reaches the whole group; Terraform itself tells us what to do about it.
process.on("SIGINT", () => undefined);
const provider = shipwayProvider(
  { server: env.SHIPWAY_SERVER, token: env.SHIPWAY_TOKEN },
  { version: packageJson.version },
);
await servePlugin(provider, {
  env,
  tempDir: tmpdir(),
  writeOut: (text) => process.stdout.write(text),
  writeErr: (text) => process.stderr.write(text),
  parentPid: () => process.ppid,
  exit: (code) => process.exit(code),
});
