import { z } from "zod";
import type { InfraView } from "../../http/infra-schemas.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { formatAgo } from "../format.ts";
import { APP, AppFlag, appFor, ENV, EnvFlag, environmentFor, JSON_OUT, JsonFlag, LIMIT, LimitFlag } from "../input.ts";

const Place = { ...AppFlag, ...EnvFlag };
const Version = z.string().regex(/^(latest|[1-9]\d*)$/, "write the number of a version, or latest");

export const infraStateCommands: Command[] = [
  defineCommand({
    name: "infra state list",
    summary: "every version of the state that was ever written",
    options: [APP, ENV, LIMIT, JSON_OUT],
    examples: [{ run: "shipway infra state list --env production", does: "newest first" }],
    input: z.strictObject({ ...Place, ...LimitFlag, ...JsonFlag }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      const client = await context.client();
      const versions = await client.listStates(app, environment, input.limit);
      const elsewhere = versions.length === 0 ? (await client.getInfra(app, environment)).stateIn : null;
      if (input.json) context.json(versions);
      else if (elsewhere !== null && elsewhere.type !== "shipway")
        context.say(`The state of ${app} ${environment} lies in ${describeStateIn(elsewhere)}; its versions, too.`);
      else if (versions.length === 0) context.say(`${app} ${environment} has no state yet. \`shipway infra apply\``);
      else
        context.table(versions, [
          { title: "VERSION", value: ({ version }) => String(version), align: "right" },
          { title: "SERIAL", value: ({ serial }) => String(serial), align: "right" },
          { title: "RESOURCES", value: ({ resources }) => String(resources), align: "right" },
          { title: "RUN", value: ({ runId }) => runId ?? "-" },
          { title: "BY", value: ({ actor }) => actor },
          { title: "HOW", value: ({ reason }) => reason, flexible: true },
          { title: "WHEN", value: ({ createdAt }) => formatAgo(createdAt, context.now()) },
        ]);
      return 0;
    },
  }),
  defineCommand({
    name: "infra state show",
    summary: "the objects of a version; sensitive attributes by name only",
    args: [{ name: "version", summary: "its number (latest)", optional: true }],
    options: [
      APP,
      ENV,
      { flags: "--raw", summary: "as Terraform wrote it, secrets in clear; for operators" },
      JSON_OUT,
    ],
    examples: [
      { run: "shipway infra state show", does: "the newest" },
      { run: "shipway infra state show 12 --raw > state.json", does: "a file for Terraform" },
    ],
    input: z.strictObject({
      version: Version.default("latest"),
      ...Place,
      ...JsonFlag,
      raw: z.boolean().default(false),
    }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      const client = await context.client();
      if (input.raw) {
        context.json(await client.getRawState(app, environment, input.version));
        return 0;
      }
      const state = await client.getState(app, environment, input.version);
      if (input.json) context.json(state);
      else
        for (const { address, attributes } of state.objects) {
          context.data(address);
          for (const [name, value] of Object.entries(attributes)) context.data(`  ${name} = ${value}`);
        }
      return 0;
    },
  }),
  defineCommand({
    name: "infra state diff",
    summary: "what a version changed",
    args: [{ name: "version", summary: "its number (latest)", optional: true }],
    options: [APP, ENV, { flags: "--from <n>", summary: "compared with this version (the one before)" }, JSON_OUT],
    examples: [
      { run: "shipway infra state diff", does: "what the last write changed" },
      { run: "shipway infra state diff 12 --from 9", does: "between two versions" },
    ],
    input: z.strictObject({ version: Version.default("latest"), from: Version.optional(), ...Place, ...JsonFlag }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      const diff = await (await context.client()).diffStates(app, environment, input.version, input.from);
      if (input.json) context.json(diff);
      else if (diff.resources.length === 0) context.say(`No object differs between ${diff.from} and ${diff.to}.`);
      else
        for (const { address, change, attributes } of diff.resources) {
          context.data(`${{ added: "+", removed: "-", changed: "~" }[change]} ${address}`);
          for (const { path, before, after } of attributes) context.data(`    ${path}: ${before} → ${after}`);
        }
      return 0;
    },
  }),
  defineCommand({
    name: "infra state restore",
    summary: "make an earlier version the newest; nothing real is changed by it",
    details:
      "It becomes a new version with a higher serial, so saved plans are stale. Plan afterwards to see what differs.",
    args: [{ name: "version", summary: "its number" }],
    options: [APP, ENV, JSON_OUT],
    examples: [{ run: "shipway infra state restore 11 --env staging", does: "the state is what it was then" }],
    input: z.strictObject({ version: Version, ...Place, ...JsonFlag }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      const saved = await (await context.client()).restoreState(app, environment, input.version);
      if (input.json) context.json(saved);
      else {
        context.say(
          `${context.colors.err.green("✓")} Version ${input.version} is the state of ${app} ${environment} again, as version ${saved.version}.`,
        );
        context.say(`  See how that differs from the code: \`shipway infra plan --env ${environment}\``);
      }
      return 0;
    },
  }),
];

/** `the code's own backend s3 (bucket=states, key=shop)`. */
export function describeStateIn({ type, config }: NonNullable<InfraView["stateIn"]>): string {
  const names = Object.entries(config).map(([name, value]) => `${name}=${value}`);
  return `the code's own backend ${type}${names.length === 0 ? "" : ` (${names.join(", ")})`}`;
}

async function placeFor(
  input: { app?: string | undefined; env?: string | undefined },
  context: CommandContext,
): Promise<{ app: string; environment: string }> {
  const app = await appFor(input, context);
  return { app, environment: await environmentFor(app, input, context) };
}
