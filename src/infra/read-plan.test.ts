import { describe, expect, it } from "vitest";
import { parsePlanJson } from "./plan-json.ts";
import { type Ignored, newDrift, readDrift } from "./read-drift.ts";
import { differingStarts, readPlan, readTakeover, refusalsOf, sensitiveValues, startsOf } from "./read-plan.ts";

type Change = { actions: string[]; before?: unknown; after?: unknown; [more: string]: unknown };
const resource = (address: string, change: Change, more: object = {}) => ({
  address,
  mode: "managed",
  change,
  ...more,
});
const plan = (parts: object) => parsePlanJson(JSON.stringify({ format_version: "1.2", ...parts }));
const changes = (...resource_changes: object[]) => plan({ resource_changes });

describe("readPlan", () => {
  it.each([
    [["create"], "create"],
    [["update"], "update"],
    [["delete"], "delete"],
    [["delete", "create"], "replace"],
    [["create", "delete"], "replace"],
    [["forget"], "forget"],
  ])("reads %j as %s", (actions, action) => {
    const { changes: found } = readPlan(changes(resource("a.b", { actions })), "destructive");
    expect(found).toMatchObject([{ address: "a.b", action }]);
  });

  it("leaves out what is not done, and data that is read", () => {
    const read = { ...resource("data.a.b", { actions: ["read"] }), mode: "data" };
    expect(readPlan(changes(resource("a.b", { actions: ["no-op"] }), read), "always")).toEqual({
      changes: [],
      outputs: [],
      approval: [],
    });
  });

  it("tells a move and an import from nothing at all", () => {
    const moved = resource("a.new", { actions: ["no-op"] }, { previous_address: "a.old" });
    const imported = resource("a.b", { actions: ["no-op"], importing: { id: "x" } });
    expect(readPlan(changes(moved, imported), "destructive").changes.map(({ action }) => action)).toEqual([
      "move",
      "import",
    ]);
  });

  it.each([
    ["create", "destructive", 0],
    ["update", "destructive", 0],
    ["delete", "destructive", 1],
    ["forget", "destructive", 1],
    ["create", "always", 1],
    ["no-op", "always", 0],
  ] as const)("asks for an approval of %s where the rule is %s: %i", (action, rule, reasons) => {
    expect(readPlan(changes(resource("a.b", { actions: [action] })), rule).approval).toHaveLength(reasons);
  });

  it("counts and names an object that an earlier replacement left behind", () => {
    const left = resource("a.b", { actions: ["delete"] }, { deposed: "1f2e3d4c" });
    const { changes: found, approval } = readPlan(
      changes(resource("a.b", { actions: ["update"] }), left),
      "destructive",
    );
    expect(found).toHaveLength(2);
    expect(approval).toEqual(["it destroys a.b: left behind by an earlier replacement (deposed 1f2e3d4c)"]);
  });

  it("shows which attributes differ, and of sensitive ones only that they do", () => {
    const change = {
      actions: ["update"],
      before: { size: 1, password: "old-one", tags: { a: "1" }, same: [1], id: "x" },
      after: { size: 2, password: "new-one", tags: { a: "1", b: "2" }, same: [1] },
      before_sensitive: { password: true },
      after_sensitive: { password: true },
      after_unknown: { id: true },
    };
    const [found] = readPlan(changes(resource("a.b", change)), "destructive").changes;
    expect(found?.attributes).toEqual([
      { path: "size", before: "1", after: "2" },
      { path: "password", before: "(sensitive)", after: "(sensitive)" },
      { path: "tags.b", before: "null", after: '"2"' },
      { path: "id", before: '"x"', after: "(known after apply)" },
    ]);
  });

  it("refuses what it cannot read instead of taking it for an empty plan", () => {
    expect(() => parsePlanJson("no json")).toThrow("could not be read");
    expect(() => parsePlanJson('{"resource_changes":[]}')).toThrow("could not be read");
  });

  it("finds the sensitive values of variables, attributes and outputs", () => {
    const found = sensitiveValues(
      plan({
        variables: { token: { value: "from-variable" }, plain: { value: "public" } },
        configuration: { root_module: { variables: { token: { sensitive: true }, plain: {} } } },
        resource_changes: [
          resource("a.b", {
            actions: ["create"],
            after: { deep: [{ key: "from-attribute" }] },
            after_sensitive: { deep: [{ key: true }] },
          }),
        ],
        output_changes: { out: { actions: ["create"], after: "from-output", after_sensitive: true } },
      }),
    );
    expect(found.sort()).toEqual(["from-attribute", "from-output", "from-variable"]);
  });
});

