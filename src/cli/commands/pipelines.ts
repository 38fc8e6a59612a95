import { z } from "zod";
import type { Pipeline } from "../../http/schemas.ts";
import { formatDurationMs } from "../../shared/duration.ts";
import { fail } from "../../shared/errors.ts";
import type { ApiClient } from "../client.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { followPipeline } from "../follow-pipeline.ts";
import { formatAgo, shortCommit } from "../format.ts";
import { APP, AppFlag, appFor, JSON_OUT, JsonFlag, LIMIT, LimitFlag } from "../input.ts";

export const pipelineCommands: Command[] = [
  defineCommand({
    name: "pipelines",
    summary: "runs of bitbucket-pipelines.yml; of one: its steps",
    args: [{ name: "id", summary: "one run: its number or id", optional: true }],
    options: [APP, LIMIT, JSON_OUT],
    examples: [
      { run: "shipway pipelines", does: "the last runs" },
      { run: "shipway pipelines 12", does: "the steps of run 12" },
    ],
    input: z.strictObject({ id: z.string().optional(), ...AppFlag, ...LimitFlag, ...JsonFlag }),
    async run(input, context) {
      const client = await context.client();
      if (input.id !== undefined) {
        const pipeline = await findPipeline(client, input.id, () => appFor(input, context));
        if (input.json) context.json(pipeline);
        else showPipeline(pipeline, context);
        return 0;
      }
      const app = await appFor(input, context);
      const pipelines = await client.listPipelines(app, { limit: input.limit });
      if (input.json) context.json(pipelines);
      else if (pipelines.length === 0) context.say("No pipeline ran yet: push a commit. `git push shipway main`");
      else listPipelines(pipelines, context);
      return 0;
    },
  }),
  defineCommand({
    name: "pipelines continue",
    summary: "start a manual step of a paused run, and follow it",
    details:
      "The step runs with the artifacts of the steps before it, and so does what follows it, up to the next manual step. A paused run is kept for 14 days. A step with `deployment:` to an environment where releases need an approval needs the role tester, and somebody else than who pushed.",
    args: [{ name: "id", summary: "the run: its number or id" }],
    options: [
      { flags: "--step <name>", summary: "which manual step, where several can be started" },
      { flags: "--no-wait", summary: "return at once; the run goes on" },
      APP,
      JSON_OUT,
    ],
    examples: [
      { run: "shipway pipelines continue 12", does: "its manual step, where it pauses" },
      { run: 'shipway pipelines continue 12 --step "Deploy to EU"', does: "one of several" },
    ],
    input: z.strictObject({
      id: z.string(),
      step: z.string().optional(),
      wait: z.boolean().default(true),
      ...AppFlag,
      ...JsonFlag,
    }),
    async run(input, context) {
      const client = await context.client();
      const { id, number } = await findPipeline(client, input.id, () => appFor(input, context));
      const before = await lastEventOf(client, (await client.getPipeline(id)).deliveryId);
      const { deliveryId } = await client.continuePipeline(id, input.step === undefined ? {} : { step: input.step });
      if (!input.wait) context.say(`Started. Follow it: \`shipway pipelines ${number}\``);
      const code = input.wait ? await followPipeline({ pipelineId: id, deliveryId, after: before }, context) : 0;
      if (input.json && code !== 130) context.json(await client.getPipeline(id));
      return code;
    },
  }),
];

const lastEventOf = async (client: ApiClient, deliveryId: string) =>
  (await client.listEvents({ deliveryId })).at(-1)?.id ?? 0;

/** A run by its id, or by its number within an app. @throws PIPELINE_NOT_FOUND */
export async function findPipeline(client: ApiClient, wanted: string, app: () => Promise<string>): Promise<Pipeline> {
  const number = /^#?(\d+)$/.exec(wanted)?.[1];
  if (number === undefined) return client.getPipeline(wanted);
  const name = await app();
  const found = (await client.listPipelines(name, { limit: 200 })).find((one) => one.number === Number(number));
  if (found) return found;
  throw fail("PIPELINE_NOT_FOUND", {
    message: `App ${name} has no pipeline run #${number}.`,
    hint: "List the runs with `shipway pipelines`.",
  });
}

const durationOf = ({ durationMs }: { durationMs?: number | null | undefined }) =>
  durationMs === undefined || durationMs === null ? "-" : formatDurationMs(durationMs);

function listPipelines(pipelines: readonly Pipeline[], context: CommandContext): void {
  context.table(pipelines, [
    { title: "RUN", value: ({ number }) => `#${number}` },
    { title: "STATUS", value: ({ status }) => status },
    { title: "STEPS", value: stepsOf, flexible: true },
    { title: "TIME", value: durationOf, align: "right" },
    { title: "COMMIT", value: ({ commit }) => shortCommit(commit) },
    { title: "REF", value: ({ refName }) => refName, flexible: true },
    { title: "WHEN", value: ({ createdAt }) => formatAgo(createdAt, context.now()) },
  ]);
}

function stepsOf({ steps }: Pipeline): string {
  const failed = steps.filter(({ status }) => status === "failed").map(({ name }) => name);
  if (failed.length > 0) return `${failed.join(", ")} failed`;
  const done = steps.filter(({ status }) => status === "passed").length;
  return `${done}/${steps.length} passed`;
}

function showPipeline(pipeline: Pipeline, context: CommandContext): void {
  const { number, status, refName, commit, reason, steps } = pipeline;
  context.data(`Pipeline #${number}: ${status}, ${refName} ${shortCommit(commit)}, ${durationOf(pipeline)}`);
  if (reason !== null) context.data(reason);
  context.table(steps, [
    { title: "STEP", value: ({ name }) => name, flexible: true },
    { title: "STATUS", value: (step) => step.status },
    { title: "EXIT", value: ({ exitCode }) => (exitCode === undefined ? "-" : String(exitCode)), align: "right" },
    { title: "TIME", value: durationOf, align: "right" },
    { title: "WHY", value: (step) => step.reason ?? "", flexible: true },
  ]);
  if (status === "paused") {
    const names = pipeline.gates.map(({ name }) => `"${name}"`).join(" or ");
    const which = pipeline.gates.length > 1 ? " --step NAME" : "";
    context.say(`  It waits until somebody starts ${names}: \`shipway pipelines continue ${number}${which}\``);
  }
  const step = steps.find((one) => one.status === "failed") ?? steps[0];
  if (step) context.say(`  Its output: \`shipway logs --pipeline ${number} --step ${stepArgument(step.name)}\``);
}

/** As one would type it. */
export const stepArgument = (name: string) => (/^[\w.-]+$/.test(name) ? name : JSON.stringify(name));
