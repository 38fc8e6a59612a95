import { describe, expect, it } from "vitest";
import { parsePlanJson } from "./plan-json.ts";
import { type DriftRules, ignoreIn, readDrift } from "./read-drift.ts";
import { isOurs, type WrittenValue } from "./rollout-writes.ts";

const NOW = Date.parse("2026-11-26T12:00:00Z");
const SERVICE = "arn:aws:ecs:eu-central-1:1:service/shop/web";
const RULE = "arn:aws:elasticloadbalancing:eu-central-1:1:listener-rule/app/x/1/2/3";
const [BLUE, GREEN] = ["arn:blue", "arn:green"];

/** As `terraform show -json` has an ECS service: in the state revision 3 and two tasks, deployed since then revision 7 with four. */
const service = (after: object, before: object = {}) => ({
  address: "aws_ecs_service.web",
  mode: "managed",
  type: "aws_ecs_service",
  change: {
    actions: ["update"],
    before: { id: SERVICE, task_definition: "web:3", desired_count: 2, tags: { team: "a" }, ...before },
    after: { id: SERVICE, task_definition: "web:3", desired_count: 2, tags: { team: "a" }, ...after },
  },
});
const undone = (from: ReturnType<typeof service>) => ({
  ...from,
  change: { actions: ["update"], before: from.change.after, after: from.change.before },
});
const unplanned = (from: ReturnType<typeof service>) => ({
  ...from,
  change: { actions: ["no-op"], before: from.change.after, after: from.change.after },
});
const write = (of: Partial<WrittenValue>): WrittenValue => ({
  type: "aws_ecs_service",
  object: SERVICE,
  path: "task_definition",
  among: {},
  value: "web:7",
  previous: undefined,
  writtenAt: new Date(NOW - 3_600_000),
  ...of,
});
const WRITES = [write({}), write({ path: "desired_count", value: 4 })];

function read(change: object, drift: object, rules: Partial<DriftRules> = {}, writes: WrittenValue[] = []) {
  const plan = { format_version: "1.2", resource_changes: [change], resource_drift: [drift] };
  return readDrift(parsePlanJson(JSON.stringify(plan)), {
    ignored: [],
    isOurs: (found) => isOurs(writes, found, NOW),
    ...rules,
  }).map(({ kind, attributes, reason }) => [kind, attributes.map(({ path }) => path).join(), reason]);
}

describe("drift of a resource of which somebody ignores an attribute", () => {
  const found = service({ desired_count: 5, tags: { team: "b" } });
  const ignored = [{ address: "aws_ecs_service.web", path: "desired_count", reason: "sale" }];

  it("is told of the others alone", () => {
    expect(read(undone(found), found, { ignored })).toEqual([
      ["reverting", "tags.team", undefined],
      ["ignored", "desired_count", "sale"],
    ]);
  });

  it("would be put back only where the plan touches something else", () => {
    const computed = service({ desired_count: 5, arn: "x" });
    expect(read(undone(service({ desired_count: 5 })), computed, { ignored })).toEqual([
      ["informational", "arn", undefined],
      ["ignored", "desired_count", "sale"],
    ]);
  });

  it("is quiet about all that is below a path, and about no other that begins alike", () => {
    const rules = (path: string) => ({ ignored: [{ address: "aws_ecs_service.web", path, reason: "r" }] });
    const tags = service({ tags: { team: "b" }, tags_all: { team: "b" } });
    expect(read(undone(tags), tags, rules("tags"))).toEqual([
      ["reverting", "tags_all", undefined],
      ["ignored", "tags.team", "r"],
    ]);
  });

  it("is told anew in what is known already, so that nobody is told twice", () => {
    const report = [
      {
        address: "a.b",
        kind: "reverting" as const,
        action: "update" as const,
        attributes: ["x", "y.z"].map((path) => ({ path, before: "1", after: "2" })),
      },
    ];
    const told = (path: string) =>
      ignoreIn(report, { address: "a.b", path, reason: "r" }).map(({ kind, attributes }) => [kind, attributes.length]);
    expect(told("y")).toEqual([
      ["reverting", 1],
      ["ignored", 1],
    ]);
    expect(told("")).toEqual([["ignored", 2]]);
    expect(told("q")).toEqual([["reverting", 2]]);
  });
});

