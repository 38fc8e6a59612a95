import { z } from "zod";
import { problemLines } from "../../events/narrate-rollout.ts";
import type { Deployment, ReleaseSummary } from "../../http/schemas.ts";
import { formatDurationMs } from "../../shared/duration.ts";
import { colorLine } from "../color-line.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import type { ExitCode } from "../context.ts";
import { followDelivery } from "../follow-delivery.ts";
import { formatAgo, shortCommit } from "../format.ts";
import { APP, AppFlag, appFor, ENV, EnvFlag, JSON_OUT, JsonFlag, LIMIT, LimitFlag } from "../input.ts";
import { describeWaiting } from "./approve.ts";

export const historyCommands: Command[] = [
  defineCommand({
    name: "releases",
    summary: "the releases you can return to",
    options: [APP, LIMIT, JSON_OUT],
    examples: [
      { run: "shipway releases", does: "number, commit, where it runs" },
      { run: "shipway releases --json --limit 1 | jq .[0].number", does: "the newest, in a script" },
    ],
    input: z.strictObject({ ...AppFlag, ...LimitFlag, ...JsonFlag }),
    async run(input, context) {
      const app = await appFor(input, context);
      const releases = await (await context.client()).listReleases(app, { limit: input.limit });
      if (input.json) context.json(releases);
      else if (releases.length === 0) context.say(`${app} has no release yet: push it. \`git push shipway main\``);
      else listReleases(releases, context);
      return 0;
    },
  }),
  defineCommand({
    name: "deployments",
    summary: "what was deployed when, and how it went; of one: everything about it",
    details:
      "Of a deployment that still runs, the progress is followed until it ends (Ctrl-C leaves, it cancels nothing).",
    args: [
      { name: "id", summary: "one deployment (d_8k2m), or a delivery on its way to one (c_5h3x)", optional: true },
    ],
    options: [APP, ENV, LIMIT, JSON_OUT],
    examples: [
      { run: "shipway deployments --env production", does: "the last ones there" },
      { run: "shipway deployments d_8k2m", does: "why this one failed" },
    ],
    input: z.strictObject({ id: z.string().optional(), ...AppFlag, ...EnvFlag, ...LimitFlag, ...JsonFlag }),
    async run(input, context) {
      if (input.id !== undefined) return showDeployment(input.id, input.json, context);
      const app = await appFor(input, context);
      const query = { environment: input.env, limit: input.limit };
      const deployments = await (await context.client()).listDeployments(app, query);
      if (input.json) context.json(deployments);
      else if (deployments.length === 0) context.say(`Nothing was deployed yet: push it. \`git push shipway main\``);
      else listDeployments(deployments, context);
      return 0;
    },
  }),
];

function listReleases(releases: readonly ReleaseSummary[], context: CommandContext): void {
  context.table(releases, [
    { title: "RELEASE", value: ({ number }) => `r${number}` },
    { title: "STATE", value: stateOf, flexible: true },
    { title: "COMMIT", value: ({ commit }) => shortCommit(commit) },
    { title: "REF", value: ({ refName }) => refName, flexible: true },
    { title: "CHANGE", value: ({ subject }) => subject, flexible: true },
    { title: "BY", value: ({ author }) => author, flexible: true },
    { title: "WHEN", value: ({ createdAt }) => formatAgo(createdAt, context.now()) },
  ]);
}

function stateOf({ liveIn, standbyIn }: ReleaseSummary): string {
  const live = liveIn.length === 0 ? [] : [`live in ${liveIn.join(", ")}`];
  const standby = standbyIn.length === 0 ? [] : [`standby in ${standbyIn.join(", ")}`];
  return [...live, ...standby].join("; ") || "-";
}

function listDeployments(deployments: readonly Deployment[], context: CommandContext): void {
  context.table(deployments, [
    { title: "DEPLOYMENT", value: ({ id }) => id },
    { title: "ENVIRONMENT", value: ({ environment }) => environment, flexible: true },
    { title: "RELEASE", value: ({ release }) => `r${release}` },
    { title: "KIND", value: ({ kind }) => kind },
    { title: "STATUS", value: statusOf },
    {
      title: "LIVE AFTER",
      value: ({ liveAfterMs }) => (liveAfterMs === null ? "-" : formatDurationMs(liveAfterMs)),
      align: "right",
    },
    { title: "BY", value: ({ actor }) => actor, flexible: true },
    { title: "WHEN", value: ({ createdAt }) => formatAgo(createdAt, context.now()) },
  ]);
}

function statusOf({ status, phase }: Deployment): string {
  if (status === "waiting") return "waits for approval";
  return phase === null ? status : `${status} (${phase})`;
}

async function showDeployment(id: string, json: boolean, context: CommandContext): Promise<ExitCode> {
  const client = await context.client();
  // Before tests and images are done there is only the delivery.
  const isDelivery = (await client.listEvents({ after: 0, deliveryId: id, limit: 1 })).length > 0;
  if (isDelivery) return (await followDelivery({ deliveryId: id, deploymentId: null }, context)).code;
  const deployment = await client.getDeployment(id);
  if (deployment.status === "waiting" && !json) {
    for (const line of await describeWaiting(deployment, context)) context.data(colorLine(line, context.colors.out));
    return 0;
  }
  if (deployment.endedAt === null && !json) {
    context.say(`${id} is ${deployment.status}:`);
    const { code } = await followDelivery({ deliveryId: deployment.deliveryId, deploymentId: id }, context);
    return code;
  }
  if (json) context.json(deployment);
  else
    for (const line of describeDeployment(deployment, context.now())) context.data(colorLine(line, context.colors.out));
  return 0;
}

function describeDecision(decision: NonNullable<Deployment["approval"]>["decision"]): string[] {
  // Why it was turned down is its problem, which is told below.
  if (!decision?.approved) return [];
  const { by, at, comment } = decision;
  return [`  approved by ${by} (${at})${comment === undefined ? "" : `: ${comment}`}`];
}

const describeInfra = ({ repository, commit, runId }: NonNullable<Deployment["infra"]>): string =>
  `${repository === null ? "" : `${repository} `}${shortCommit(commit)}, applied by ${runId}`;

function describeDeployment(deployment: Deployment, now: number): string[] {
  const { id, kind, release, app, environment, actor, createdAt, problem } = deployment;
  const sign = deployment.status === "succeeded" ? "✓" : deployment.status === "failed" ? "✗" : "!";
  return [
    `${sign} ${id}: ${kind} of r${release} to ${app} ${environment}, ${deployment.status}`,
    `  by ${actor}, ${formatAgo(createdAt, now)} (${createdAt})`,
    ...describeDecision(deployment.approval?.decision),
    ...(deployment.phases.length === 0
      ? []
      : [`  phases: ${deployment.phases.map((one) => `${one.name} ${formatDurationMs(one.durationMs)}`).join(" · ")}`]),
    ...(deployment.liveAfterMs === null ? [] : [`  live after ${formatDurationMs(deployment.liveAfterMs)}`]),
    ...(deployment.infra === null ? [] : [`  infra: ${describeInfra(deployment.infra)}`]),
    ...deployment.addresses.map((address) => `  ${address}`),
    ...(deployment.phase === null ? [] : [`✗ stopped at ${deployment.phase}:`]),
    ...problemLines(problem?.message, deployment.evidence),
    ...(deployment.rolledBack ? ["! traffic had moved and was moved back"] : []),
    ...(problem?.hint === undefined || problem.hint.includes(id) ? [] : [`→ ${problem.hint}`]),
  ];
}
