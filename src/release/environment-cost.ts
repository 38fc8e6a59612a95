import { FARGATE_PRICES, type FargatePrices, isStorageUnpriced, taskHourUsd } from "../aws/fargate-prices.ts";
import type { Place } from "../rollout/release.ts";
import { formatDurationMs } from "../shared/duration.ts";

/** AWS's own calculator takes a month for so many hours. */
export const HOURS_A_MONTH = 730;

type DeclaredService = { name: string; cpu: number; memoryMiB: number; count: number; port?: number };

export type CostInput = Place & {
  /** What runs, or would; undefined while nothing is live. */
  release: { number: number; services: DeclaredService[]; standbyMs: number } | undefined;
  /** The release that stands by now. */
  standbyRelease: number | undefined;
  runtime:
    | { kind: "docker" }
    | {
        kind: "ecs";
        region: string | undefined;
        architecture: "x86_64" | "arm64";
        storageGiB: number;
        publicIp: boolean;
        spot?: boolean | undefined;
      };
  /** Price it as if it ran on Fargate there. */
  asIfIn: string | undefined;
};

/** Dollars are null where there is no price, never a guess. */
export type EnvironmentCost = Place & {
  runtime: "docker" | "ecs";
  release: number | null;
  prices: { region: string; asOf: string; confirmed: boolean; architecture: "x86_64" | "arm64" } | null;
  services: { name: string; cpu: number; memoryMiB: number; count: number; hourUsd: number | null }[];
  hourUsd: number | null;
  monthUsd: number | null;
  /** What the previous release costs while it stands by after a deployment; null where standing by costs nothing of its own. */
  standby: {
    release: number | null;
    forMs: number;
    hourUsd: number | null;
    deploymentUsd: number | null;
  } | null;
  /** What is to be known about the figures, in sentences. */
  notes: string[];
};

const NOT_INCLUDED =
  "Not included: the load balancer and its capacity units, NAT gateways, databases and caches from Terraform, traffic, log lines, images in ECR, secrets, Savings Plans, taxes. See https://calculator.aws and, for what was really paid, Cost Explorer by the tags shipway:app and shipway:environment.";

/** From declared sizes alone: nothing is asked of AWS, and what autoscaling or a failing task would add is not in it. Pure. */
export function costOfEnvironment(input: CostInput): EnvironmentCost {
  const { app, environment, release, standbyRelease, runtime, asIfIn } = input;
  const region = asIfIn ?? (runtime.kind === "ecs" ? runtime.region : undefined);
  const prices = FARGATE_PRICES.find((one) => one.region === region);
  const { architecture, storageGiB, publicIp } =
    runtime.kind === "ecs" ? runtime : { architecture: "x86_64" as const, storageGiB: 20, publicIp: false };
  const hourOf = ({ cpu, memoryMiB, count }: DeclaredService): number | null =>
    prices === undefined ? null : count * taskHourUsd({ cpu, memoryMiB, storageGiB, architecture, publicIp }, prices);
  const declared = release?.services ?? [];
  const hourUsd = sum(declared.map(hourOf));
  // Workers of the previous release end with the deployment; only what had traffic stands by.
  const standbyHourUsd = sum(declared.filter(({ port }) => port !== undefined).map(hourOf));
  const standbyMs = release?.standbyMs ?? 0;
  return {
    app,
    environment,
    runtime: runtime.kind,
    release: release?.number ?? null,
    prices: prices ? { region: prices.region, asOf: prices.asOf, confirmed: prices.isConfirmed, architecture } : null,
    services: declared.map((service) => ({
      name: service.name,
      cpu: service.cpu,
      memoryMiB: service.memoryMiB,
      count: service.count,
      hourUsd: rounded(hourOf(service)),
    })),
    hourUsd: rounded(hourUsd),
    monthUsd: rounded(times(hourUsd, HOURS_A_MONTH)),
    standby:
      release === undefined || region === undefined
        ? null
        : {
            release: runtime.kind === "ecs" ? (standbyRelease ?? null) : null,
            forMs: standbyMs,
            hourUsd: rounded(standbyHourUsd),
            deploymentUsd: rounded(times(standbyHourUsd, standbyMs / 3_600_000)),
          },
    notes: notesOn(input, region, prices, standbyMs),
  };
}

function notesOn(
  { app, environment, release, runtime, asIfIn }: CostInput,
  region: string | undefined,
  prices: FargatePrices | undefined,
  standbyMs: number,
): string[] {
  const known = FARGATE_PRICES.map((one) => one.region).join(", ");
  const notes: string[] = [];
  if (release === undefined) notes.push(`Nothing is live in ${environment} of ${app}.`);
  if (runtime.kind === "docker" && asIfIn === undefined) {
    notes.push(
      `${environment} runs on this server's Docker Engine: it costs what that machine costs. What it would on AWS: \`--region us-east-1\``,
    );
    return notes;
  }
  if (runtime.kind === "docker")
    notes.push(`${environment} runs on Docker: these are figures for the same sizes on AWS.`);
  else if (asIfIn !== undefined && asIfIn !== runtime.region)
    notes.push(
      `${environment} runs in ${runtime.region ?? "a Region that is not known yet"}: these are figures for ${asIfIn}.`,
    );
  if (prices === undefined) {
    notes.push(
      `There are no prices for ${region ?? "its Region, which comes from Terraform outputs that are not there yet"}, and none are guessed. To compare, take a Region that there are prices for (${known}): \`--region us-east-1\``,
    );
    return notes;
  }
  notes.push(
    prices.isConfirmed
      ? `On-demand list prices of ${prices.region}, ${prices.asOf}; a month has ${HOURS_A_MONTH} hours.`
      : `On-demand list prices of ${prices.region} as we know them from ${prices.asOf}, not confirmed since: compare https://aws.amazon.com/fargate/pricing/. A month has ${HOURS_A_MONTH} hours.`,
  );
  if (runtime.kind === "ecs" && runtime.spot === true)
    notes.push(
      "Its tasks run on Spot, whose price changes and is in no table here: the figures are those on demand, and so the most they can cost. What Spot costs now: https://aws.amazon.com/fargate/pricing/",
    );
  if (runtime.kind === "ecs" && isStorageUnpriced(runtime, prices))
    notes.push(
      `Disk beyond 20 GiB a task (${runtime.storageGiB} GiB here) is not included: there is no price for it in ${prices.region}.`,
    );
  if (standbyMs > 0)
    notes.push(
      `The previous release stands by, running, for ${formatDurationMs(standbyMs)} after each deployment: web services cost double for so long. While a release starts, workers do, too.`,
    );
  notes.push(NOT_INCLUDED);
  return notes;
}

function sum(parts: (number | null)[]): number | null {
  return parts.reduce((all: number | null, one) => (all === null || one === null ? null : all + one), 0);
}

const times = (amount: number | null, factor: number): number | null => (amount === null ? null : amount * factor);

/** To a millionth of a dollar: below it are only the errors of binary fractions. */
const rounded = (amount: number | null): number | null => (amount === null ? null : Number(amount.toFixed(6)));
