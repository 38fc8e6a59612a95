import { describe, expect, it } from "vitest";
import { fail } from "../shared/errors.ts";
import { buildImages, type ImageEvent } from "./build-images.ts";
import type { ImageBuilder, ImagePlan } from "./builder.ts";
import { BROKEN_TARGET, memoryBuilder, SLOW_TARGET } from "./drivers/memory.ts";

function planOf(service: string, target?: string, hash = service): ImagePlan {
  const name = `shipway/shop/${service}:${hash}`;
  const rest = { repositoryDir: "/nowhere", commit: "0".repeat(40), context: ".", dockerfile: "Dockerfile", args: {} };
  return { app: "shop", service, name, ...rest, ...(target === undefined ? {} : { target }) };
}

function newDeps(signal?: AbortSignal) {
  const events: ImageEvent[] = [];
  const logs: Record<string, string[]> = {};
  const logFor = (service: string) => (lines: { text: string }[]) => {
    logs[service] = [...(logs[service] ?? []), ...lines.map(({ text }) => text)];
  };
  return {
    events,
    logs,
    deps: { logFor, onEvent: (event: ImageEvent) => events.push(event), ...(signal ? { signal } : {}) },
  };
}

describe("buildImages", () => {
  it("returns the images in the order of the plans, each with its own log", async () => {
    const { deps, logs, events } = newDeps();
    const outcome = await buildImages([planOf("web"), planOf("api"), planOf("job")], memoryBuilder(), deps);
    expect(outcome).toMatchObject({
      status: "built",
      images: [{ service: "web" }, { service: "api" }, { service: "job" }],
    });
    expect(Object.keys(logs).sort()).toEqual(["api", "job", "web"]);
    expect(
      events
        .filter(({ kind }) => kind === "built")
        .map(({ service }) => service)
        .sort(),
    ).toEqual(["api", "job", "web"]);
  });

  it("tells of an image that is there already as reused", async () => {
    const builder = memoryBuilder();
    await buildImages([planOf("web")], builder, newDeps().deps);
    const { deps, events } = newDeps();
    await buildImages([planOf("web")], builder, deps);
    expect(events.map(({ kind }) => kind)).toEqual(["started", "reused"]);
  });

  it("lets every build end and returns all failures", async () => {
    const { deps, events } = newDeps();
    const builder = memoryBuilder();
    const outcome = await buildImages(
      [planOf("a", BROKEN_TARGET), planOf("b"), planOf("c", BROKEN_TARGET)],
      builder,
      deps,
    );
    expect(outcome).toMatchObject({ status: "failed", failures: [{ service: "a" }, { service: "c" }] });
    expect(builder.names()).toEqual(["shipway/shop/b:b"]);
    expect(events.filter(({ kind }) => kind === "failed")).toHaveLength(2);
  });

  it("rejects with the first error and stops what still builds", async () => {
    const memory = memoryBuilder();
    const builder: ImageBuilder = {
      ...memory,
      build: async (plan, log, signal) => {
        if (plan.service === "bad") throw fail("DISK_FULL", { message: "full", hint: "free" });
        return memory.build(plan, log, signal);
      },
    };
    const building = buildImages(
      [planOf("slow", SLOW_TARGET), planOf("bad"), planOf("later")],
      builder,
      newDeps().deps,
    );
    await expect(building).rejects.toMatchObject({ code: "DISK_FULL" });
  });

  it("rejects with the signal's reason", async () => {
    const controller = new AbortController();
    const { deps } = newDeps(controller.signal);
    const building = buildImages([planOf("slow", SLOW_TARGET)], memoryBuilder(), deps);
    controller.abort(new Error("a newer change came"));
    await expect(building).rejects.toThrow("a newer change came");
  });

  it("never runs more than two at once, and services of one source one after the other", async () => {
    const memory = memoryBuilder();
    const running: string[] = [];
    const seen: string[][] = [];
    const builder: ImageBuilder = {
      ...memory,
      build: async (plan, log, signal) => {
        running.push(plan.service);
        seen.push([...running]);
        await new Promise((resolve) => setImmediate(resolve));
        running.splice(running.indexOf(plan.service), 1);
        return memory.build(plan, log, signal);
      },
    };
    const plans = [planOf("web", undefined, "same"), planOf("worker", undefined, "same"), planOf("a"), planOf("b")];
    await buildImages(plans, builder, newDeps().deps);
    expect(Math.max(...seen.map((services) => services.length))).toBe(2);
    expect(seen.some((services) => services.includes("web") && services.includes("worker"))).toBe(false);
  });
});
