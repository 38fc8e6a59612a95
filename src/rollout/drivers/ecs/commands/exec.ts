import type { Session } from "@aws-sdk/client-ecs";
import { isAgentNotRunning } from "../../../../aws/aws-errors.ts";
import { ChannelFault, openChannel, type SsmChannel } from "../../../../aws/ssm-channel/open-channel.ts";
import { signConnection } from "../../../../aws/ssm-channel/sign-connection.ts";
import { assertNever } from "../../../../shared/assert-never.ts";
import { fail, hasCode, type ShipwayError } from "../../../../shared/errors.ts";
import { newId } from "../../../../shared/new-id.ts";
import { sleep } from "../../../../shared/until.ts";
import type { EcsSettings } from "../../../runtime.ts";
import type { RolloutTarget } from "../../../target.ts";
import type { Ground } from "../ground.ts";
import { bootstrapOf, endCommandOf } from "./exec-script.ts";
import { runInChannel } from "./exec-session.ts";
import { type FoundTask, findTask, findTasksLike } from "./find-task.ts";

/** Connection and handshake; an agent gives up its side after 15 s (amazon-ssm-agent, agent/session/datachannel). */
const OPEN_WITHIN_MS = 20_000;

/** An exec of this process: where it is, and whether its command was begun. */
type Live = { at: FoundTask; channel: SsmChannel | undefined };

/** Commands inside running tasks, through ECS Exec. */
export function newExec(ground: Ground): Pick<RolloutTarget, "exec" | "endExec"> {
  const live = new Map<string, Live>();
  return {
    async exec(place, task, request) {
      const at = await findTask(ground, place, task);
      if (at === undefined) throw notRunning(task);
      const own: Live = { at, channel: undefined };
      live.set(request.id, own);
      const channel = await openSession(ground, at, task, request.id);
      own.channel = channel;
      const session = await runInChannel(channel, task, request);
      // Ended by itself: nobody asks for its end any more.
      session.ended.then(() => live.delete(request.id)).catch(() => undefined);
      return session;
    },

    async endExec(place, task, id) {
      const own = live.get(id);
      // Another process began it, and a task's name is its rank by age: since then it may have moved up.
      const where = own === undefined ? await findTasksLike(ground, place, task) : [own.at];
      if (own === undefined || own.channel !== undefined) {
        for (const at of where) await endIn(ground, at, task, id);
      }
      own?.channel?.leave();
      live.delete(id);
    },
  };
}

/** What cannot be gone into holds nothing that we began there: without a shell or an agent no command ever runs, and an agent that stops takes its commands along. */
const NOTHING_LEFT = ["EXEC_NOT_ENABLED", "EXEC_AGENT_DOWN", "EXEC_NO_SHELL", "TASK_NOT_RUNNING"] as const;

async function endIn(ground: Ground, at: FoundTask, task: string, id: string): Promise<void> {
  try {
    const own = newId("x");
    const channel = await openSession(ground, at, task, own);
    const session = await runInChannel(channel, task, { id: own, command: endCommandOf(id) });
    session.stdout.resume();
    session.stderr.resume();
    await session.ended;
  } catch (error) {
    if (!NOTHING_LEFT.some((code) => hasCode(error, code))) throw error;
  }
}

/** A shell in the task, at the other end of a channel. @throws EXEC_NOT_ENABLED, EXEC_AGENT_DOWN, TASK_NOT_RUNNING */
async function openSession(ground: Ground, at: FoundTask, task: string, id: string): Promise<SsmChannel> {
  const { aws, settings, times } = ground;
  const endsAt = Date.now() + times.execAgentMs;
  for (;;) {
    await awaitAgent(ground, at, task, endsAt);
    try {
      const { session } = await aws.ecs.executeCommand({
        cluster: settings.cluster,
        task: at.arn,
        container: at.service,
        command: bootstrapOf(id),
        interactive: true,
      });
      return await connect(ground, task, session ?? {});
    } catch (error) {
      // Also said while the agent connects anew, which takes seconds.
      if (!isAgentNotRunning(error)) throw error;
      if (Date.now() >= endsAt) throw agentDown(task, "AWS does not reach it");
    }
    await sleep(times.watchMs);
  }
}

