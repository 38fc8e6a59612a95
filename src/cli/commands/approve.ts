import { z } from "zod";
import { reviewLines } from "../../events/narrate-approval.ts";
import type { Deployment } from "../../http/schemas.ts";
import { fail } from "../../shared/errors.ts";
import { colorLine } from "../color-line.ts";
import { type CommandContext, defineCommand } from "../command.ts";
import type { ExitCode } from "../context.ts";
import { followDelivery } from "../follow-delivery.ts";
import { formatAgo } from "../format.ts";
import { APP, AppFlag, appFor, ENV, EnvFlag, JSON_OUT, JsonFlag } from "../input.ts";

/** As many as an app has environments, at most: a newer one takes the place of what waits. */
const MOST_WAITING = 200;

type Input = {
  id?: string | undefined;
  reject?: string | undefined;
  comment?: string | undefined;
  wait: boolean;
  json: boolean;
  app?: string | undefined;
  env?: string | undefined;
};

export const approveCommand = defineCommand({
  name: "approve",
  summary: "let a release that waits go live, or turn it down; without an id: what waits",
  details:
    "For environments with `approval: required` in shipway.yml. Needs the role tester, and somebody else than who pushed or deployed it unless the environment says `approvers: anyone`.\nAt a terminal, and with one release waiting, it is shown and you are asked. Exits 0 when it is live, 1 when it failed.",
  args: [{ name: "id", summary: "the deployment (d_8k2m)", optional: true }],
  options: [
    { flags: "--reject <why>", summary: "turn it down; whoever asked for it is told why" },
    { flags: "--comment <text>", summary: "kept with the approval, such as what you tested" },
    { flags: "--no-wait", summary: "return at once; the deployment goes on" },
    APP,
    ENV,
    JSON_OUT,
  ],
  examples: [
    { run: "shipway approve", does: "what waits, what it changes, where it ran before" },
    { run: 'shipway approve d_8k2m --comment "checkout tried in staging"', does: "it goes live, and you watch" },
    { run: 'shipway approve d_8k2m --reject "prices are wrong"', does: "what serves now serves on" },
  ],
  input: z.strictObject({
    id: z.string().optional(),
    reject: z.string().trim().min(1, "say why: the author reads it").optional(),
    comment: z.string().trim().min(1).optional(),
    wait: z.boolean().default(true),
    ...AppFlag,
    ...EnvFlag,
    ...JsonFlag,
  }),
  async run(input, context) {
    if (input.reject !== undefined && input.comment !== undefined) {
      throw fail("USAGE", {
        message: "--reject and --comment exclude each other.",
        hint: 'What you write after --reject is the comment: `shipway approve ID --reject "why"`.',
      });
    }
    const id = input.id ?? (await choose(input, context));
    if (id === undefined) return 0;
    if (input.reject === undefined) return approve(id, input, context);
    return reject(id, input.reject, context);
  },
});

async function approve(id: string, input: Input, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  const { deliveryId } = await client.getDeployment(id);
  const [last] = (await client.listEvents({ deliveryId })).slice(-1);
  const said = input.comment === undefined ? {} : { comment: input.comment };
  const started = await client.approveDeployment(id, said);
  if (!input.wait) {
    if (input.json) context.json(await client.getDeployment(id));
    context.say(`${context.colors.err.green("✓")} ${id} is approved. Follow it: \`shipway deployments ${id}\``);
    return 0;
  }
  const { code } = await followDelivery(started, context, last?.id);
  if (input.json && code !== 130) context.json(await client.getDeployment(id));
  return code;
}

async function reject(id: string, why: string, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  await client.rejectDeployment(id, why);
  const { environment, release } = await client.getDeployment(id);
  context.say(
    `${context.colors.err.green("✓")} r${release} is turned down for ${environment}; what served there serves on.`,
  );
  return 0;
}

/** What waits is shown; the one to be approved is chosen only by a person at a terminal who was asked. */
async function choose(input: Input, context: CommandContext): Promise<string | undefined> {
  const client = await context.client();
  const app = await appFor(input, context);
  const waiting = await client.listDeployments(app, {
    environment: input.env,
    status: "waiting",
    limit: MOST_WAITING,
  });
  if (input.reject !== undefined || input.comment !== undefined) {
    throw fail("USAGE", {
      message: "Which deployment? What you write is about one.",
      hint: `Name it: ${waiting.map(({ id }) => `\`shipway approve ${id} …\``).join(" or ") || "nothing waits now"}.`,
    });
  }
  if (input.json) {
    const reviews = waiting.map(async (one) => ({ ...one, review: await client.reviewDeployment(one.id) }));
    context.json(await Promise.all(reviews));
    return undefined;
  }
  if (waiting.length === 0) {
    context.say(`Nothing of ${app} waits for an approval${input.env === undefined ? "" : ` in ${input.env}`}.`);
    return undefined;
  }
  for (const deployment of waiting)
    for (const line of await describeWaiting(deployment, context)) context.data(colorLine(line, context.colors.out));
  const [only] = waiting;
  if (only === undefined || waiting.length > 1 || !context.isTTY.in) return undefined;
  return (await context.confirm(`Let r${only.release} go live in ${only.environment}?`)) ? only.id : undefined;
}

/** A deployment that waits, with what it would change as things are now. */
export async function describeWaiting(deployment: Deployment, context: CommandContext): Promise<string[]> {
  const { id, release, environment, actor, createdAt, approval } = deployment;
  const until = approval?.expiresAt === undefined ? "" : `, until ${approval.expiresAt}`;
  const review = await (await context.client()).reviewDeployment(id);
  return [
    `! ${id}: r${release} waits for an approval in ${environment}${until}`,
    `  asked for by ${actor}, ${formatAgo(createdAt, context.now())}`,
    ...reviewLines(review),
    `  → \`shipway approve ${id}\``,
    `    or turn it down: \`shipway approve ${id} --reject "why"\``,
  ];
}
