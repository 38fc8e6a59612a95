import { z } from "zod";
import { fail } from "../../shared/errors.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import type { ExitCode } from "../context.ts";
import { followDelivery } from "../follow-delivery.ts";
import { followTeardown } from "../follow-teardown.ts";
import { APP, AppFlag, appFor, DataFlag, JSON_OUT, JsonFlag } from "../input.ts";

const NAME = [{ name: "name", summary: "the environment" }];
const INFRA = {
  flags: "--infra <what>",
  summary: "keep (the default) or destroy what its Terraform has made, once approved",
};
const APPROVE = { flags: "--approve", summary: "approve that plan yourself as it comes, where you may" };
const OVERRULE = {
  flags: "--overrule <reason>",
  summary: "destroy what `protect` and `maxDestroy` keep, too: why, for the record",
};
const NO_WAIT = { flags: "--no-wait", summary: "return at once; the work goes on" };
const Flags = {
  infra: z.enum(["keep", "destroy"], "write keep or destroy").default("keep"),
  approve: z.boolean().default(false),
  overrule: z.string().min(1).optional(),
  wait: z.boolean().default(true),
  ...AppFlag,
  ...JsonFlag,
};

/** Stopping, starting again and removing an environment. */
export const envEndCommands: Command[] = [
  defineCommand({
    name: "env stop",
    summary: "take away what runs in an environment, and keep all that it takes to start it again",
    details:
      "Tasks, the standby and addresses go; data, variables, secrets, releases and logs stay, and so do backing services declared through the API. A push that deploys there, or `shipway env start`, starts it again. Ctrl-C leaves, it cancels nothing.",
    args: NAME,
    options: [INFRA, APPROVE, OVERRULE, NO_WAIT, APP, JSON_OUT],
    examples: [
      { run: "shipway env stop staging", does: "over the weekend; `shipway env start staging` on Monday" },
      { run: "shipway env stop staging --infra destroy", does: "nothing of it costs anything until it is started" },
    ],
    input: z.strictObject({ name: z.string(), ...Flags }),
    async run(input, context) {
      refuseLoose(input);
      return tearDown({ ...input, until: "stopped", data: "keep" }, context);
    },
  }),
  defineCommand({
    name: "env start",
    summary: "start an environment again that was stopped",
    details:
      "A deployment of the release that served until then. What its Terraform has made is made first where it is gone.",
    args: NAME,
    options: [NO_WAIT, APP, JSON_OUT],
    examples: [{ run: "shipway env start staging", does: "the release that served when it was stopped" }],
    input: z.strictObject({ name: z.string(), wait: z.boolean().default(true), ...AppFlag, ...JsonFlag }),
    run: start,
  }),
  defineCommand({
    name: "env remove",
    summary: "stop and remove all that runs in an environment, and with --infra destroy what it ran on",
    details:
      "First it is stopped, then its infrastructure is destroyed where you say so, then it is removed, and looked whether anything is left. Its variables and secrets go; its deployments and events stay on the record. Data of databases and volumes are kept unless you say otherwise. It may be repeated at any point and goes on from there. Where shipway.yml declares the environment, the next push brings it back.",
    args: NAME,
    options: [
      { flags: "--data <what>", summary: "keep (the default) or remove the data of databases and volumes" },
      INFRA,
      APPROVE,
      OVERRULE,
      { flags: "--yes", summary: "do it; without this nothing is removed" },
      NO_WAIT,
      APP,
      JSON_OUT,
    ],
    examples: [
      { run: "shipway env remove demo --yes", does: "a later `env create demo` finds its data again" },
      {
        run: "shipway env remove preview --infra destroy --data remove --approve --yes",
        does: "all of a preview, and all it ran on",
      },
    ],
    input: z.strictObject({ name: z.string(), data: DataFlag, yes: z.boolean().default(false), ...Flags }),
    run: remove,
  }),
];

type Wish = z.output<z.ZodObject<typeof Flags>> & {
  name: string;
  until: "stopped" | "removed";
  data: "keep" | "remove";
};

