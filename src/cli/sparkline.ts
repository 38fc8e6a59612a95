const LEVELS = "▁▂▃▄▅▆▇█";
/** Where nothing is known: a gap, which is not zero. */
const GAP = " ";

/** One character a value, from 0 to `top`; without it to the highest of them. */
export function sparkline(values: readonly (number | null)[], top?: number): string {
  const highest = Math.max(top ?? 0, ...values.map((value) => value ?? 0));
  return values
    .map((value) => {
      if (value === null) return GAP;
      const level = highest === 0 ? 0 : Math.round((value / highest) * (LEVELS.length - 1));
      // What is not nothing is to be seen as something.
      return LEVELS[value > 0 && level === 0 && highest > 0 ? 1 : level] ?? GAP;
    })
    .join("");
}

/** Values at their times as `width` values over a stretch of time, each the mean of those in its part of it. */
export function spread(
  points: readonly { atMs: number; value: number | null }[],
  { fromMs, toMs, width }: { fromMs: number; toMs: number; width: number },
): (number | null)[] {
  const parts = Array.from({ length: width }, (): number[] => []);
  for (const { atMs, value } of points) {
    const index = Math.floor(((atMs - fromMs) / (toMs - fromMs)) * width);
    if (value !== null) parts[Math.min(width - 1, Math.max(0, index))]?.push(value);
  }
  return parts.map((some) => (some.length === 0 ? null : some.reduce((sum, one) => sum + one, 0) / some.length));
}
