import { z } from "zod";
import { formatDurationMs } from "../shared/duration.ts";
import type { StoredEvent } from "./event.ts";
import { hint, plain, wrap } from "./narrated-line.ts";

/** A plan of hundreds of resources is for `shipway infra runs ID`. */
const SHOWN_CHANGES = 12;
const SHOWN_ATTRIBUTES = 4;

const Attribute = z.object({ path: z.string(), before: z.string(), after: z.string() });
const Change = z.object({
  address: z.string(),
  action: z.string(),
  reason: z.string().optional(),
  attributes: z.array(Attribute).default([]),
});
type Change = z.output<typeof Change>;

const SIGNS: Record<string, string> = {
  create: "+",
  update: "~",
  replace: "±",
  delete: "-",
  forget: "∅",
  import: "<",
  move: ">",
};
const DONE: Record<string, string> = {
  create: "created",
  update: "changed",
  delete: "destroyed",
  replace: "replaced",
  import: "imported",
  move: "moved",
  remove: "forgotten",
};
const WANTED: Record<string, string> = {
  create: "to create",
  update: "to change",
  replace: "to replace",
  delete: "to destroy",
  forget: "to forget",
  import: "to import",
  move: "to move",
};

/** The lines of an infra run. */
export function narrateInfra(event: StoredEvent): string[] {
  return TALES[event.kind]?.(event) ?? [];
}

type Tell = (event: StoredEvent) => string[];

function tell<S extends z.ZodType>(schema: S, lines: (data: z.output<S>, event: StoredEvent) => string[]): Tell {
  return (event) => {
    const parsed = schema.safeParse(event.data);
    return parsed.success ? lines(parsed.data, event) : [];
  };
}

const Mark = { takeover: z.literal(true).optional() };

const TITLES: Record<string, string> = {
  plan: "infra plan",
  apply: "infra",
  destroy: "destroying the infra",
  drift: "drift check",
};

const TALES: Record<string, Tell> = {
  "infra.queued": tell(z.object({ waitsFor: z.string() }), ({ waitsFor }, { environment }) => [
    `  … infra of ${environment} waits for run ${waitsFor}`,
  ]),
  "infra.started": tell(
    z.object({
      kind: z.string(),
      commit: z.string(),
      refName: z.string(),
      repository: z.string().optional(),
      overrule: z.string().optional(),
      ...Mark,
    }),
    ({ kind, commit, refName, repository, takeover, overrule }, { environment, actor }) => [
      `→ ${takeover ? "taking over the drift" : (TITLES[kind] ?? "infra")} of ${environment}  ${repository === undefined ? "" : `${plain(shortAddress(repository))} `}${plain(refName)} ${commit.slice(0, 7)}`,
      ...(overrule === undefined
        ? []
        : wrap("! ", `${plain(actor)} wants destroyed what is protected, too: ${plain(overrule)}`)),
    ],
  ),
  "infra.planned": tell(z.object({ changes: z.array(Change), outputs: z.array(z.string()), ...Mark }), planned),
  "infra.waiting": tell(z.object({ runId: z.string(), reasons: z.array(z.string()) }), ({ runId, reasons }) => [
    ...wrap("! ", `waits for an approval: ${reasons.slice(0, SHOWN_CHANGES).join("; ")}`),
    hint(`\`shipway infra approve ${runId}\``),
  ]),
  "infra.approved": tell(z.object({ by: z.string() }), ({ by }) => [`✓ approved by ${plain(by)}`]),
  "infra.cancelRequested": tell(z.object({ runId: z.string(), by: z.string(), force: z.boolean() }), (data) =>
    wrap(
      "! ",
      data.force
        ? `${plain(data.by)} wants run ${data.runId} stopped at once: what it is at may be lost from the state`
        : `${plain(data.by)} wants run ${data.runId} stopped`,
    ),
  ),
  "infra.stopping": tell(
    z.object({ resources: z.array(z.object({ address: z.string(), seconds: z.number() })) }),
    ({ resources }) =>
      wrap("  … ", `asked Terraform to stop; it finishes what it is at: ${resources.map(describeInFlight).join(", ")}`),
  ),
  "infra.resource": tell(
    z.object({ address: z.string(), action: z.string(), status: z.string(), seconds: z.number().optional() }),
    ({ address, action, status, seconds }) => {
      const time = seconds === undefined || seconds < 1 ? "" : ` in ${seconds} s`;
      if (status === "progress") return [`  … ${plain(address)} takes its time (${seconds ?? 0} s so far)`];
      if (status === "failed") return wrap("✗ ", `${plain(address)} failed`);
      return wrap("✓ ", `${plain(address)} ${DONE[action] ?? "done"}${time}`);
    },
  ),
  "infra.ended": tell(
    z.object({
      runId: z.string(),
      kind: z.string(),
      status: z.string(),
      durationMs: z.number(),
      changes: z.number(),
      ...Mark,
      problem: z.object({ message: z.string(), hint: z.string().optional() }).optional(),
    }),
    ended,
  ),
  "infra.driftFound": tell(z.object({ resources: z.array(Change) }), ({ resources }, { environment }) => [
    ...wrap("! ", `${environment} has drifted from what was applied:`),
    ...describeChanges(resources),
    hint(`\`shipway infra drift --env ${environment}\``),
  ]),
  "infra.driftGone": tell(z.object({}), (_data, { environment }) => [
    `✓ ${environment} no longer differs from what was applied`,
  ]),
  "infra.driftIgnored": tell(
    z.object({ address: z.string(), path: z.string(), reason: z.string(), until: z.string().nullable() }),
    ({ address, path, reason, until }, { environment, actor }) =>
      wrap(
        "! ",
        `${plain(actor)} keeps quiet about ${plain(join(address, path))} in ${environment}${until === null ? "" : ` until ${until.slice(0, 16).replace("T", " ")} UTC`}: ${plain(reason)}`,
      ),
  ),
  "infra.driftUnignored": tell(
    z.object({ address: z.string(), path: z.string() }),
    ({ address, path }, { environment, actor }) =>
      wrap("! ", `${plain(actor)} wants to hear of ${plain(join(address, path))} in ${environment} again`),
  ),
  "infra.codeDiffers": tell(z.object({ resources: z.array(Change) }), ({ resources }, { environment }) => [
    ...wrap(
      "! ",
      `the state of ${environment} says what exists; the code says otherwise, and the next apply changes it:`,
    ),
    ...describeChanges(resources),
    hint("write it into the code, or put it back with the next `shipway infra apply`"),
  ]),
  "infra.lockForced": tell(
    z.object({ lock: z.object({ runId: z.string().nullable(), who: z.string().default("somebody") }) }),
    ({ lock: { runId, who } }, { environment, actor }) =>
      wrap(
        "! ",
        `${plain(actor)} took the state lock of ${environment} from ${runId === null ? plain(who) : `run ${runId}`}`,
      ),
  ),
  "infra.stateRestored": tell(z.object({ from: z.number(), version: z.number() }), (data, { environment }) =>
    wrap("! ", `the state of ${environment} is version ${data.from} again (as version ${data.version})`),
  ),
  "infra.repositoryCreated": tell(z.object({ repository: z.string() }), ({ repository }, { actor }) => [
    `✓ ${plain(actor)} made the infra repository ${repository}`,
  ]),
  "infra.repositoryRemoved": tell(z.object({ repository: z.string() }), ({ repository }, { actor }) => [
    `! ${plain(actor)} removed the infra repository ${repository}`,
  ]),
  "infra.recovered": tell(z.object({ runId: z.string(), how: z.string() }), ({ runId, how }) =>
    wrap("✓ ", `recovered from run ${runId}: ${how}`),
  ),
};