describe("refusalsOf", () => {
  const of = (actions: string[], rules: Parameters<typeof refusalsOf>[1], more: object = {}) =>
    refusalsOf(readPlan(changes(resource("aws_db.main", { actions }, more)), "destructive").changes, rules);

  it.each([
    [["delete"], 1],
    [["delete", "create"], 1],
    [["create", "delete"], 1],
    [["forget"], 1],
    [["update"], 0],
    [["create"], 0],
    [["no-op"], 0],
  ])("lets a protected object suffer %j: %i reasons against it", (actions, count) => {
    expect(of(actions, { protect: ["aws_db.*"] })).toHaveLength(count);
    expect(of(actions, { protect: ["aws_vpc.*"] })).toEqual([]);
    expect(of(actions, { maxDestroy: 0 })).toHaveLength(count);
    expect(of(actions, { maxDestroy: 1 })).toEqual([]);
    expect(of(actions, {})).toEqual([]);
  });

  it("says what happens to which object by which rule", () => {
    expect(of(["delete"], { protect: ["x.*", "aws_db"] }, { deposed: "ab" })).toEqual([
      "it destroys aws_db.main (left behind by an earlier replacement (deposed ab)), which is protected (aws_db)",
    ]);
    expect(of(["forget"], { maxDestroy: 0 })).toEqual([
      "it destroys, makes anew or stops managing 1 objects; at most 0 are allowed at once (maxDestroy)",
    ]);
  });
});

describe("two plans of the same code", () => {
  const update = (before: object, more: object = {}) =>
    resource("a.b", { actions: ["update"], before, after: { size: 3, key: "new" }, ...more });
  const secret = { before_sensitive: { key: true }, after_sensitive: { key: true } };
  const long = "x".repeat(500);
  it.each([
    [
      "start from the same, whatever they lead to",
      [update({ size: 2 })],
      [update({ size: 2 }, { after: { size: 4, key: "other" } })],
      [],
    ],
    [
      "start from the same where what is not to be changed differs",
      [update({ key: "new" })],
      [update({ key: "new" })],
      [],
    ],
    ["differ where a value that exists does", [update({ size: 2 })], [update({ size: 7 })], ["a.b"]],
    ["differ where a secret one does", [update({ key: "a" }, secret)], [update({ key: "b" }, secret)], ["a.b"]],
    [
      "differ where the end of a long one does",
      [update({ size: `${long}1` })],
      [update({ size: `${long}2` })],
      ["a.b"],
    ],
    [
      "differ where another action is needed",
      [update({ size: 2 })],
      [update({ size: 2 }, { actions: ["delete", "create"] })],
      ["a.b"],
    ],
    ["differ where one of them has nothing to do", [update({ size: 2 })], [], ["a.b"]],
    ["differ where something came up", [], [resource("c.d", { actions: ["delete"] })], ["c.d"]],
  ])("%s", (_name, before, now, expected) => {
    const starts = (...resources: object[]) => startsOf(changes(...resources), false);
    expect(differingStarts(starts(...before), starts(...now))).toEqual(expected);
  });

  it("are compared by what exists where that is to be taken over", () => {
    const starts = (size: number) =>
      startsOf(
        plan({ resource_drift: [resource("a.b", { actions: ["update"], before: { size: 2 }, after: { size } })] }),
        true,
      );
    expect(differingStarts(starts(7), starts(7))).toEqual([]);
    expect(differingStarts(starts(7), starts(8))).toEqual(["a.b"]);
    expect(JSON.stringify(starts(7))).not.toContain("size");
  });
});

