import { join } from "node:path";
import { declareInfra, findTerraform, removeCacheByHand } from "./demo-infra.ts";
import type { Scene } from "./demo-scene.ts";
import { type DemoDeps, dockerOf, instanceOf, show, type Workshop } from "./demo-workshop.ts";

/** The demo on this machine's Docker Engine: everything is real. */
export async function dockerScene(deps: DemoDeps, app: string): Promise<Scene> {
  // Only a Terraform that is there can be shown.
  const terraform = await findTerraform(deps.environment.SHIPWAY_TERRAFORM ?? "terraform");
  const host = `frontend.production.${app}.localhost`;
  const byHand = async (workshop: Workshop) => {
    deps.err(`$ ${await removeCacheByHand(dockerOf(workshop), app, await instanceOf(workshop))}\n`);
    await show(workshop, ["shipway", "infra", "drift", "--now"], { code: 1 });
    await show(workshop, ["shipway", "infra", "drift", "--revert"]);
    await show(workshop, ["shipway", "infra", "drift", "--now"]);
  };
  return {
    intro: [],
    names: { start: "Start Shipway", firstPush: "First push: tests, images, release, live" },
    host,
    open: async () => ({}),
    port: ({ httpPort }) => httpPort,
    async adapt({ checkout }) {
      if (terraform === undefined) {
        deps.err(
          "No Terraform here: database and cache come from `backing:` in shipway.yml. With it, the demo shows drift, too.\n",
        );
      } else {
        const example = join(deps.projectDir, "examples", "launches-infra");
        deps.err(`${await declareInfra(example, checkout, app)} (Terraform ${terraform})\n`);
      }
    },
    configure: async () => undefined,
    byHand: terraform === undefined ? undefined : byHand,
    outro: ({ httpPort }) => `http://${host}:${httpPort}`,
    explore: () => [],
    epilogue: [],
    close: async () => undefined,
  };
}