const join = (address: string, path: string) => (path === "" ? address : `${address}.${path}`);

const describeInFlight = ({ address, seconds }: { address: string; seconds: number }) =>
  `${plain(address)} ${seconds} s`;
/** The last part of an address says which repository it is; the whole would fill the line. */
const shortAddress = (repository: string): string => /([^/:]+?)(\.git)?\/?$/.exec(repository)?.[1] ?? repository;

type Planned = { changes: Change[]; outputs: string[]; takeover?: true | undefined };

function planned({ changes, outputs, takeover }: Planned): string[] {
  if (takeover && changes.length > 0)
    return [
      `✓ the state would take over ${changes.length === 1 ? "one resource" : `${changes.length} resources`}; nothing real is changed`,
      ...describeChanges(changes),
    ];
  if (changes.length === 0)
    return [outputs.length === 0 ? "✓ plan: nothing to change" : `✓ plan: only outputs change (${outputs.join(", ")})`];
  const counts = Object.entries(WANTED).flatMap(([action, words]) => {
    const count = changes.filter((change) => change.action === action).length;
    return count === 0 ? [] : [`${count} ${words}`];
  });
  return [`✓ plan: ${counts.join(", ")}`, ...describeChanges(changes)];
}

/** One line per resource, with the attributes that differ below it. */
export function describeChanges(changes: readonly Change[]): string[] {
  const shown = changes
    .slice(0, SHOWN_CHANGES)
    .flatMap(({ address, action, reason, attributes }) => [
      ...wrap(`  ${SIGNS[action] ?? "·"} `, `${plain(address)}${reason === undefined ? "" : ` (${plain(reason)})`}`),
      ...attributes
        .slice(0, SHOWN_ATTRIBUTES)
        .flatMap(({ path, before, after }) => wrap("      ", `${path}: ${plain(before)} → ${plain(after)}`)),
      ...(attributes.length > SHOWN_ATTRIBUTES ? [`      … and ${attributes.length - SHOWN_ATTRIBUTES} more`] : []),
    ]);
  const rest = changes.length - SHOWN_CHANGES;
  return rest > 0 ? [...shown, `  … and ${rest} more`] : shown;
}

type Ended = {
  kind: string;
  status: string;
  durationMs: number;
  changes: number;
  takeover?: true | undefined;
  problem?: { message: string; hint?: string | undefined } | undefined;
};

function ended(
  { kind, status, durationMs, changes, takeover, problem }: Ended,
  { environment }: StoredEvent,
): string[] {
  const title = TITLES[kind] ?? "infra";
  const took = formatDurationMs(durationMs);
  if (status === "succeeded" && takeover)
    return [`✓ the state of ${environment} says what exists (${took}); whether the code does is looked at next`];
  if (status === "succeeded")
    return [
      kind === "destroy"
        ? `✓ infra of ${environment} destroyed in ${took}; the next deployment makes it anew`
        : kind === "apply" && changes > 0
          ? `✓ infra of ${environment} applied in ${took}`
          : `✓ ${title} done in ${took}`,
    ];
  if (status === "canceled" && problem === undefined)
    return [`! ${title} of ${environment} was turned down; nothing was changed`];
  if (status === "superseded" && problem === undefined)
    return [`! ${title} of ${environment} was overtaken by a newer one`];
  return [
    ...wrap(status === "failed" ? "✗ " : "! ", problem?.message ?? `${title} of ${environment} failed after ${took}`),
    ...(problem?.hint === undefined ? [] : wrap("  → ", problem.hint)),
  ];
}
