import { describe, expect, it } from "vitest";
import { newLookSlots } from "./look-slots.ts";

const run = (environment: string, kind: "plan" | "apply" | "drift" = "drift") => ({ app: "shop", environment, kind });

/** Work that ends when it is told to. */
function newWork() {
  const running: string[] = [];
  const most = { count: 0 };
  const end = new Map<string, () => void>();
  return {
    running,
    most,
    work: (name: string) => async () => {
      running.push(name);
      most.count = Math.max(most.count, running.length);
      await new Promise<void>((resolve) => end.set(name, resolve));
      running.splice(running.indexOf(name), 1);
      return name;
    },
    async end(name: string) {
      end.get(name)?.();
      await turn();
    },
  };
}
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("slots for work that only looks", () => {
  it("lets so many run at a time, in the order in which they were asked for, and an apply at once", async () => {
    const slots = newLookSlots({ plans: 1, drifts: 2 });
    const { work, running, end, most } = newWork();
    const names = Array.from({ length: 50 }, (_, n) => `d${n}`);
    const all = names.map((name) => slots(run(name), work(name)));
    await turn();
    expect(running).toEqual(["d0", "d1"]);
    const applied = slots(run("d0", "apply"), work("apply"));
    await turn();
    expect(running).toContain("apply");
    await end("apply");
    expect(await applied).toBe("apply");
    for (const name of names) await end(name);
    expect(await Promise.all(all)).toEqual(names);
    expect(most.count).toBe(3);
  });

  it("lets two looks at one environment wait for each other, and holds no slot meanwhile", async () => {
    const slots = newLookSlots({ plans: 2, drifts: 1 });
    const { work, running, end } = newWork();
    const all = [
      slots(run("a", "plan"), work("a1")),
      slots(run("a", "plan"), work("a2")),
      slots(run("b", "plan"), work("b1")),
    ];
    await turn();
    expect(running).toEqual(["a1", "b1"]);
    await end("a1");
    expect(running).toEqual(["b1", "a2"]);
    await end("b1");
    await end("a2");
    expect(await Promise.all(all)).toEqual(["a1", "a2", "b1"]);
  });

  it("gives its place free when it fails", async () => {
    const slots = newLookSlots({ plans: 1, drifts: 1 });
    await expect(slots(run("a"), () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await slots(run("a"), async () => "yes")).toBe("yes");
  });
});
