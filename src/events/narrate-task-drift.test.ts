import { describe, expect, it } from "vitest";
import { describeTaskDrift } from "./narrate-task-drift.ts";

const web = { name: "shop.production.web.r3-1", what: "task" as const };

describe("describeTaskDrift", () => {
  it("says what each is, what differs, and who puts it right", () => {
    const attributes = [{ path: "memory", before: "512 MiB", after: "64 MiB" }];
    const remedy = "shipway deploy --app shop --env production";
    expect(
      describeTaskDrift([
        { ...web, kind: "changed", attributes, mendsItself: false, remedy },
        { name: "cache", what: "backing", kind: "missing", attributes: [], mendsItself: true },
        { name: "debug", what: "unknown", kind: "unknown", attributes: [], mendsItself: false },
      ]),
    ).toEqual([
      "  ~ shop.production.web.r3-1 was changed",
      "      memory: 512 MiB → 64 MiB",
      "    → `shipway deploy --app shop --env production`",
      "  - cache is missing; it is put right by itself",
      "  + debug is not declared",
    ]);
  });

  it("shows of many the first, and lets no name move the cursor", () => {
    const many = Array.from({ length: 15 }, (_, index) => ({
      ...{
        name: `n${index}\u001b[2J`,
        what: "task" as const,
        kind: "stopped" as const,
        attributes: [],
        mendsItself: true,
      },
    }));
    const lines = describeTaskDrift(many);
    expect(lines).toHaveLength(13);
    expect(lines[0]).toBe("  - n0 does not run; it is put right by itself");
    expect(lines.at(-1)).toBe("  … and 3 more");
  });
});
