/** US dollars an hour, on demand, Linux. */
type SizePrices = { vcpuHourUsd: number; gibHourUsd: number };

/** What Fargate asks in one Region. A list price: no discounts, no taxes. */
export type FargatePrices = {
  region: string;
  /** Month of the list these were taken from. */
  asOf: string;
  /** Whether two sources of that month agree; otherwise it is a list price as we know it, and said to be so. */
  isConfirmed: boolean;
  x86_64: SizePrices;
  arm64: SizePrices;
  /** Of disk beyond what a task has for nothing; undefined where we know no figure. */
  storageGibHourUsd?: number;
};

const US = {
  x86_64: { vcpuHourUsd: 0.04048, gibHourUsd: 0.004445 },
  arm64: { vcpuHourUsd: 0.03238, gibHourUsd: 0.00356 },
  storageGibHourUsd: 0.000111,
};

/** AWS Fargate pricing (https://aws.amazon.com/fargate/pricing/). A Region that is missing here is not guessed. */
export const FARGATE_PRICES: readonly FargatePrices[] = [
  { region: "us-east-1", asOf: "2026-06", isConfirmed: true, ...US },
  { region: "us-east-2", asOf: "2024-06", isConfirmed: false, ...US },
  { region: "us-west-2", asOf: "2024-06", isConfirmed: false, ...US },
  { region: "eu-west-1", asOf: "2024-06", isConfirmed: false, ...US },
  {
    region: "eu-central-1",
    asOf: "2024-06",
    isConfirmed: false,
    x86_64: { vcpuHourUsd: 0.04656, gibHourUsd: 0.00511 },
    arm64: { vcpuHourUsd: 0.03725, gibHourUsd: 0.00409 },
  },
];

/** The same in every Region since February 2024 (Amazon VPC pricing, public IPv4 addresses). */
const PUBLIC_ADDRESS_HOUR_USD = 0.005;
/** A task has these for nothing (AWS Fargate pricing). */
const FREE_STORAGE_GIB = 20;

export type TaskSize = {
  /** 1024 is one vCPU. */
  cpu: number;
  memoryMiB: number;
  storageGiB: number;
  architecture: "x86_64" | "arm64";
  publicIp: boolean;
};

/** What one task costs an hour. Disk for which there is no figure is left out. */
export function taskHourUsd(task: TaskSize, prices: FargatePrices): number {
  const { vcpuHourUsd, gibHourUsd } = prices[task.architecture];
  const paidGiB = Math.max(0, task.storageGiB - FREE_STORAGE_GIB);
  return (
    (task.cpu / 1_024) * vcpuHourUsd +
    (task.memoryMiB / 1_024) * gibHourUsd +
    paidGiB * (prices.storageGibHourUsd ?? 0) +
    (task.publicIp ? PUBLIC_ADDRESS_HOUR_USD : 0)
  );
}

/** Whether a task of this disk has a cost that `taskHourUsd` leaves out. */
export function isStorageUnpriced({ storageGiB }: Pick<TaskSize, "storageGiB">, prices: FargatePrices): boolean {
  return storageGiB > FREE_STORAGE_GIB && prices.storageGibHourUsd === undefined;
}
