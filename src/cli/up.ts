import { once } from "node:events";
import { type ControlPlaneOptions, startControlPlane } from "../control-plane.ts";
import { newDeferred } from "../shared/deferred.ts";
import { formatDurationMs } from "../shared/duration.ts";
import type { ExitCode } from "./context.ts";
import type { Terminal } from "./terminal.ts";

export type UpDeps = Terminal & {
  /** Lets the commands of this user find the server. */
  remember(url: string, token: string): Promise<void>;
};

/** Runs the control plane until Ctrl-C. What it prints first is what a newcomer needs next. */
export async function runUp(
  options: Omit<ControlPlaneOptions, "onProgress" | "onTakenOver">,
  deps: UpDeps,
): Promise<ExitCode> {
  const startedAt = deps.now();
  const takenOver = newDeferred<string>();
  const plane = await startControlPlane({
    ...options,
    onProgress: (text) => deps.err(`  ${text}\n`),
    onTakenOver: (holder) => takenOver.resolve(holder),
  });
  if (plane.firstToken) await deps.remember(plane.apiUrl, plane.firstToken);
  deps.err(
    [
      `Shipway is up (${formatDurationMs(deps.now() - startedAt)}).`,
      `  API and git   ${plane.apiUrl}`,
      plane.httpPort === undefined
        ? "  Apps          on ECS, at their domains (there is no Docker Engine here)"
        : `  Apps          http://SERVICE.ENVIRONMENT.APP.localhost:${plane.httpPort}`,
      `  Data          ${options.dataDir}`,
      ...(plane.firstToken
        ? [
            `  Admin token   ${plane.firstToken}`,
            "                (shown this once; this user's commands use it already)",
          ]
        : []),
      plane.firstToken
        ? "Next, in a checkout of yours: shipway app create NAME && git push shipway main"
        : "Ctrl-C stops Shipway; the apps keep serving.",
      "",
    ].join("\n"),
  );
  const interrupted = deps.interrupted.aborted ? Promise.resolve() : once(deps.interrupted, "abort");
  const ended = await Promise.race([interrupted.then(() => undefined), takenOver.promise]);
  if (ended !== undefined) {
    // Not stopped in order, which would write: all of it belongs to the other one now.
    deps.err(`\nAnother Shipway has taken over this database (${ended}); this one ends.\n`);
    return 75;
  }
  deps.err("\nStopping Shipway; the apps keep serving.\n");
  await plane.stop();
  return 0;
}
