import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasCode } from "../shared/errors.ts";
import type { LogLine } from "../shared/log-line.ts";
import type { BuildOutcome, ImageBuilder, ImagePlan } from "./builder.ts";

/** What a driver's test hands to the suite. Each plan is of content that was never built before. */
export type BuilderWorkshop = {
  builder: ImageBuilder;
  app: string;
  goodPlan(service: string): Promise<ImagePlan>;
  /** Prints `compiling` and fails in line 3 of its Dockerfile. */
  brokenPlan(service: string): Promise<ImagePlan>;
  /** Takes a minute or more. */
  slowPlan(service: string): Promise<ImagePlan>;
  /** An image that is there, and one that is nowhere. */
  presentImage: string;
  absentImage: string;
  close(): Promise<void>;
};

/** What every driver of the image builder promises. */
export function describeImageBuilder(driver: string, open: () => Promise<BuilderWorkshop>): void {
  describe(`image builder: ${driver}`, () => {
    let shop: BuilderWorkshop;
    beforeAll(async () => {
      shop = await open();
    });
    afterAll(() => shop.close());

    it("builds an image, and the second time finds it", async () => {
      const plan = await shop.goodPlan("web");
      const first = image(await shop.builder.build(plan, () => {}));
      const second = image(await shop.builder.build(plan, () => {}));
      expect(first).toMatchObject({ service: "web", name: plan.name, reused: false });
      expect(first.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
      expect(second).toMatchObject({ reused: true, digest: first.digest, name: plan.name });
    });

    it("returns a failing Dockerfile as a result with its line and last output, each time", async () => {
      const plan = await shop.brokenPlan("web");
      const lines: LogLine[] = [];
      const outcome = await shop.builder.build(plan, (some) => lines.push(...some));
      expect(outcome).toMatchObject({
        status: "failed",
        failure: {
          service: "web",
          name: plan.name,
          dockerfileLine: 3,
          lastLines: expect.arrayContaining(["compiling"]),
        },
      });
      expect(lines.map(({ text }) => text)).toContain("compiling");
      expect((await shop.builder.build(plan, () => {})).status).toBe("failed");
    });

    it("makes one build of two requests for the same image, and both see its log", async () => {
      const plan = await shop.goodPlan("twice");
      const logs: string[][] = [[], []];
      const outcomes = await Promise.all(
        logs.map((log) => shop.builder.build(plan, (lines) => log.push(...lines.map(({ text }) => text)))),
      );
      const [one, other] = outcomes.map(image);
      expect(one).toEqual(other);
      expect(one?.reused).toBe(false);
      expect(logs[0]).toEqual(logs[1]);
      expect(logs[0]?.length).toBeGreaterThan(0);
    });

    it("stops when it is told to and rejects with the signal's reason; the same image can be built anew", async () => {
      const plan = await shop.slowPlan("slow");
      const controller = new AbortController();
      const reason = new Error("a newer change came");
      const building = shop.builder.build(plan, () => controller.abort(reason), controller.signal);
      await expect(building).rejects.toBe(reason);
      const again = new AbortController();
      await expect(shop.builder.build(plan, () => again.abort(reason), again.signal)).rejects.toBe(reason);
    });

    it("rejects at once when it was told to stop before it began", async () => {
      const reason = new Error("too late");
      const plan = await shop.goodPlan("never");
      await expect(shop.builder.build(plan, () => {}, AbortSignal.abort(reason))).rejects.toBe(reason);
    });

    it("lets the other request go on when one of two goes away", async () => {
      const plan = await shop.goodPlan("shared");
      const controller = new AbortController();
      const leaving = shop.builder.build(plan, () => {}, controller.signal);
      const staying = shop.builder.build(plan, () => {});
      controller.abort(new Error("gone"));
      await expect(leaving).rejects.toThrow("gone");
      expect((await staying).status).toBe("built");
    });

    it("returns the id of an image that is there, the same each time", async () => {
      const first = await shop.builder.fetch(shop.presentImage, () => {});
      expect(first.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
      expect(await shop.builder.fetch(shop.presentImage, () => {})).toEqual(first);
    });

    it("says IMAGE_UNAVAILABLE for an image that is nowhere", async () => {
      await expect(shop.builder.fetch(shop.absentImage, () => {})).rejects.toSatisfy((error) =>
        hasCode(error, "IMAGE_UNAVAILABLE"),
      );
    });

    it("removes images that are not kept, and only those of the app", async () => {
      const [kept, dropped] = [await shop.goodPlan("kept"), await shop.goodPlan("dropped")];
      for (const plan of [kept, dropped]) await shop.builder.build(plan, () => {});
      expect(await shop.builder.prune(`${shop.app}-other`, [])).toEqual([]);
      const removed = await shop.builder.prune(shop.app, [kept.name]);
      expect(removed).toContain(dropped.name);
      expect(removed).not.toContain(kept.name);
      expect(image(await shop.builder.build(kept, () => {})).reused).toBe(true);
      expect(image(await shop.builder.build(dropped, () => {})).reused).toBe(false);
    });
  });
}

function image(outcome: BuildOutcome) {
  if (outcome.status === "built") return outcome.image;
  throw new Error(`the build failed: ${outcome.failure.message}\n${outcome.failure.lastLines.join("\n")}`);
}
