import { z } from "zod";
import type { Environment } from "../../http/schemas.ts";
import { type Command, defineCommand } from "../command.ts";
import { APP, AppFlag, appFor, JSON_OUT, JsonFlag } from "../input.ts";
import type { Column } from "../table.ts";

export const ENVIRONMENT_COLUMNS: Column<Environment>[] = [
  { title: "ENVIRONMENT", value: ({ name }) => name },
  { title: "LIVE", value: ({ liveRelease }) => releaseOr(liveRelease, "nothing yet") },
  { title: "STANDBY", value: ({ standbyRelease }) => releaseOr(standbyRelease, "-") },
  {
    title: "TASKS",
    value: ({ services }) => services.map((one) => `${one.name} ${one.running}/${one.wanted}`).join(", ") || "-",
    flexible: true,
  },
  { title: "STATE", value: stateOf, flexible: true },
  { title: "DEPLOYED FROM", value: ({ rule }) => rule, flexible: true },
];

export const envCommands: Command[] = [
  defineCommand({
    name: "env list",
    summary: "the environments of an app",
    options: [APP, JSON_OUT],
    examples: [{ run: "shipway env list", does: "what is live, what stands by, what deploys there" }],
    input: z.strictObject({ ...AppFlag, ...JsonFlag }),
    async run(input, context) {
      const app = await appFor(input, context);
      const environments = await (await context.client()).listEnvironments(app);
      if (input.json) context.json(environments);
      else if (environments.length === 0)
        context.say(`${app} has no environment yet: push it. \`git push shipway main\``);
      else context.table(environments, ENVIRONMENT_COLUMNS);
      return 0;
    },
  }),
];

function stateOf({ frozen, runningDeployment, services }: Environment): string {
  if (runningDeployment !== null) return `deploying (${runningDeployment})`;
  if (frozen !== null) return "frozen: automatic deployments are paused";
  return services.some(({ running, wanted }) => running < wanted) ? "degraded" : "ok";
}

const releaseOr = (release: number | null, otherwise: string) => (release === null ? otherwise : `r${release}`);
