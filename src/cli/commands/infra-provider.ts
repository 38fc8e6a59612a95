import { join, resolve } from "node:path";
import { z } from "zod";
import {
  isFoundInPath,
  layProviderMirror,
  PROVIDER_PROGRAM_VARIABLE,
  PROVIDER_SOURCE,
  providerProgramBeside,
} from "../../infra/provider-mirror.ts";
import { type Command, defineCommand } from "../command.ts";
import { JSON_OUT, JsonFlag } from "../input.ts";

export const infraProviderCommands: Command[] = [
  defineCommand({
    name: "infra provider install",
    summary: "make Terraform on this machine find Shipway's provider",
    details:
      "Runs on the server find it by themselves. Here, Terraform looks into ~/.terraform.d/plugins before it asks a registry, as long as its configuration " +
      "(.terraformrc) does not say otherwise. What is printed belongs into the Terraform files.",
    options: [{ flags: "--dir <dir>", summary: "another filesystem mirror (~/.terraform.d/plugins)" }, JSON_OUT],
    examples: [
      { run: "shipway infra provider install", does: "for all configurations of this user" },
      { run: "shipway infra provider install --dir ./mirror", does: "into a mirror that .terraformrc names" },
    ],
    input: z.strictObject({ dir: z.string().min(1).optional(), ...JsonFlag }),
    async run(input, context) {
      const { version, home, cwd, selfCommand, environment } = context;
      const dir = input.dir === undefined ? join(home, ".terraform.d", "plugins") : resolve(cwd, input.dir);
      const files = await layProviderMirror(dir, version);
      const main = selfCommand.at(-1) ?? "";
      const inPath = await isFoundInPath(environment.PATH ?? "", main);
      const program = providerProgramBeside(main);
      if (input.json) context.json({ source: PROVIDER_SOURCE, version, dir, files, inPath, program });
      else {
        context.data(requiredProviders(version).trimEnd());
        context.say(
          `\n✓ ${PROVIDER_SOURCE} ${version} is in ${dir}. Put the lines above into your Terraform files, then: \`terraform init\``,
        );
        context.say(
          "It takes the server from SHIPWAY_SERVER and the token from SHIPWAY_TOKEN (`shipway token create`).",
        );
      }
      if (!inPath) {
        context.say(
          `→ \`shipway\` in your PATH is not this one, and Terraform's plugins are started through it: \`export ${PROVIDER_PROGRAM_VARIABLE}=${program}\``,
        );
      }
      return 0;
    },
  }),
];

const requiredProviders = (version: string): string => `terraform {
  required_providers {
    shipway = {
      source  = "${PROVIDER_SOURCE}"
      version = ">= ${version}"
    }
  }
}
`;
