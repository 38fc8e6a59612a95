import type { Answers, RouterAnswers } from "../router.ts";
import type { StatRow } from "./live-router.ts";

/** Rows of one worker process. */
export type WorkerRows = { pid: number; rows: StatRow[] };

const NONE: Answers = { requests: 0, answers4xx: 0, answers5xx: 0 };
const CLASSES = ["hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other"] as const;

/**
 * Adds up what HAProxy's workers count. Each counts from nothing: when the configuration is loaded anew another worker takes over, and a server that is
 * added again begins anew. What was counted before the first `add` is nobody's.
 */
export function newAnswerCounts() {
  const before = new Map<string, Answers>();
  const tasks: RouterAnswers["tasks"] = new Map();
  /** Errors of a back end less those of its tasks. A moment's picture may have an answer with the one and not yet with the other, so only its highest counts. */
  const unanswered = new Map<string, { sum: number; most: number }>();
  let isFirst = true;

  function growth(key: string, row: StatRow): Answers {
    const now = answersOf(row);
    const last = before.get(key) ?? (isFirst ? now : NONE);
    before.set(key, now);
    return grown(last, now);
  }

  function addTask(name: string, row: StatRow, { requests, answers4xx, answers5xx }: Answers): void {
    const known = tasks.get(name) ?? { ...NONE, meanMs: 0 };
    tasks.set(name, {
      requests: known.requests + requests,
      answers4xx: known.answers4xx + answers4xx,
      answers5xx: known.answers5xx + answers5xx,
      // The mean of a server's last 1,024 answers (HAProxy management guide, `rtime`).
      meanMs: requests > 0 ? Number(row.rtime ?? 0) : known.meanMs,
    });
  }

  return {
    /** Takes what every worker tells at one moment, and gives what there was in all. */
    add(workers: WorkerRows[]): RouterAnswers {
      const present = { rows: new Set<string>(), tasks: new Set<string>(), backends: new Set<string>() };
      for (const { pid, rows } of workers) {
        for (const row of rows) {
          const backend = servedBackend(row);
          const { svname = "" } = row;
          if (backend === undefined) continue;
          const key = `${pid} ${row.pxname}/${svname}`;
          const more = growth(key, row);
          present.rows.add(key);
          present.backends.add(backend);
          const known = unanswered.get(backend) ?? { sum: 0, most: 0 };
          const sum = known.sum + (svname === "BACKEND" ? more.answers5xx : -more.answers5xx);
          unanswered.set(backend, { ...known, sum });
          if (svname === "BACKEND") continue;
          present.tasks.add(svname);
          addTask(svname, row, more);
        }
      }
      isFirst = false;
      for (const key of before.keys()) if (!present.rows.has(key)) before.delete(key);
      for (const name of tasks.keys()) if (!present.tasks.has(name)) tasks.delete(name);
      for (const [backend, { sum, most }] of unanswered) {
        if (present.backends.has(backend)) unanswered.set(backend, { sum, most: Math.max(sum, most) });
        else unanswered.delete(backend);
      }
      return {
        tasks: new Map(tasks),
        unanswered: new Map([...unanswered].map(([backend, { most }]) => [backend, most])),
      };
    },
  };
}

/** What came between two looks at counters that begin anew now and then. */
export function grown(last: Answers, now: Answers): Answers {
  const isNew = now.requests < last.requests || now.answers4xx < last.answers4xx || now.answers5xx < last.answers5xx;
  const from = isNew ? NONE : last;
  return {
    requests: now.requests - from.requests,
    answers4xx: now.answers4xx - from.answers4xx,
    answers5xx: now.answers5xx - from.answers5xx,
  };
}

/** The back end of ours whose requests a row counts; undefined for rows of frontends and of proving back ends, which only check. */
function servedBackend({ pxname = "", svname }: StatRow): string | undefined {
  return svname === "FRONTEND" || pxname.startsWith("proving:") ? undefined : baseName(pxname);
}

const baseName = (pxname: string): string => (pxname.startsWith("open:") ? pxname.slice("open:".length) : pxname);

function answersOf(row: StatRow): Answers {
  const count = (name: string) => Number(row[name] || 0);
  return {
    requests: CLASSES.reduce((sum, name) => sum + count(name), 0),
    answers4xx: count("hrsp_4xx"),
    answers5xx: count("hrsp_5xx"),
  };
}
