import { sleep } from "../../shared/until.ts";
import { dataSourcesOf, defineProvider, resourcesOf } from "../protocol/define-provider.ts";
import { ProviderProblem } from "../protocol/diagnostics.ts";

/** One object of the reality that the provider `reality` manages. A test reads it, and changes it by hand as somebody at a console would. */
export type RealObject = {
  name: string;
  size: number;
  tags: { readonly [key: string]: string } | null;
  secret: string | null;
  /** Counts the writes made through the provider; changing it by hand is drift that nothing would be done about. */
  revision: number;
};

export type Reality = {
  /** By id. */
  readonly objects: Map<string, RealObject>;
  /** Changes by hand what is there. */
  edit(name: string, change: Partial<RealObject>): void;
  /** Removes by hand. */
  remove(name: string): void;
  named(name: string): RealObject | undefined;
  /** The write-only token that the provider was last given, by the object's name. */
  readonly tokens: Map<string, string>;
  /** Of `create`, `read`, `update`, `remove`, `import`, in order: `create web`. */
  readonly calls: string[];
};

const REALITY_ADDRESS = "terraform.test/shipway/reality";

export function newReality(): Reality {
  const objects = new Map<string, RealObject>();
  const idOf = (name: string): string => {
    const found = [...objects].find(([, object]) => object.name === name);
    if (!found) throw new Error(`there is no object ${name}; there are ${[...objects.values()].map((o) => o.name)}`);
    return found[0];
  };
  return {
    objects,
    tokens: new Map(),
    calls: [],
    edit(name, change) {
      const id = idOf(name);
      objects.set(id, { ...(objects.get(id) as RealObject), ...change });
    },
    remove: (name) => void objects.delete(idOf(name)),
    named: (name) => [...objects.values()].find((object) => object.name === name),
  };
}

/**
 * A provider over a reality in memory, for tests of how Terraform is run: `reality_object` has an attribute of every kind, and the knobs `delay_ms` (the
 * object exists *before* the delay, which no interrupt shortens) and `fail` (`before` or `after` the object exists).
 */
export function realityProvider(reality: Reality) {
  let made = 0;
  const stateOf = (id: string, object: RealObject) => ({ id, ...object });

  const object = resourcesOf<Reality>()({
    description: "An object of a reality in memory.",
    attributes: {
      id: { type: "string", description: "Its id.", computed: true, stable: true },
      name: { type: "string", description: "Its name.", required: true, forceNew: true, check: checkName },
      size: { type: "number", description: "How large it is.", optional: true, default: 1 },
      tags: { type: { map: "string" }, description: "Whatever is to be said of it.", optional: true },
      secret: { type: "string", description: "Not to be shown.", optional: true, sensitive: true },
      token_wo: { type: "string", description: "Not to be kept.", optional: true, writeOnly: true },
      token_version: { type: "number", description: "Raised to have `token_wo` written again.", optional: true },
      revision: { type: "number", description: "How often it was written.", computed: true },
      delay_ms: { type: "number", description: "How long a write takes.", optional: true },
      fail: { type: "string", description: "When a write fails.", optional: true },
    },
    async create(inputs, { client, exists }) {
      client.calls.push(`create ${inputs.name}`);
      refuse(inputs, "before");
      const id = `o${++made}`;
      const { name, size, tags, secret } = inputs;
      client.objects.set(id, { name, size, tags, secret, revision: 1 });
      if (inputs.token_wo !== null) client.tokens.set(name, inputs.token_wo);
      exists({ id, revision: 1 });
      if (inputs.delay_ms !== null) await sleep(inputs.delay_ms);
      refuse(inputs, "after");
      return { id, revision: 1 };
    },
    async read(state, { client }) {
      client.calls.push(`read ${state.name}`);
      const found = client.objects.get(state.id);
      return found && { ...state, ...found };
    },
    async update(state, inputs, { client }) {
      client.calls.push(`update ${state.name}`);
      refuse(inputs, "before");
      const { name, size, tags, secret } = inputs;
      const revision = (client.objects.get(state.id)?.revision ?? 0) + 1;
      client.objects.set(state.id, { name, size, tags, secret, revision });
      if (inputs.token_wo !== null) client.tokens.set(name, inputs.token_wo);
      if (inputs.delay_ms !== null) await sleep(inputs.delay_ms);
      refuse(inputs, "after");
      return { id: state.id, revision };
    },
    async remove(state, { client }) {
      client.calls.push(`remove ${state.name}`);
      client.objects.delete(state.id);
    },
    async import(id, { client }) {
      client.calls.push(`import ${id}`);
      const found = client.objects.get(id);
      return found && { ...stateOf(id, found), token_version: null, delay_ms: null, fail: null };
    },
  });

  const look = dataSourcesOf<Reality>()({
    description: "An object that is there.",
    attributes: {
      name: { type: "string", description: "Its name.", required: true },
      id: { type: "string", description: "Its id.", computed: true },
      size: { type: "number", description: "How large it is.", computed: true },
    },
    async read({ name }, { client }) {
      const found = [...client.objects].find(([, one]) => one.name === name);
      if (!found) throw new ProviderProblem(`There is no object ${name}`, { attribute: "name" });
      return { name, id: found[0], size: found[1].size };
    },
  });

  return defineProvider({
    address: REALITY_ADDRESS,
    attributes: {
      mood: { type: "string", description: "`bad` refuses to be configured.", optional: true },
    },
    configure({ mood }) {
      if (mood === "bad") {
        throw new ProviderProblem("Reality is in a bad mood", { detail: "Try another mood.", attribute: "mood" });
      }
      return reality;
    },
    resources: { reality_object: object },
    dataSources: { reality_object: look },
  });
}

function checkName(name: string): string | undefined {
  return /^[a-z]+$/.test(name) ? undefined : "Use lower-case letters only.";
}

function refuse({ name, fail }: { name: string; fail: string | null }, when: string): void {
  if (fail === when)
    throw new ProviderProblem(`Reality refuses ${name}`, { detail: `It was told to, ${when} the write.` });
}
