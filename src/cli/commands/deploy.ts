import { z } from "zod";
import type { Deployment, Started } from "../../http/schemas.ts";
import { formatDurationMs } from "../../shared/duration.ts";
import { fail } from "../../shared/errors.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import type { ExitCode } from "../context.ts";
import { followDelivery } from "../follow-delivery.ts";
import { cancelRun } from "../follow-run.ts";
import { currentBranch } from "../git-checkout.ts";
import { APP, AppFlag, appFor, ENV, EnvFlag, environmentFor, JSON_OUT, JsonFlag, ReleaseNumber } from "../input.ts";

const NO_WAIT = { flags: "--no-wait", summary: "return at once; the work goes on" };
const Flags = { ...AppFlag, ...EnvFlag, ...JsonFlag, wait: z.boolean().default(true) };

export const deployCommands: Command[] = [
  defineCommand({
    name: "deploy",
    summary: "put a commit or an existing release into an environment",
    details:
      "A commit is tested and built as by a push; what was built before is used again. A release is deployed as it stands: the same images.\nExits 0 when it is live, or waits for an approval there (`.status` is `waiting`), 1 when it failed or was overtaken. Ctrl-C leaves; it cancels nothing.",
    options: [
      APP,
      ENV,
      { flags: "--ref <ref>", summary: "a branch, tag or commit that was pushed (default: the current branch)" },
      { flags: "--release <rN>", summary: "an existing release, to promote it" },
      NO_WAIT,
      JSON_OUT,
    ],
    examples: [
      { run: "shipway deploy --env staging --ref feature/hero", does: "try a branch" },
      { run: "shipway deploy --env production --release r7", does: "promote what was tested in staging" },
      { run: "shipway deploy --release r7 --json | jq .status", does: "in a script" },
    ],
    input: z.strictObject({ ...Flags, ref: z.string().optional(), release: ReleaseNumber.optional() }),
    async run(input, context) {
      if (input.ref !== undefined && input.release !== undefined) {
        throw fail("USAGE", {
          message: "--ref and --release exclude each other.",
          hint: "A release is its commit, already built: give one of the two.",
        });
      }
      const app = await appFor(input, context);
      const environment = await environmentFor(app, input, context);
      const what = input.release === undefined ? { ref: await refFor(input.ref, context) } : { release: input.release };
      const started = await (await context.client()).deploy(app, { environment, ...what });
      return finish(started, { app, environment, kind: "deploy" }, input, context);
    },
  }),
  defineCommand({
    name: "rollback",
    summary: "go back to an earlier release, at once",
    details:
      "Nothing is built. The release that stands by answers within milliseconds; an older one is started first.\nAutomatic deployments of the environment are paused afterwards, until `shipway resume`.",
    options: [
      APP,
      ENV,
      { flags: "--to <rN>", summary: "the release (default: the previous good one)" },
      NO_WAIT,
      JSON_OUT,
    ],
    examples: [
      { run: "shipway rollback", does: "back to the previous good release" },
      { run: "shipway rollback --to r5 --env production", does: "back to a release of your choice" },
    ],
    input: z.strictObject({ ...Flags, to: ReleaseNumber.optional() }),
    async run(input, context) {
      const app = await appFor(input, context);
      const environment = await environmentFor(app, input, context);
      const request = input.to === undefined ? {} : { to: input.to };
      const started = await (await context.client()).rollback(app, environment, request);
      return finish(started, { app, environment, kind: "rollback" }, input, context);
    },
  }),
  defineCommand({
    name: "resume",
    summary: "let pushes deploy again after a rollback",
    options: [APP, ENV],
    examples: [{ run: "shipway resume --env production", does: "automatic deployments go on" }],
    input: z.strictObject({ ...AppFlag, ...EnvFlag }),
    async run(input, context) {
      const client = await context.client();
      const app = await appFor(input, context);
      const environment = await environmentFor(app, input, context);
      const before = await client.getEnvironment(app, environment);
      await client.resume(app, environment);
      if (before.frozen === null) context.say(`${environment} was not paused; pushes deploy there.`);
      else context.say(`${context.colors.err.green("✓")} Pushes deploy to ${environment} again (${before.rule}).`);
      context.say(`  Next: push, or deploy a release: \`shipway deploy --env ${environment} --release rN\``);
      return 0;
    },
  }),
  defineCommand({
    name: "cancel",
    summary: "stop a deployment (what served before serves on), or a command that runs",
    args: [{ name: "id", summary: "of the deployment or the run" }],
    examples: [
      { run: "shipway cancel d_8k2m", does: "as `shipway deployments` lists them" },
      { run: "shipway cancel run_5h3x", does: "as `shipway runs` lists them" },
    ],
    input: z.strictObject({ id: z.string() }),
    async run({ id }, context) {
      const client = await context.client();
      if (id.startsWith("run_")) return cancelRun(id, context);
      const deployment = await client.getDeployment(id);
      if (deployment.endedAt !== null) {
        context.say(`${id} has already ended (${deployment.status}); there is nothing to cancel.`);
        return 2;
      }
      await client.cancelDeployment(id);
      context.say(`${context.colors.err.green("✓")} ${id} is being canceled.`);
      context.say(`  See how it ends: \`shipway deployments ${id}\``);
      return 0;
    },
  }),
];

async function refFor(ref: string | undefined, context: CommandContext): Promise<string> {
  const chosen = ref ?? (await currentBranch(context.cwd));
  if (chosen !== undefined) return chosen;
  throw fail("USAGE", {
    message: "What should be deployed? There is no current branch here.",
    hint: "Name it: `--ref main`, or an existing release: `--release rN` (`shipway releases` lists them).",
  });
}

type Asked = { app: string; environment: string; kind: "deploy" | "rollback" };

async function finish(
  started: Started,
  asked: Asked,
  input: { json: boolean; wait: boolean },
  context: CommandContext,
): Promise<ExitCode> {
  if (!input.wait) return leaveAtOnce(started, input.json, context);
  const { code, events } = await followDelivery(started, context);
  if (code === 130) return code;
  const ended = events.findLast(
    ({ kind, environment }) =>
      (kind === "deployment.ended" || kind === "deployment.waiting") && environment === asked.environment,
  );
  const id = started.deploymentId ?? (typeof ended?.data.deploymentId === "string" ? ended.data.deploymentId : null);
  const deployment = id === null ? undefined : await (await context.client()).getDeployment(id);
  if (input.json) context.json(deployment ?? { ...started, ...events.at(-1)?.data });
  const from = events.find(({ kind, data }) => kind === "deployment.started" && data.deploymentId === id)?.data.from;
  if (code === 0 && deployment) sayNext(deployment, { ...asked, isFirst: from === undefined }, context);
  return code;
}

function leaveAtOnce(started: Started, json: boolean, context: CommandContext): ExitCode {
  if (json) context.json(started);
  context.say(`Started. Follow it: \`shipway deployments ${started.deploymentId ?? started.deliveryId}\``);
  return 0;
}

/** What one most likely wants after a deployment. After a rollback the narration has said that pushes are paused, and how to go on. */
function sayNext(deployment: Deployment, asked: Asked & { isFirst: boolean }, context: CommandContext): void {
  if (deployment.status !== "succeeded" || asked.kind === "rollback") return;
  const took = deployment.liveAfterMs === null ? "" : ` (live after ${formatDurationMs(deployment.liveAfterMs)})`;
  const back = asked.isFirst ? "" : ` Back again: \`shipway rollback --env ${asked.environment}\``;
  context.say(`  r${deployment.release} serves ${asked.environment}${took}.${back}`);
}
