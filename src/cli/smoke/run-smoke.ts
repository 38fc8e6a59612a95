import type { Check } from "../doctor.ts";
import { type Found, look } from "./lines.ts";
import {
  allRequests,
  brokenRelease,
  exitCode,
  firstRelease,
  flip,
  loadBalancer,
  logsArrive,
  nothingToMend,
  releaseCommand,
  removal,
  removeEarlier,
  repetition,
  requestInFlight,
  rollback,
  secondRelease,
  secretArrives,
  smokePlace,
  sweep,
} from "./steps.ts";
import { newTrial, type SmokeAccount, type SmokeOptions, type Trial } from "./trial.ts";

/** Where one that is `needed` does not hold, what comes after it says nothing. */
type Step = { name: string; find(trial: Trial): Promise<Found>; needed?: true };

/** In their order; docs/aws.md says what each line proves. */
const STEPS: readonly Step[] = [
  { name: "earlier tests", find: removeEarlier, needed: true },
  { name: "first release", find: firstRelease, needed: true },
  { name: "release command", find: releaseCommand },
  { name: "load balancer", find: loadBalancer, needed: true },
  { name: "secret", find: secretArrives },
  { name: "logs", find: logsArrive },
  { name: "exit code", find: exitCode },
  { name: "nothing to mend", find: nothingToMend },
  { name: "repetition", find: repetition },
  { name: "broken release", find: brokenRelease, needed: true },
  { name: "second release", find: secondRelease, needed: true },
  { name: "flip", find: flip },
  { name: "rollback", find: rollback, needed: true },
  { name: "requests in flight", find: requestInFlight },
  { name: "all requests", find: allRequests },
];
const ENDING: readonly Step[] = [
  { name: "removal", find: removal },
  { name: "sweep", find: sweep },
];

export const SMOKE_LINES = [...STEPS, ...ENDING].map(({ name }) => name);

/**
 * Deploys a tiny service, breaks it, deploys it again, goes back and removes it, and looks at each step whether AWS does what the driver believes of it.
 * Whatever happens, what was made is removed, also when the signal aborts; what a kill leaves behind is removed by the next test. Never throws.
 */
export async function runSmoke(account: SmokeAccount, options: SmokeOptions): Promise<Check[]> {
  const { signal, onLine, onProgress } = options;
  const trial = newTrial(account, options, smokePlace(options.owner));
  const checks: Check[] = [];
  const tell = (check: Check) => {
    checks.push(check);
    onLine(check);
  };
  let stopped: string | undefined;
  for (const { name, find, needed } of STEPS) {
    if (stopped === undefined && signal.aborted) stopped = "interrupted";
    if (stopped !== undefined) {
      tell({ name, status: "skip", found: stopped });
      continue;
    }
    const check = await look(name, () => find(trial), signal);
    tell(check);
    if (needed && check.status === "fail") stopped = `not come to, since “${name}” failed`;
  }
  await trial.traffic.stop();
  // From here on nothing is interrupted: a removal that stops half way is the one thing that must not be.
  onProgress("removing what the test made; tasks may finish what they do, which takes up to three minutes");
  for (const { name, find } of ENDING) tell(await look(name, () => find(trial), signal));
  return checks;
}
