import { z } from "zod";
import type { KnownNames } from "../../ci/missing-values.ts";
import { fail } from "../../shared/errors.ts";
import { checkProject, type KnownServer } from "../check-project.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { currentBranch } from "../git-checkout.ts";
import { JSON_OUT, JsonFlag } from "../input.ts";
import { renderHint } from "../problem.ts";
import { findProject, SPEC_FILE } from "../project.ts";

export const checkCommands: Command[] = [
  defineCommand({
    name: "check",
    summary: "find mistakes in this checkout before a push does",
    details:
      "Reads shipway.yml, bitbucket-pipelines.yml, and the Dockerfiles and Terraform folders they name; needs no server. Where one is known and answers, it is asked whether it has a Docker Engine, if the push needs one, and which variables and secrets are set for pipelines, if an image's login or a service takes one. Exits 2 when something is wrong.",
    options: [
      { flags: "--branch <name>", summary: "check the pipeline of this branch (default: the current one)" },
      { flags: "--tag <name>", summary: "check the pipeline of this tag" },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway check", does: "before you push" },
      { run: "shipway check --tag v1.2.0", does: "what a tag would run" },
    ],
    input: z.strictObject({ branch: z.string().optional(), tag: z.string().optional(), ...JsonFlag }),
    async run(input, context) {
      const project = await findProject(context.cwd);
      if (!project) {
        throw fail("SPEC_MISSING", {
          message: `There is no ${SPEC_FILE} in ${context.cwd} or above it.`,
          hint: `Write one; the smallest is:\n\napp: shop\nservices:\n  web:\n    build: {}\n    port: 8080`,
        });
      }
      const refName = input.tag ?? input.branch ?? (await currentBranch(project.dir)) ?? "main";
      const refKind = input.tag === undefined ? ("branch" as const) : ("tag" as const);
      const check = await checkProject(project.dir, { refKind, refName }, await knownServer(context));
      if (input.json) {
        context.json(check);
        return check.ok ? 0 : 2;
      }
      const { err } = context.colors;
      for (const line of check.found) context.say(`${err.green("✓")} ${line}`);
      for (const line of check.notes) context.say(`${err.yellow("!")} ${line}`);
      for (const { message, hint } of check.problems) {
        context.say(`${err.red("✗")} ${message}`);
        if (hint !== undefined) for (const line of renderHint(hint, err)) context.say(line);
      }
      if (check.ok) context.say(`  Next: \`git push shipway ${refName}\``);
      return check.ok ? 0 : 2;
    },
  }),
];

/** Nobody waits longer than this for a remark. */
const ANSWERS_WITHIN_MS = 3_000;

/** The server that is known here. Where it does not say, it is taken to have all that is needed, since a push would say so. */
async function knownServer(context: CommandContext): Promise<KnownServer> {
  const options = { timeoutMs: ANSWERS_WITHIN_MS };
  const client = await context.client().catch(() => undefined);
  const status = await client?.status(options).catch(() => undefined);
  if (client === undefined || status === undefined) return { hasEngine: true, namesFor: async () => undefined };
  return {
    hasEngine: status.docker.used,
    namesFor: (app) =>
      Promise.all([client.listPipelineVariables(app, options), client.listPipelineSecrets(app, options)]).then(
        (values) => knownNames(values.flat()),
        () => undefined,
      ),
  };
}

function knownNames(values: readonly { name: string; environment: string | null }[]): KnownNames {
  const namesOf = (wanted: string | null) =>
    new Set(values.filter(({ environment }) => environment === wanted).map(({ name }) => name));
  const environments = values.flatMap(({ environment }) => environment ?? []);
  return { every: namesOf(null), deployments: Object.fromEntries(environments.map((one) => [one, namesOf(one)])) };
}