async function tearDown(wish: Wish, context: CommandContext): Promise<ExitCode> {
  const { name, until, infra, data, overrule, approve, wait, json } = wish;
  const app = await appFor(wish, context);
  const client = await context.client();
  const request = { until, infra, data, ...(overrule !== undefined && { overrule }) };
  const { id } = await client.tearDown(app, name, request);
  if (!wait) context.say(`Started. Watch it: the same command again, or \`shipway events --app ${app}\``);
  const code = wait ? await followTeardown(id, { approve }, context) : 0;
  if (json && code !== 130) context.json(await client.getTeardown(id));
  if (wait && code === 0 && until === "removed") for (const line of whatStays(app, wish)) context.say(line);
  return code;
}

const whatStays = (app: string, { data }: Wish): string[] => [
  "  What stays, and why:",
  "    its deployments, events and versions of its Terraform state: they are the record",
  `    images and repositories: they belong to the app (\`shipway app remove ${app}\`)`,
  ...(data === "keep"
    ? ["    data of its databases and volumes: you kept them, and a new environment of this name finds them"]
    : []),
];

function refuseLoose({ infra, approve, overrule }: Pick<Wish, "infra" | "approve" | "overrule">): void {
  const loose = [approve && "--approve", overrule !== undefined && "--overrule"].filter((one) => one !== false);
  if (infra === "destroy" || loose.length === 0) return;
  throw fail("USAGE", {
    message: `${loose.join(" and ")} ${loose.length === 1 ? "goes" : "go"} with --infra destroy.`,
    hint: `Add it, or leave ${loose.length === 1 ? "it" : "them"} out.`,
  });
}

async function remove(
  { yes, ...wish }: Omit<Wish, "until"> & { yes: boolean },
  context: CommandContext,
): Promise<ExitCode> {
  refuseLoose(wish);
  const { name, data, infra } = wish;
  if (yes) return tearDown({ ...wish, until: "removed" }, context);
  const app = await appFor(wish, context);
  const { liveRelease } = await (await context.client()).getEnvironment(app, name);
  const what = liveRelease === null ? "Nothing is live there." : `r${liveRelease} serves there and would stop.`;
  const also = [
    ...(infra === "destroy" ? ["all that its Terraform has made (once an operator approved the plan)"] : []),
    ...(data === "remove" ? ["its data for good"] : []),
  ];
  const flags = `${infra === "destroy" ? " --infra destroy" : ""}${data === "remove" ? " --data remove" : ""}`;
  throw fail("USAGE", {
    message: `This would remove ${[`${name} of ${app}`, ...also].join(", and ")}. ${what}`,
    hint: `If you mean it: \`shipway env remove ${name} --app ${app}${flags} --yes\``,
  });
}

async function start(
  input: { name: string; wait: boolean; json: boolean; app?: string | undefined },
  context: CommandContext,
): Promise<ExitCode> {
  const { name: environment, wait, json } = input;
  const app = await appFor(input, context);
  const client = await context.client();
  const { stopped, liveRelease } = await client.getEnvironment(app, environment);
  if (liveRelease !== null) {
    context.say(`${environment} of ${app} runs already: r${liveRelease} serves there.`);
    return 0;
  }
  if (stopped === null || stopped.release === null) {
    throw fail("USAGE", {
      message: `Nothing served in ${environment} of ${app} that could be started again.`,
      hint: `Deploy a release there: \`shipway deploy --app ${app} --env ${environment} --release rN\` (\`shipway releases --app ${app}\` lists them).`,
    });
  }
  const started = await client.deploy(app, { environment, release: stopped.release });
  if (!wait) {
    if (json) context.json(started);
    context.say(`Started. Follow it: \`shipway deployments ${started.deploymentId ?? started.deliveryId}\``);
    return 0;
  }
  const { code } = await followDelivery(started, context);
  if (json && code !== 130 && started.deploymentId !== null)
    context.json(await client.getDeployment(started.deploymentId));
  return code;
}
