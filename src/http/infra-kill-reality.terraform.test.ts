import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { idsIn } from "../infra/states.ts";
import { serveReattach } from "../provider/protocol/serve-reattach.ts";
import { newReality, type Reality, realityProvider } from "../provider/testing/reality.ts";
import { sleep, until } from "../shared/until.ts";
import type { InfraRunView } from "./infra-schemas.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";

if (!hasTerraform) console.warn("SKIPPED: killing an apply at 30 moments needs terraform");

const DELAY_MS = 60;
/** Written, not slept through: so many calls the apply below makes. */
const WRITES = 9;

/**
 * After which write Terraform is killed: each one in both directions, in one of them twice. And how long after it was begun, by a fixed sequence
 * (Park-Miller), so that a failure can be repeated.
 */
const MOMENTS = Array.from({ length: 3 * (WRITES + 1) })
  .reduce<number[]>((seeds) => [...seeds, ((seeds.at(-1) ?? 20_261_126) * 48_271) % 2_147_483_647], [])
  .map((seed, n) => ({
    n: n + 1,
    writes: (n + Math.floor(n / (WRITES + 1))) % (WRITES + 1),
    ms: seed % (DELAY_MS + 20),
  }));

/**
 * What is declared in the odd and in the even versions: each step from one to the other updates, replaces (in both orders), destroys and creates, some of
 * it side by side and some of it one after the other.
 */
function mainOf(version: number): string {
  const [here, letter] = version % 2 === 0 ? ["even", "e"] : ["odd", "o"];
  const object = (label: string, name: string, more = "") =>
    `resource "reality_object" "${label}" {\n  name = "${name}"\n  delay_ms = ${DELAY_MS}\n  ${more}\n}\n`;
  return `terraform {
  required_providers {
    reality = { source = "terraform.test/shipway/reality" }
  }
}
${object("kept", "kept", `size = ${version}`)}
${object("anew", `anew${letter}`, "depends_on = [reality_object.kept]")}
${object("beside", `beside${letter}`, "lifecycle { create_before_destroy = true }")}
${object(`${here}first`, `${here}first`)}
${object(`${here}second`, `${here}second`, `depends_on = [reality_object.${here}first]`)}
`;
}
const namesOf = (version: number): string[] => {
  const [here, letter] = version % 2 === 0 ? ["even", "e"] : ["odd", "o"];
  return ["kept", `anew${letter}`, `beside${letter}`, `${here}first`, `${here}second`].sort();
};

describe.skipIf(!hasTerraform)(
  "SIGKILL at 30 moments of an apply (with the real Terraform, against a reality of its own)",
  () => {
    let reality: Reality;
    let served: Awaited<ReturnType<typeof serveReattach>>;
    let test: InfraTest;
    let version = 1;
    const outcomes = new Map<string, number>();
    beforeAll(async () => {
      reality = newReality();
      served = await serveReattach(realityProvider(reality));
      test = await newInfraTest({ reattach: served.reattach });
      await commit();
      await through(await test.run({ kind: "apply" }));
    }, 60_000);
    afterAll(async () => {
      await test?.close();
      await served?.close();
    });

    const commit = () => test.commit({ "shipway.yml": specWith({ dir: "infra" }), "infra/main.tf": mainOf(version) });
    const inState = async () => idsIn((await test.deps.states.latest(IN_SHOP))?.text);
    /** Approves where that is wanted. */
    async function through(run: InfraRunView): Promise<InfraRunView> {
      if (run.status === "waiting") await test.ask("POST", `/api/infra/runs/${run.id}/approve`);
      const ended = await test.settled(run.id);
      expect(ended).toMatchObject({ status: "succeeded", problem: null });
      return ended;
    }

    it.each(MOMENTS)(
      "$n: after write $writes and $ms ms, recovery as it is told makes state, reality and code one again",
      async ({ n, writes, ms }) => {
        version = n + 1;
        await commit();
        const planned = await test.run({ kind: "apply" });
        expect(planned.status).toBe("waiting");
        const before = writesIn(reality);
        await test.ask("POST", `/api/infra/runs/${planned.id}/approve`);
        const pid = await pidOf(planned.id);
        await until("the moment", async () => writesIn(reality) - before >= writes || hasEnded(pid), { everyMs: 2 });
        await sleep(ms);
        killGroup(pid);
        const run = await test.settled(planned.id);
        await test.idle();
        outcomes.set(run.status, (outcomes.get(run.status) ?? 0) + 1);
        if (run.status === "unknown") await recoverAsTold(n);
        else expect(run.status).toBe("succeeded");

        await through(await test.run({ kind: "apply" }));
        const ids = await inState();
        const real = new Map([...reality.objects].map(([id, { name }]) => [id, name]));
        expect([...real.values()].sort()).toEqual(namesOf(version));
        expect([...ids.values()].sort()).toEqual([...real.keys()].sort());
        expect((await test.run({ kind: "plan" })).plan?.changes).toEqual([]);
      },
      60_000,
    );

    it("those moments were in the middle: most of them cut the apply off", () => {
      expect(outcomes.get("unknown")).toBeGreaterThanOrEqual(20);
    });

    /** What a person does who has nothing but what `shipway infra recover` shows, the code, and a look at what exists. */
    async function recoverAsTold(n: number): Promise<void> {
      const recovery = await test.recovery();
      const known = new Set((await inState()).values());
      for (const { id } of recovery.beside) reality.objects.delete(id);
      const found: { address: string; id: string }[] = [];
      for (const { address, beside } of recovery.uncertain.filter(({ action }) => action === "create")) {
        const told = new Set(recovery.finished.map(({ id }) => id));
        const [id] =
          [...reality.objects].find(
            ([one, { name }]) => name === nameOf(address) && !known.has(one) && !told.has(one),
          ) ?? [];
        if (id === undefined) continue;
        // Imported or removed: both are told of, and both must do. Beside the one in the state only removing is.
        if (beside || n % 2 === 0) reality.objects.delete(id);
        else found.push({ address, id });
      }
      const way = found.length > 0 ? "import" : recovery.advice;
      const { runId } = await test.ask<{ runId: string | null }>("POST", `${IN_PRODUCTION}/recover`, { way, found });
      if (runId === null) return;
      // Until what exists is in the state, nothing else is applied.
      expect(await test.tryAsk("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" })).toMatchObject({
        code: "INFRA_BLOCKED",
      });
      await through(await test.settled(runId));
      expect((await test.infra()).blockedBy).toBeNull();
    }

    const nameOf = (address: string): string | undefined => {
      const label = address.split(".")[1] ?? "";
      return namesOf(version).find((name) => name === label || name.startsWith(label));
    };

    const pidOf = (runId: string) =>
      until("Terraform applying", async () =>
        readFile(join(test.platform.infra.dir, "runs", runId, "apply.pid"), "utf8").then(
          (text) => JSON.parse(text).pid as number,
          () => undefined,
        ),
      );
  },
);

const IN_SHOP = { app: "shop", environment: "production" };
const writesIn = ({ calls }: Reality): number => calls.filter((call) => /^(create|update|remove) /.test(call)).length;

function hasEnded(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It had ended: nothing was cut off.
  }
}
