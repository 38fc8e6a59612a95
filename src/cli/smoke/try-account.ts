import { FARGATE_PRICES, taskHourUsd } from "../../aws/fargate-prices.ts";
import { fail } from "../../shared/errors.ts";
import type { AwsNeeds } from "../aws-settings.ts";
import type { CommandContext } from "../command.ts";
import type { ExitCode } from "../context.ts";
import type { Check } from "../doctor.ts";
import { renderChecks } from "../render-checks.ts";

export const DEFAULT_IMAGE = "node:20-bookworm-slim";

/** Two releases of three tasks, and one that runs a command. */
const TASKS = 7;
const HOURS = 0.25;

/** Looks first; says what it will do and cost, asks, and tries the account. Where something is to be fixed, nothing is tried unless a person insists. */
export async function tryAccount(
  needs: AwsNeeds,
  { image = DEFAULT_IMAGE, yes, json }: { image: string | undefined; yes: boolean; json: boolean },
  context: CommandContext,
): Promise<ExitCode> {
  // Loaded only where somebody tries an account.
  const { SMOKE_LINES } = await import("./run-smoke.ts");
  const width = Math.max(...SMOKE_LINES.map((name) => name.length));
  const show = (checks: readonly Check[]) => {
    if (!json) for (const line of renderChecks(checks, context.colors.out, width)) context.data(line);
  };
  const looked = await context.actions.doctorAws(needs);
  show(looked);
  const broken = looked.filter(({ status }) => status === "fail").length;
  for (const line of whatItDoes(needs, image)) context.say(line);
  if (!(await isWanted(broken, yes, context))) {
    if (json) context.json(looked);
    context.say(broken > 0 ? "Nothing was tried: fix what is marked first." : "Nothing was tried.");
    return 1;
  }
  const tried = await context.actions.smokeAws(needs, {
    image,
    signal: context.interrupted,
    onLine: (check) => show([check]),
    onProgress: (text) => context.say(context.colors.err.dim(`  … ${text}`)),
  });
  if (json) context.json([...looked, ...tried]);
  context.say(verdict(tried));
  if (tried.some(({ status }) => status === "fail")) return 1;
  return context.interrupted.aborted ? 130 : 0;
}

function whatItDoes({ settings }: AwsNeeds, image: string): string[] {
  const { region, cluster, architecture, publicIp } = settings;
  const prices = FARGATE_PRICES.find((one) => one.region === region);
  const size = { cpu: 256, memoryMiB: 512, storageGiB: 20, architecture, publicIp };
  const usd = prices && TASKS * HOURS * taskHourUsd(size, prices);
  const cost = usd === undefined ? "a few cents" : `about $${usd.toFixed(2)} at list prices`;
  return [
    `This makes a service and a worker of ${image} in the cluster ${cluster} (${region}), moves traffic between three releases of it, and removes everything again.`,
    `It takes 10 to 15 minutes and costs ${cost}: at most ${TASKS} of the smallest tasks at a time. Ctrl-C removes what was made, too.`,
  ];
}

/** What is broken for the look may be right after all, which only a person can judge. */
async function isWanted(broken: number, yes: boolean, context: CommandContext): Promise<boolean> {
  if (broken > 0)
    return (
      context.isTTY.in && (await context.confirm(`${broken} marked above would have to be fixed. Try it all the same?`))
    );
  if (yes) return true;
  if (!context.isTTY.in) {
    throw fail("USAGE", {
      message: "Nobody is there to be asked, and it makes things that cost something.",
      hint: "If you mean it: `shipway doctor aws --smoke --yes`",
    });
  }
  return context.confirm("Begin?");
}

function verdict(tried: readonly Check[]): string {
  const of = (status: Check["status"]) => tried.filter((check) => check.status === status).length;
  if (of("fail") > 0) return `${of("fail")} of ${tried.length} did not hold on this account.`;
  if (of("skip") > 0) return `${of("ok")} of ${tried.length} held; the rest was not come to.`;
  return `All ${tried.length} held on this account${of("warn") > 0 ? `; ${of("warn")} with a remark` : ""}.`;
}
