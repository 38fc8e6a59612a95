import { z } from "zod";
import { fail } from "../../shared/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { APP, AppFlag, DataFlag, ENV, EnvFlag, JSON_OUT, JsonFlag, placeFor } from "../input.ts";

const Place = { ...AppFlag, ...EnvFlag };

/** `redis` or `redis:7.2`. */
const Engine = z
  .string()
  .regex(
    /^[a-z]+(:[A-Za-z0-9][A-Za-z0-9._-]*)?$/,
    "write an engine with or without its version, such as redis or mariadb:10.11",
  )
  .transform((text) => {
    const [engine = "", version] = text.split(":");
    return { engine, ...(version !== undefined && { version }) };
  });

export const backingCommands: Command[] = [
  defineCommand({
    name: "backing list",
    summary: "those declared through the API, as they really are",
    options: [APP, ENV, JSON_OUT],
    examples: [{ run: "shipway backing list --env production", does: "one that was removed by hand is `missing`" }],
    input: z.strictObject({ ...Place, ...JsonFlag }),
    async run(input, context) {
      const { app, environment } = await placeFor(input, context);
      const client = await context.client();
      const backing = await client.listBacking(app, environment);
      if (input.json) context.json(backing);
      else if (backing.length === 0) {
        // Nothing need have been deployed there.
        const isOnEcs = await client.getEnvironment(app, environment).then(
          ({ runtime }) => runtime === "ecs",
          () => false,
        );
        context.say(
          isOnEcs
            ? `${app} ${environment} runs on ECS: databases and caches come from its Terraform (\`infra\` in shipway.yml).`
            : `None is declared for ${app} ${environment} beside those of shipway.yml. \`shipway backing create NAME --engine redis\``,
        );
      } else
        context.table(backing, [
          { title: "BACKING", value: ({ name }) => name },
          { title: "ENGINE", value: ({ engine, version }) => `${engine} ${version}` },
          { title: "STATE", value: ({ state }) => state },
          { title: "ADDRESS", value: ({ host, port }) => `${host}:${port}` },
          { title: "VARIABLES", value: ({ variables }) => variables.join(", "), flexible: true },
        ]);
      for (const { name, engine, version } of backing.filter(({ state }) => state === "missing" || state === "stopped"))
        context.say(
          `  ${name} is gone or stopped. Start it over its data: \`shipway backing create ${name} --engine ${engine}:${version} --env ${environment}\``,
        );
      return 0;
    },
  }),
  defineCommand({
    name: "backing create",
    summary: "start a database or cache for an environment, or start it again",
    details:
      "Every service there gets its variables (NAME_URL, NAME_HOST, …) with the next deployment. It wins over one of the same name in shipway.yml. If somebody removes its container, that is shown and not mended by itself; this command, a deployment or an infra apply bring it back over its data.",
    args: [{ name: "name", summary: "also the host name that tasks reach it by" }],
    options: [
      { flags: "--engine <engine>", summary: "mysql, mariadb, redis or postgres, with a version where it matters" },
      APP,
      ENV,
      JSON_OUT,
    ],
    examples: [
      { run: "shipway backing create db --engine mariadb:10.11 --env demo", does: "answers when it takes queries" },
    ],
    input: z.strictObject({ name: z.string(), engine: Engine, ...Place, ...JsonFlag }),
    async run({ name, engine, json, ...input }, context) {
      const { app, environment } = await placeFor(input, context);
      const backing = await (await context.client()).declareBacking(app, environment, name, engine);
      if (json) context.json(backing);
      context.say(
        `${context.colors.err.green("✓")} ${name} (${backing.engine} ${backing.version}) is ${backing.state} at ${backing.host}:${backing.port}.`,
      );
      context.say(`  Services get ${backing.variables.join(", ")} with the next deployment.`);
      return 0;
    },
  }),
  defineCommand({
    name: "backing remove",
    summary: "stop and remove one that was declared through the API",
    args: [{ name: "name", summary: "the backing service" }],
    options: [
      {
        flags: "--data <what>",
        summary: "keep (the default) or remove its data; also those kept by an earlier removal",
      },
      { flags: "--yes", summary: "needed to remove data" },
      APP,
      ENV,
    ],
    examples: [
      { run: "shipway backing remove db --env demo", does: "a later `backing create db` finds the data again" },
      { run: "shipway backing remove db --env demo --data remove --yes", does: "everything is gone" },
    ],
    input: z.strictObject({ name: z.string(), data: DataFlag, yes: z.boolean().default(false), ...Place }),
    async run({ name, data, yes, ...input }, context) {
      const { app, environment } = await placeFor(input, context);
      if (data === "remove" && !yes) {
        throw fail("USAGE", {
          message: `This would remove ${name} of ${app} ${environment} and its data for good.`,
          hint: `If you mean it: \`shipway backing remove ${name} --app ${app} --env ${environment} --data remove --yes\``,
        });
      }
      await (await context.client()).removeBacking(app, environment, name, { data });
      context.say(
        `${context.colors.err.green("✓")} ${name} is removed from ${app} ${environment}${data === "keep" ? "; its data are kept" : ""}.`,
      );
      return 0;
    },
  }),
];
