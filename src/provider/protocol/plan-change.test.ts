import { describe, expect, it } from "vitest";
import type { Attributes } from "./attributes.ts";
import { planChange } from "./plan-change.ts";
import { UNKNOWN, type Value, type Values } from "./values.ts";

const ATTRIBUTES = {
  id: { type: "string", description: "", computed: true, stable: true },
  name: { type: "string", description: "", required: true, forceNew: true },
  size: { type: "number", description: "", optional: true, default: 1 },
  zone: { type: "string", description: "", optional: true, computed: true },
  note: { type: "string", description: "", optional: true },
  key: { type: "string", description: "", optional: true, writeOnly: true },
  revision: { type: "number", description: "", computed: true },
} as const satisfies Attributes;
const NOTHING = { id: null, name: null, size: null, zone: null, note: null, key: null, revision: null };
const OBJECT = { id: "o1", name: "web", size: 1, zone: "a", note: null, key: null, revision: 3 };
const CONFIG = { ...NOTHING, name: "web" };
const plan = (prior: Values | null, config: Values | null, outdated = false) =>
  planChange(ATTRIBUTES, { prior, config }, () => outdated);

describe("planChange", () => {
  it("of a new object knows what the configuration and the defaults give, and of the rest that it is unknown", () => {
    expect(plan(null, { ...CONFIG, key: "k" })).toEqual({
      planned: { id: UNKNOWN, name: "web", size: 1, zone: UNKNOWN, note: null, key: null, revision: UNKNOWN },
      requiresReplace: [],
    });
  });

  it("of an object that is as configured changes nothing", () => {
    expect(plan(OBJECT, { ...CONFIG, key: "another" })).toEqual({ planned: OBJECT, requiresReplace: [] });
  });

  const changes: [string, Values, Values, string[]][] = [
    ["a value", { note: "x" }, { note: "x", revision: UNKNOWN }, []],
    ["a value that is not known yet", { note: UNKNOWN }, { note: UNKNOWN, revision: UNKNOWN }, []],
    ["what forces a new object", { name: "b" }, { name: "b", revision: UNKNOWN }, ["name"]],
    ["what may force a new object", { name: UNKNOWN }, { name: UNKNOWN, revision: UNKNOWN }, ["name"]],
    ["what else the provider would choose", { zone: "b" }, { zone: "b", revision: UNKNOWN }, []],
    ["a default", { size: 2 }, { size: 2, revision: UNKNOWN }, []],
  ];
  it.each(changes)("changes %s and leaves what stays", (_what, config, planned, requiresReplace) => {
    expect(plan(OBJECT, { ...CONFIG, ...config })).toEqual({ planned: { ...OBJECT, ...planned }, requiresReplace });
  });

  it("takes a value away that the configuration no longer gives, and keeps what the provider chose", () => {
    const { planned } = plan({ ...OBJECT, note: "x", size: 4 }, CONFIG);
    expect(planned).toEqual({ ...OBJECT, note: null, size: 1, zone: "a", revision: UNKNOWN });
  });

  it("writes an outdated object again though nothing differs", () => {
    expect(plan(OBJECT, CONFIG, true)).toEqual({ planned: { ...OBJECT, revision: UNKNOWN }, requiresReplace: [] });
  });

  it("removes", () => {
    expect(plan(OBJECT, null)).toEqual({ planned: null, requiresReplace: [] });
  });

  it("for any object and configuration plans what is configured, and leaves nothing unknown that has no reason to be", () => {
    const choices = (name: keyof typeof OBJECT, values: Value[]) => values.map((value) => ({ [name]: value }));
    const configs = choices("name", ["web", "b", UNKNOWN]).flatMap((name) =>
      choices("note", [null, "x", UNKNOWN]).flatMap((note) =>
        choices("zone", [null, "a", "b"]).map((zone): Values => ({ ...CONFIG, ...name, ...note, ...zone })),
      ),
    );
    const priors = [null, ...choices("note", [null, "x"]).map((note): Values => ({ ...OBJECT, ...note }))];
    for (const config of configs) {
      for (const prior of priors) {
        const { planned } = plan(prior, config);
        for (const name of ["name", "note", "zone"]) {
          if (config[name] !== null) expect(planned?.[name]).toBe(config[name]);
        }
        expect(planned?.key).toBe(null);
        if (prior) expect(planned?.id).toBe("o1");
        // Planning again what was planned, had it come out that way, plans nothing.
        const settled = Object.fromEntries(
          Object.entries(planned ?? {}).map(([name, value]) => [name, value === UNKNOWN ? "settled" : value]),
        );
        const asSettled = Object.fromEntries(
          Object.entries(config).map(([name, value]) => [name, value === UNKNOWN ? "settled" : value]),
        );
        expect(plan(settled, asSettled)).toEqual({ planned: settled, requiresReplace: [] });
      }
    }
  });
});