describe("what a rollout set", () => {
  const deployed = service({ task_definition: "web:7", desired_count: 4 });

  it("is no drift where the code ignores it", () => {
    expect(read(unplanned(deployed), deployed, {}, WRITES)).toEqual([
      ["informational", "task_definition,desired_count", "a rollout set it"],
    ]);
  });

  it("says so where the next apply would undo the rollout", () => {
    const [[kind, , reason] = []] = read(undone(deployed), deployed, {}, WRITES);
    expect([kind, reason]).toEqual(["informational", expect.stringContaining("lifecycle.ignore_changes")]);
  });

  it.each([
    ["another revision by hand", service({ task_definition: "web:6", desired_count: 4 }), "task_definition"],
    ["another count by hand", service({ task_definition: "web:7", desired_count: 9 }), "desired_count"],
    [
      "another service of the same type",
      service({ id: "arn:other", task_definition: "web:7" }, { id: "arn:other" }),
      "task_definition",
    ],
  ])("does not cover %s", (_what, found, path) => {
    expect(read(undone(found), found, {}, WRITES)).toContainEqual(["reverting", path, undefined]);
  });

  it("covers what the rollout before wrote only while the next is at work", () => {
    const before = service({ task_definition: "web:6" });
    const at = (writtenAt: Date) => [write({ previous: "web:6", writtenAt })];
    expect(read(undone(before), before, {}, at(new Date(NOW - 60_000)))[0]?.[0]).toBe("informational");
    expect(read(undone(before), before, {}, at(new Date(NOW - 16 * 60_000)))[0]?.[0]).toBe("reverting");
  });

  it("covers the weights of a listener rule by their target group, in whatever order they come", () => {
    const groups = (...of: [string, number][]) => ({
      id: RULE,
      action: [{ forward: [{ target_group: of.map(([arn, weight]) => ({ arn, weight })) }] }],
    });
    const rule = (after: object) => ({
      address: "aws_lb_listener_rule.web",
      mode: "managed",
      type: "aws_lb_listener_rule",
      change: { actions: ["update"], before: groups([BLUE, 100], [GREEN, 0]), after },
    });
    const weight = (arn: string, value: number) =>
      write({
        type: "aws_lb_listener_rule",
        object: RULE,
        path: "action.forward.target_group.weight",
        among: { arn },
        value,
      });
    const writes = [weight(BLUE, 0), weight(GREEN, 100)];
    const kinds = (after: object) => read(undone(rule(after) as never), rule(after), {}, writes).map(([kind]) => kind);
    expect(kinds(groups([BLUE, 0], [GREEN, 100]))).toEqual(["informational"]);
    expect(kinds(groups([BLUE, 50], [GREEN, 50]))).toEqual(["reverting"]);
  });
});

describe("a sensitive attribute that drifted", () => {
  it("is named and not shown, whatever is ignored or ours", () => {
    const change = {
      actions: ["update"],
      before: { id: "x", password: "old-secret", nested: [{ key: "old-key" }] },
      after: { id: "x", password: "new-secret", nested: [{ key: "new-key" }] },
      before_sensitive: { password: true, nested: [{ key: true }] },
      after_sensitive: { password: true, nested: [{ key: true }] },
    };
    const resource = { address: "a.b", mode: "managed", type: "a", change };
    const plan = { format_version: "1.2", resource_changes: [resource], resource_drift: [resource] };
    for (const path of [undefined, "password", ""]) {
      const ignored = path === undefined ? [] : [{ address: "a.b", path, reason: "r" }];
      const found = readDrift(parsePlanJson(JSON.stringify(plan)), { ignored, isOurs: () => false });
      expect(JSON.stringify(found)).not.toMatch(/(old|new)-(secret|key)/);
      expect(found.flatMap(({ attributes }) => attributes.map((one) => one.path)).sort()).toEqual([
        "nested[0].key",
        "password",
      ]);
    }
  });
});
