import { beforeEach, describe, expect, it } from "vitest";
import { newReality, type Reality, realityProvider } from "../testing/reality.ts";
import { defineProvider, resourcesOf } from "./define-provider.ts";
import { providerCalls } from "./provider-calls.ts";
import { decodeValues, encodeValues, UNKNOWN, type Values } from "./values.ts";

/** What the real terraform does not do in a test: an old one, a newer state, a mistake of the provider. */
describe("the calls of the protocol", () => {
  const typeName = "reality_object";
  let reality: Reality;
  let reports: string[];
  const provider = () => realityProvider(reality);
  const attributes = () => provider().resources[typeName]?.attributes ?? {};
  const encoded = (values: Values | null) => encodeValues(attributes(), values);
  beforeEach(() => {
    reality = newReality();
    reports = [];
  });
  const calls = () => providerCalls(provider(), (text) => reports.push(text));
  const configured = async (mood: Values[string] = null) => {
    const made = calls();
    const { diagnostics } = await made.ConfigureProvider({ config: encodeValues(provider().attributes, { mood }) });
    expect(diagnostics).toEqual([]);
    return made;
  };

  it("refuse a write-only value of a Terraform that would keep it, and no other", async () => {
    const asked = (config: Values, writeOnlyAttributesAllowed: boolean) =>
      calls().ValidateResourceConfig({
        typeName,
        config: encoded(config),
        clientCapabilities: { writeOnlyAttributesAllowed },
      });
    expect((await asked({ name: "web", token_wo: "t" }, false)).diagnostics).toMatchObject([
      { summary: "token_wo needs Terraform 1.11 or newer", attribute: { steps: [{ attributeName: "token_wo" }] } },
    ]);
    expect((await asked({ name: "web", token_wo: "t" }, true)).diagnostics).toEqual([]);
    expect((await asked({ name: "web" }, false)).diagnostics).toEqual([]);
    expect((await asked({ name: UNKNOWN }, true)).diagnostics).toEqual([]);
  });

  it("refuse state of a newer provider, and bring older state up to date", async () => {
    const rawState = { json: Buffer.from('{"id":"o1","title":"web"}') };
    const newer = await calls().UpgradeResourceState({ typeName, version: 3, rawState });
    expect(newer.upgradedState).toBeUndefined();
    expect(newer.diagnostics[0]?.summary).toContain("written by a newer version of this provider");

    const second = defineProvider({
      address: "terraform.test/shipway/shop",
      attributes: {},
      configure: () => undefined,
      resources: {
        shop_item: resourcesOf<undefined>()({
          description: "It had a title once.",
          version: 1,
          attributes: { name: { type: "string", description: "Its name.", required: true, forceNew: true } },
          create: async () => ({}),
          read: async (state) => state,
          remove: async () => undefined,
          upgrade: (version, { title, ...rest }) => ({ ...rest, name: `${title} of ${version}` }),
        }),
      },
      dataSources: {},
    });
    const upgraded = await providerCalls(second, (text) => reports.push(text)).UpgradeResourceState({
      typeName: "shop_item",
      version: 0,
      rawState,
    });
    expect(upgraded.diagnostics).toEqual([]);
    expect(decodeValues(second.resources.shop_item?.attributes ?? {}, upgraded.upgradedState)).toEqual({
      name: "web of 0",
    });
    const imported = await providerCalls(second, () => undefined).ImportResourceState({
      typeName: "shop_item",
      id: "x",
    });
    expect(imported.diagnostics[0]?.summary).toBe("shop_item cannot be imported");
  });

  it("touch nothing before the provider is configured, or while what it is configured with is unknown, and keep the state", async () => {
    const current = encoded({ id: "o1", name: "web" });
    const early = await calls().ReadResource({ typeName, currentState: current });
    expect(early).toMatchObject({ newState: current, diagnostics: [{ summary: "The provider is not configured" }] });
    const unknown = await (await configured(UNKNOWN)).ReadResource({ typeName, currentState: current });
    expect(unknown).toMatchObject({
      newState: current,
      diagnostics: [{ summary: "The provider's mood is not known yet" }],
    });
    expect(reality.calls).toEqual([]);
  });

  it("tell a mistake of the provider without its stack, which goes to the log", async () => {
    Object.defineProperty(reality, "objects", {
      get: () => {
        throw new TypeError("objects is not iterable\nsecond line");
      },
    });
    const current = encoded({ id: "o1", name: "web" });
    const { diagnostics, newState } = await (await configured()).ReadResource({ typeName, currentState: current });
    expect(newState).toEqual(current);
    expect(diagnostics).toMatchObject([
      { severity: 1, summary: "The provider failed while reading reality_object: objects is not iterable" },
    ]);
    expect(JSON.stringify(diagnostics)).not.toMatch(/\.ts|second line/);
    expect(reports.join("\n")).toMatch(/TypeError: objects is not iterable[\s\S]*reality\.ts:\d+/);
  });

  it("blame the provider for a value that it forgot, and keep the object that it made", async () => {
    const forgetful = defineProvider({
      address: "terraform.test/shipway/shop",
      attributes: {},
      configure: () => undefined,
      resources: {
        shop_item: resourcesOf<undefined>()({
          description: "It has an id.",
          attributes: { id: { type: "string", description: "Its id.", computed: true } },
          async create(_inputs, { exists }) {
            exists({ id: "i1" });
            return {} as { id: string };
          },
          read: async (state) => state,
          remove: async () => undefined,
        }),
      },
      dataSources: {},
    });
    const made = providerCalls(forgetful, (text) => reports.push(text));
    await made.ConfigureProvider({ config: null });
    const has = forgetful.resources.shop_item?.attributes ?? {};
    const { newState, diagnostics } = await made.ApplyResourceChange({
      typeName: "shop_item",
      priorState: null,
      plannedState: encodeValues(has, { id: UNKNOWN }),
      config: encodeValues(has, { id: null }),
    });
    expect(diagnostics[0]?.summary).toBe("The provider failed while creating shop_item: it gave no value for id");
    expect(decodeValues(has, newState)).toEqual({ id: "i1" });
  });

  it("tell an unknown type as a mistake, not as a crash", async () => {
    const { diagnostics } = await (await configured()).PlanResourceChange({
      typeName: "reality_ghost",
      priorState: null,
      config: null,
    });
    expect(diagnostics[0]?.summary).toContain("it knows no reality_ghost");
  });
});
