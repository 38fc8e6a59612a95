// The program that runs beside a pipeline step on Fargate: one file, since it is handed to a container that has Node.js and nothing of ours.
import { join } from "node:path";
import { build } from "esbuild";

const dist = join(import.meta.dirname, "..", "dist");
await build({
  entryPoints: [join(dist, "ci", "drivers", "ecs", "agent", "main.js")],
  outfile: join(dist, "step-agent.mjs"),
  bundle: true,
  minify: true,
  platform: "node",
  format: "esm",
  target: "node20",
  logLevel: "warning",
});
