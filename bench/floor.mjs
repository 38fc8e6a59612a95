import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import { createInterface } from "node:readline";
import tar from "tar-stream";
import { run } from "./installation.mjs";
import { untilAnswers } from "./probe.mjs";
import { PORT } from "./sample.mjs";

/** What nobody can do without: build the image, start it, wait for its first answer. No checks, no router, no record. */
export function newFloor(docker) {
  const image = `shipway-bench-floor-${randomBytes(3).toString("hex")}`;
  return {
    async measure(files, text) {
      const startedAt = performance.now();
      await build(docker, image, files);
      const builtAt = performance.now();
      const id = (
        await run("docker", ["run", "--detach", "--label", `shipway.bench=${image}`, image], { env: process.env })
      ).trim();
      const runningAt = performance.now();
      const { NetworkSettings } = await docker.getContainer(id).inspect();
      const target = { address: NetworkSettings.IPAddress, port: PORT, host: "floor" };
      const answeredAt = await untilAnswers(target, text, { everyMs: 2 });
      await docker.getContainer(id).remove({ force: true });
      return {
        buildMs: builtAt - startedAt,
        runMs: runningAt - builtAt,
        answerMs: answeredAt - runningAt,
        totalMs: answeredAt - startedAt,
      };
    },
    async remove() {
      const filters = { label: [`shipway.bench=${image}`] };
      for (const { Id } of await docker.listContainers({ all: true, filters })) {
        await docker.getContainer(Id).remove({ force: true });
      }
      await docker
        .getImage(image)
        .remove({ force: true })
        .catch(() => undefined);
    },
  };
}

/** The engine's BuildKit through its API: what `docker build` does, without the time its program takes to start. */
async function build(docker, image, files) {
  const context = tar.pack();
  for (const [name, text] of Object.entries(files)) context.entry({ name }, text);
  context.finalize();
  const response = await new Promise((resolve, reject) => {
    const query = { version: "2", t: image };
    const statusCodes = { 200: true, 400: "bad request", 500: "server error" };
    docker.modem.dial(
      { path: "/build?", method: "POST", file: context, options: query, isStream: true, statusCodes },
      (error, answer) => (error ? reject(error) : resolve(answer)),
    );
  });
  for await (const line of createInterface({ input: response })) {
    const { error } = JSON.parse(line);
    if (error !== undefined) throw new Error(`the floor's build failed: ${error}`);
  }
}