/** Waits for an agent that is just starting, as it does beside each task. */
async function awaitAgent(ground: Ground, at: FoundTask, task: string, endsAt: number): Promise<void> {
  for (;;) {
    const seen = await ground.reader.execReadiness(at.arn);
    if (seen?.status !== "RUNNING") throw notRunning(task);
    if (!seen.isEnabled) throw notEnabled(ground, task);
    if (seen.agent === "RUNNING") return;
    const state = `${seen.agent ?? "missing"}${seen.reason === undefined ? "" : ` (${seen.reason})`}`;
    if (seen.agent === "STOPPED" || Date.now() >= endsAt) throw agentDown(task, `it is ${state}`);
    await sleep(ground.times.watchMs);
  }
}

async function connect({ aws, settings }: Ground, task: string, { streamUrl = "", tokenValue = "" }: Session) {
  const { region } = settings;
  const headers = await signConnection(streamUrl, { region, credentials: aws.ecs.config.credentials });
  try {
    return await openChannel({ url: streamUrl, token: tokenValue, headers, openMs: OPEN_WITHIN_MS });
  } catch (error) {
    throw error instanceof ChannelFault ? toPublic(error, settings, task, new URL(streamUrl).host) : error;
  }
}

function toPublic(fault: ChannelFault, settings: EcsSettings, task: string, host: string): ShipwayError {
  switch (fault.kind) {
    case "refused":
      return fault.status === 401 || fault.status === 403 ? denied(fault, settings) : unreachable(fault, host);
    case "unreachable":
      return unreachable(fault, host);
    case "silent":
      return agentDown(task, fault.message);
    case "closed":
      return fail("EXEC_CUT_OFF", { message: `AWS ended the session in ${task} before it began: ${fault.message}.` });
    case "unsupported":
      return fail("EXEC_ENCRYPTED", {
        message: `A command in ${task} was not begun: sessions of the cluster ${settings.cluster} are to be encrypted with a KMS key of yours (${fault.message}), which Shipway does not do.`,
        hint: "Take `kmsKeyId` out of the cluster's executeCommandConfiguration (sessions are encrypted with TLS all the same), or use the AWS CLI there.",
      });
    default:
      return assertNever(fault.kind);
  }
}

/** The data channel is no call of the SDK, so its refusal is told here. */
function denied(fault: ChannelFault, { region, listener }: EcsSettings) {
  const [, partition = "aws", , , account = "*"] = listener.split(":");
  const statement = {
    Effect: "Allow",
    Action: "ssmmessages:OpenDataChannel",
    Resource: `arn:${partition}:ssm:${region}:${account}:session/ecs-execute-command-*`,
  };
  return fail("AWS_DENIED", {
    message: `AWS refused ssmmessages:OpenDataChannel in ${region}: ${fault.message}.`,
    hint: `Add this to the policy of Shipway's role:\n${JSON.stringify(statement)}`,
    cause: fault,
  });
}

function unreachable(fault: ChannelFault, host: string) {
  return fail("AWS_UNREACHABLE", {
    message: `${host}, through which commands in tasks go, did not take the connection: ${fault.message}.`,
    hint: "Let this server reach it at port 443, or give its network a VPC endpoint for ssmmessages.",
    cause: fault,
  });
}

function notEnabled({ settings }: Ground, task: string) {
  const first = settings.exec
    ? "It was started before that was turned on."
    : "Write `aws: { exec: true }` at the environment in shipway.yml, with a task role that has the statement of terraform/aws-fargate/policies/task-exec.json (the module does both with `exec = true`).";
  return fail("EXEC_NOT_ENABLED", {
    message: `No command can be run in ${task}: ECS Exec is not enabled for it.`,
    hint: `${first} Then deploy: only tasks that start after it have it. A command in a task of its own needs none of that: \`shipway run\`.`,
  });
}

function agentDown(task: string, why: string) {
  return fail("EXEC_AGENT_DOWN", {
    message: `No command can be run in ${task}: AWS's agent in it is not there: ${why}.`,
    hint: "The task role needs the statement of terraform/aws-fargate/policies/task-exec.json, the task a way to ssmmessages (NAT, a public address, or a VPC endpoint), and its container a root filesystem that can be written to. `shipway doctor aws` looks at the first two; the agent is started anew with the next deployment.",
  });
}

function notRunning(task: string) {
  return fail("TASK_NOT_RUNNING", {
    message: `${task} does not run now.`,
    hint: "`shipway status` shows what runs. A command in a task of its own needs none that runs: `shipway run`.",
  });
}
