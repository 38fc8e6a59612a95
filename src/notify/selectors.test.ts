import { describe, expect, it } from "vitest";
import { checkSelectors, DEFAULT_SELECTORS, knownSelectors, selects } from "./selectors.ts";

const deployment = (data: Record<string, unknown>) => ({ kind: "deployment.ended", data });

describe("selects", () => {
  it.each([
    [["infra.waiting"], { kind: "infra.waiting", data: {} }, true],
    [["infra.waiting"], { kind: "infra.ended", data: {} }, false],
    [["infra.*"], { kind: "infra.ended", data: {} }, true],
    [["infra.*"], { kind: "image.failed", data: {} }, false],
    [["*"], { kind: "anything.new", data: {} }, true],
    [["deployment.ended:failed"], deployment({ status: "failed" }), true],
    [["deployment.ended:failed"], deployment({ status: "succeeded" }), false],
    [["deployment.ended:rollback"], deployment({ status: "succeeded", kind: "rollback" }), true],
    [["deployment.ended:rollback"], deployment({ status: "failed", kind: "deploy", rolledBack: true }), true],
    [["deployment.ended:rollback"], deployment({ status: "succeeded", kind: "deploy", rolledBack: false }), false],
    [["secret.set", "infra.ended:unknown"], { kind: "infra.ended", data: { status: "unknown" } }, true],
    [[], { kind: "infra.ended", data: {} }, false],
  ])("%j of %j: %s", (selectors, event, expected) => {
    expect(selects(selectors, event)).toBe(expected);
  });

  it("tells by default what somebody has to act on, and not what went well", () => {
    const isTold = (kind: string, data: Record<string, unknown> = {}) => selects(DEFAULT_SELECTORS, { kind, data });
    expect(isTold("infra.driftFound")).toBe(true);
    expect(isTold("infra.ended", { status: "unknown" })).toBe(true);
    expect(isTold("environment.frozen")).toBe(true);
    expect(isTold("infra.ended", { status: "succeeded" })).toBe(false);
    expect(isTold("deployment.ended", { status: "succeeded", kind: "deploy" })).toBe(false);
    expect(isTold("secret.set")).toBe(false);
  });
});

describe("checkSelectors", () => {
  it("takes everything that it names itself, and the defaults", () => {
    expect(() => checkSelectors([...knownSelectors(), ...DEFAULT_SELECTORS, "*", "infra.*"])).not.toThrow();
  });

  it.each([
    ["infra.driftfound", /did you mean infra\.driftFound\?/],
    ["deployment.ended:failde", /did you mean deployment\.ended:failed\?/],
    ["deployment.started:failed", /There is no event deployment\.started:failed/],
    ["nothing.*", /There is no event nothing\.\*/],
    ["", /There is no event/],
  ])("refuses %j", (selector, reason) => {
    expect(() => checkSelectors(["infra.waiting", selector])).toThrow(reason);
  });
});
