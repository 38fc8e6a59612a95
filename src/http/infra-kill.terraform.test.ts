import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseState, resourcesIn } from "../infra/states.ts";
import { parseStreamLine } from "../infra/terraform-stream.ts";
import { sleep, until } from "../shared/until.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";

const COUNT = 6;
/** Each takes a fifth of a second, one after the other. */
const MAIN = Array.from(
  { length: COUNT },
  (_, n) => `resource "terraform_data" "r${n}" {
  ${n === 0 ? "" : `depends_on = [terraform_data.r${n - 1}]`}
  provisioner "local-exec" { command = "sleep 0.2" }
}
`,
).join("");

/** Milliseconds after Terraform was started: a fixed sequence (Park-Miller), so that a failure can be repeated. */
const MOMENTS = Array.from({ length: 10 })
  .reduce<number[]>((seeds) => {
    const last = seeds.at(-1) ?? 20_261_123;
    return [...seeds, (last * 48_271) % 2_147_483_647];
  }, [])
  .map((seed) => 20 + (seed % 1_500));

let test: InfraTest;
beforeEach(async () => {
  if (hasTerraform) test = await newInfraTest();
});
afterEach(() => test?.close());

describe.skipIf(!hasTerraform)("SIGKILL of the real Terraform in the middle of an apply", () => {
  it.each(MOMENTS)(
    "after %i ms loses no resource: state and recovery together hold all that it said it made",
    async (ms) => {
      await test.commit({ "shipway.yml": specWith({ dir: "infra" }), "infra/main.tf": MAIN });
      const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
      const runDir = join(test.platform.infra.dir, "runs", runId);
      const pid = await until("Terraform applying", async () =>
        readFile(join(runDir, "apply.pid"), "utf8").then(
          (text) => JSON.parse(text).pid as number,
          () => undefined,
        ),
      );
      await sleep(ms);
      let made = new Map<string, string | undefined>();
      try {
        process.kill(-pid, "SIGKILL");
        made = await saidToBeMade(runDir);
      } catch {
        // It had ended by then: nothing was cut off.
      }
      const run = await test.settled(runId);
      await test.idle();
      if (run.status === "unknown") {
        const { advice, finished } = await test.recovery();
        expect(advice).toBe(made.size === 0 ? "accept" : "import");
        expect(finished.map(({ address }) => address).sort()).toEqual([...made.keys()].sort());
        const { runId: next } = await test.ask<{ runId: string | null }>("POST", `${IN_PRODUCTION}/recover`, {
          way: advice,
        });
        if (next !== null) {
          expect((await test.settled(next)).status).toBe("waiting");
          await test.ask("POST", `/api/infra/runs/${next}/approve`);
          expect((await test.settled(next)).status).toBe("succeeded");
        }
      } else expect(run.status).toBe("succeeded");
      expect((await test.run({ kind: "apply" })).status).toBe("succeeded");
      const state = await test.deps.states.latest({ app: "shop", environment: "production" });
      const objects = resourcesIn(parseState(state?.text ?? ""));
      expect(objects.size).toBe(COUNT);
      for (const [address, id] of made) expect(objects.get(address)?.attributes.id, address).toBe(id);
    },
    60_000,
  );
});

/** What Terraform had told of when it was killed. */
async function saidToBeMade(runDir: string): Promise<Map<string, string | undefined>> {
  const text = await readFile(join(runDir, "apply.jsonl"), "utf8");
  const events = text.split("\n").map((line) => parseStreamLine(line).event);
  return new Map(events.flatMap((event) => (event.type === "done" ? [[event.address, event.id] as const] : [])));
}
