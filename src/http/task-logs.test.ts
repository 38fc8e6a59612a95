import { expect, it } from "vitest";
import type { RolloutTarget } from "../rollout/target.ts";
import { newDeferred } from "../shared/deferred.ts";
import { followTaskLogs } from "./task-logs.ts";

const place = { app: "shop", environment: "production" };
const wanted = { release: 7, service: undefined, sinceMs: 0 };

it("lets a reader that is slow lose lines, and tells it so, rather than keep whoever prints them", async () => {
  const printed = newDeferred<void>();
  const target: Pick<RolloutTarget, "readLogs"> = {
    async readLogs(_place, _source, _options, log) {
      for (let n = 0; n < 25_000; n++) log("web", [{ at: n, stream: "out", text: String(n) }]);
      printed.resolve();
    },
  };
  const lines = followTaskLogs(
    { target, secrets: { all: async () => [] } },
    place,
    wanted,
    AbortSignal.timeout(60_000),
  );
  const first = lines.next();
  await printed.promise;
  const taken = [(await first).value];
  for await (const line of lines) taken.push(line);
  const meta = taken.filter((line) => line?.stream === "meta");
  expect(meta.map((line) => line?.text)).toEqual([expect.stringMatching(/^\d+ lines are left out here/)]);
  const out = taken.filter((line) => line?.stream === "out");
  expect(out.length + Number.parseInt(meta[0]?.text ?? "", 10)).toBe(25_000);
  expect(out.at(-1)?.text).toBe("24999");
});
