import { z } from "zod";
import type { Review } from "./event.ts";
import { cutText, plain, WIDTH, wrap } from "./narrated-line.ts";

/** A chat is told enough to decide whether to look. */
const SHOWN_COMMITS = 8;

const ReviewData = z.object({
  from: z.number().nullable(),
  commits: z.array(z.object({ commit: z.string(), subject: z.string(), author: z.string() })),
  more: z.number(),
  takesBack: z.number(),
  ranIn: z.array(
    z.object({
      environment: z.string(),
      release: z.number(),
      status: z.enum(["succeeded", "failed"]),
      verified: z.number(),
      isLive: z.boolean(),
      addresses: z.array(z.string()),
      at: z.string(),
    }),
  ),
}) satisfies z.ZodType<Review>;

export const WaitingData = z.object({
  deploymentId: z.string(),
  release: z.number(),
  approvers: z.string().optional(),
  mayApprove: z.array(z.string()),
  expiresAt: z.string().optional(),
  ...ReviewData.partial().shape,
});

/** What waits, for whom, with what it would change, and how it is answered. */
export function waitingLines(data: z.output<typeof WaitingData>, environment: string | null): string[] {
  const { deploymentId, release, expiresAt } = data;
  const review = ReviewData.safeParse(data);
  const until = expiresAt === undefined ? "" : ` until ${expiresAt.slice(0, 16).replace("T", " ")} UTC`;
  return [
    ...wrap("! ", `${environment}: r${release} waits for an approval by ${describeApprovers(data)}${until}`),
    ...(review.success ? reviewLines(review.data) : []),
    `  → \`shipway approve ${deploymentId}\``,
    `    or turn it down: \`shipway approve ${deploymentId} --reject "why"\``,
  ];
}

function describeApprovers({ approvers, mayApprove }: z.output<typeof WaitingData>): string {
  if (approvers === "anyone") return "a tester";
  if (mayApprove.length > 0) return `a tester other than its author (such as ${mayApprove.slice(0, 3).join(", ")})`;
  return approvers === "others"
    ? "a tester other than its author; nobody else has the role: `shipway token create NAME --role tester`"
    : "a tester; nobody else has the role, so its author may approve it";
}

/** What a release brings, and where it ran before. */
export function reviewLines({ from, commits, more, takesBack, ranIn }: Review): string[] {
  const count = commits.length + more;
  const head = from === null ? "the first release here:" : `${plural(count, "commit")} since r${from}:`;
  const hidden = count - Math.min(SHOWN_COMMITS, commits.length);
  return [
    ...(count > 0 ? [`  ${head}`] : []),
    ...commits
      .slice(0, SHOWN_COMMITS)
      .map(({ commit, subject, author }) =>
        cutText(`    ${commit.slice(0, 7)} ${plain(subject)} (${plain(author)})`, WIDTH),
      ),
    ...(count > 0 && hidden > 0 ? [`    and ${hidden} more`] : []),
    ...(count === 0 && takesBack === 0 ? [`  the commit that serves now (r${from})`] : []),
    ...(takesBack > 0
      ? wrap("  ! ", `it takes back ${plural(takesBack, "commit")} of r${from}, which serves now`)
      : []),
    ...(ranIn.length === 0 ? wrap("  ! ", "these images were not deployed anywhere else yet") : []),
    ...ranIn.flatMap(ranLines),
  ];
}

function ranLines({ environment, release, status, verified, isLive, addresses }: Review["ranIn"][number]): string[] {
  if (status === "failed") return wrap("  ✗ ", `the same images failed in ${environment} (r${release})`);
  const passed = verified === 0 ? "" : `, ${plural(verified, "verify command")} passed`;
  const where = isLive ? `serve in ${environment}` : `served in ${environment}`;
  return [
    ...wrap("  ✓ ", `the same images ${where} (r${release}${passed})`),
    ...(isLive ? addresses.map((address) => `    ${address}`) : []),
  ];
}

const plural = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;

export const DecidedData = z.object({ release: z.number(), by: z.string(), comment: z.string().optional() });
type Decided = z.output<typeof DecidedData>;

export const approvedLines = ({ release, by, comment }: Decided, environment: string | null): string[] =>
  wrap("✓ ", `${environment}: ${plain(by)} approved r${release}${comment === undefined ? "" : `: ${plain(comment)}`}`);

export const rejectedLines = ({ release, by, comment }: Decided, environment: string | null): string[] =>
  wrap(
    "✗ ",
    `${environment}: ${plain(by)} turned r${release} down${comment === undefined ? "" : `: ${plain(comment)}`}`,
  );