describe("readTakeover", () => {
  const drift = [
    resource("a.b", { actions: ["update"], before: { size: 2 }, after: { size: 7 } }),
    resource("a.gone", { actions: ["delete"], before: {} }),
    resource("a.moved", { actions: ["no-op"] }, { previous_address: "a.old" }),
    resource("a.same", { actions: ["update"], before: { size: 2, tags: null }, after: { size: 2, tags: null } }),
  ];

  it("takes over what changed and drops what is gone, and always wants somebody to agree", () => {
    const read = readTakeover(plan({ resource_drift: drift }), { addresses: [] });
    expect(read.changes).toMatchObject([
      { address: "a.b", action: "update", attributes: [{ path: "size", before: "2", after: "7" }] },
      { address: "a.gone", action: "forget" },
    ]);
    expect(read.approval).toHaveLength(2);
    expect(readTakeover(plan({ resource_drift: [] }), { addresses: [] })).toEqual({
      changes: [],
      outputs: [],
      approval: [],
    });
  });

  it("drops nothing that is protected, and not more than is allowed: with the wrong credentials all is gone", () => {
    const { changes: found } = readTakeover(plan({ resource_drift: drift }), { addresses: [] });
    expect(refusalsOf(found, { protect: ["a"] })).toEqual([
      expect.stringMatching(/^it drops from the state a\.gone \(it was not found/),
    ]);
    expect(refusalsOf(found, { maxDestroy: 0 })).toHaveLength(1);
  });
});

/** Each row of the measured table: what Terraform says, and what that is. */
describe("readDrift", () => {
  const drifted = { actions: ["update"], before: { size: 2 }, after: { size: 7 } };
  const back = { actions: ["update"], before: { size: 7 }, after: { size: 2 } };
  const nothing = { actions: ["no-op"], before: { size: 7 }, after: { size: 7 } };
  const read = (resource_changes: object[], resource_drift: object[], ignored: Ignored[] = []) =>
    readDrift(plan({ resource_changes, resource_drift }), { ignored, isOurs: () => false }).map(
      ({ address, kind, action }) => `${kind} ${action} ${address}`,
    );

  it("finds nothing where nothing changed", () => {
    expect(read([resource("a.b", nothing)], [])).toEqual([]);
  });
  it("calls an edited attribute reverting, since the next apply puts it back", () => {
    expect(read([resource("a.b", back)], [resource("a.b", drifted)])).toEqual(["reverting update a.b"]);
  });
  it("calls a deleted object reverting", () => {
    expect(read([resource("a.b", { actions: ["create"] })], [resource("a.b", { actions: ["delete"] })])).toEqual([
      "reverting delete a.b",
    ]);
  });
  it("calls computed, ignored and converged attributes informational", () => {
    expect(read([resource("a.b", nothing)], [resource("a.b", drifted)])).toEqual(["informational update a.b"]);
  });
  it("sees no drift in nothing that is written in another way", () => {
    const empty = { actions: ["update"], before: { tags: null, list: [] }, after: { tags: {}, list: null } };
    expect(read([resource("a.b", nothing)], [resource("a.b", empty)])).toEqual([]);
  });
  it("calls code that was not applied undeployed", () => {
    expect(read([resource("a.b", back)], [])).toEqual(["undeployed update a.b"]);
  });
  it("does not take what a drifted resource drags along for undeployed code", () => {
    const change = { actions: ["update"], before: { ref: "old", size: 1 }, after_unknown: { ref: true } };
    const replaced = resource("a.b", { actions: ["delete", "create"] });
    const withSize = (size: number) => resource("c.d", { ...change, after: { size } });
    expect(read([replaced, withSize(1)], [resource("a.b", drifted)])).toEqual(["reverting update a.b"]);
    // A value that is known comes from the code, also beside one that is not.
    expect(read([replaced, withSize(2)], [resource("a.b", drifted)])).toEqual([
      "reverting update a.b",
      "undeployed update c.d",
    ]);
  });
  it("keeps a resource that somebody ignores apart, also one that is gone", () => {
    const rule = { address: "a.b", path: "", reason: "sale" };
    expect(read([resource("a.b", back)], [resource("a.b", drifted)], [rule])).toEqual(["ignored update a.b"]);
    const gone = resource("a.b", { actions: ["delete"] });
    expect(read([resource("a.b", { actions: ["create"] })], [gone], [rule])).toEqual(["ignored delete a.b"]);
    expect(read([resource("a.b", { actions: ["create"] })], [gone], [{ ...rule, path: "size" }])).toEqual([
      "reverting delete a.b",
    ]);
  });
  it("does not take an object that an earlier replacement left behind for its successor", () => {
    const left = resource("a.b", { actions: ["delete"] }, { deposed: "1f2e" });
    expect(read([resource("a.b", nothing), left], [resource("a.b", drifted)])).toEqual([
      "informational update a.b",
      "undeployed delete a.b",
    ]);
  });
  it("tells of the same drift once", () => {
    const found = readDrift(
      plan({ resource_changes: [resource("a.b", back)], resource_drift: [resource("a.b", drifted)] }),
      { ignored: [], isOurs: () => false },
    );
    expect(newDrift([], found)).toHaveLength(1);
    expect(newDrift(found, found)).toEqual([]);
  });
});
