import { randomBytes } from "node:crypto";
import type { RolloutEvent, RolloutOutcome } from "../../rollout/outcome.ts";
import type { Place, Release } from "../../rollout/release.ts";
import { rollOut } from "../../rollout/run.ts";
import type { RolloutTarget, TaskVariables } from "../../rollout/target.ts";
import type { LogLine } from "../../shared/log-line.ts";
import { Secret } from "../../shared/secret.ts";
import { sleep } from "../../shared/until.ts";
import type { Check } from "../doctor.ts";
import { Disproved } from "./lines.ts";
import { SECRET_NAME, smokeRelease } from "./service.ts";
import { type Answer, type Ask, type BalancerAddress, moveFigures, startTraffic } from "./traffic.ts";

/** One call to AWS; `at` is when it was about to be sent, ms since 1970. */
type AwsCall = { at: number; service: string; command: string };

/** The account that is tried, by the real driver under an installation of the test's own. */
export type SmokeAccount = {
  target: RolloutTarget;
  /** What smoke tests have laid and not removed: their environments, and when each began. */
  begun(app: string): Promise<{ environment: string; at: number }[]>;
  /** ARNs that carry the place's tags and are not gone. */
  left(place: Place): Promise<string[]>;
  /** Where requests enter. */
  balancerAddress(): Promise<BalancerAddress>;
  /** So far, oldest first. */
  calls: AwsCall[];
};

/** Whoever runs the test. */
export type SmokeOwner = { machine: string; pid: number; isAlive(pid: number): boolean };

export type SmokeOptions = {
  image: string;
  scheme: "http" | "https";
  owner: SmokeOwner;
  signal: AbortSignal;
  onLine(check: Check): void;
  /** What is done now, for whoever waits. */
  onProgress(text: string): void;
  times?: Partial<SmokeTimes>;
};

export type SmokeTimes = {
  /** Between two requests through the load balancer. */
  everyMs: number;
  /** How long a request in flight takes. */
  slowMs: number;
  /** How long the old release must have been silent before a move is over. */
  quietMs: number;
  /** How long is waited for what follows by itself: lines in the log, a rule that takes effect. */
  followsMs: number;
};

const TIMES: SmokeTimes = { everyMs: 5, slowMs: 20_000, quietMs: 5_000, followsMs: 90_000 };
const NO_VARIABLES: TaskVariables = { env: {}, secrets: {} };

/** Everything the lines of one test share. */
export type Trial = ReturnType<typeof newTrial>;

export function newTrial(account: SmokeAccount, options: SmokeOptions, place: Place) {
  const { target, calls } = account;
  const { image, scheme, signal } = options;
  const times = { ...TIMES, ...options.times };
  const host = `${place.environment}.smoke.invalid`;
  const secret = randomBytes(16).toString("hex");
  const variables = {
    web: { env: {}, secrets: { [SECRET_NAME]: new Secret(SECRET_NAME, secret) } },
    worker: NO_VARIABLES,
  };
  const lines: LogLine[] = [];
  const traffic = newTraffic();
  let live: Release | undefined;
  let rolledAt = 0;

  async function rollTo(kind: "deploy" | "rollback", release: Release): Promise<RolloutOutcome> {
    rolledAt = Date.now();
    const outcome = await rollOut(
      {
        place,
        deploymentId: `smoke-r${release.number}`,
        kind,
        release,
        ...(live && { previous: { release: live, variables } }),
        verify: [],
        bakeMs: 1_000,
      },
      {
        target,
        variables,
        durable: (_name, step) => step(),
        onEvent: (event) => tell(event, options.onProgress),
        log: () => (some) => void lines.push(...some),
        signal,
        now: Date.now,
      },
    );
    if (outcome.status === "done") live = release;
    return outcome;
  }

  return {
    account,
    options,
    place,
    host,
    secret,
    variables,
    times,
    /** What release commands printed. */
    lines,
    traffic,
    rollTo,
    release: (number: number, isBroken = false) => smokeRelease(place, number, { image, host, scheme, isBroken }),
    live(): Release {
      if (live === undefined) throw new Error("nothing is live yet");
      return live;
    },

    /** When the last rollout wrote the listener rule. @throws Disproved when it did not */
    movedAt(): number {
      const move = calls.filter(({ command, at }) => command === "ModifyRule" && at >= rolledAt).at(-1);
      if (move === undefined) throw new Disproved("the listener rule was not written");
      return move.at;
    },

    /** What was seen of a move, once the old release has been silent for a while. */
    async settledMove(movedAt: number, release: string) {
      const endsAt = Date.now() + times.followsMs;
      for (;;) {
        const figures = moveFigures(traffic.answers, movedAt, release);
        const silentSince = movedAt + (figures.lastOldMs ?? 0);
        const isOver = figures.firstNewMs !== undefined && Date.now() - silentSince >= times.quietMs;
        if (isOver || Date.now() >= endsAt) return { ...figures, isOver };
        await sleep(times.everyMs * 10, signal);
      }
    },
  };
}

/** Requests through the load balancer, once they flow. */
function newTraffic() {
  const answers: Answer[] = [];
  let flow: { ask: Ask; stop(): Promise<void>; close(): void } | undefined;
  return {
    answers,
    ask: (path: string) => flow?.ask(path) ?? Promise.reject(new Error("no request was ever answered")),
    flow(ask: Ask, everyMs: number, close: () => void): void {
      flow = { ask, close, stop: startTraffic(ask, answers, everyMs).stop };
    },
    /** Waits for the answers that are still to come. */
    async stop(): Promise<void> {
      await flow?.stop();
      flow?.close();
    },
  };
}

function tell(event: RolloutEvent, onProgress: (text: string) => void): void {
  if (event.kind === "phase-started") onProgress(event.detail);
  if (event.kind === "waiting") onProgress(event.detail);
}
