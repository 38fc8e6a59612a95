import type { BackingAnswer } from "../api.ts";
import { checkName, checkVersionTag, parseId } from "../names.ts";
import { ProviderProblem } from "../protocol/diagnostics.ts";
import { defineDataSource, defineResource, ID, idOf, PLACE, PLACE_TO_READ } from "./shared-attributes.ts";

export const ENGINES = ["mysql", "mariadb", "redis", "postgres"];

const NAME = {
  type: "string",
  description: "Its name, and where tasks reach it.",
  required: true,
  check: checkName,
} as const;
const FACTS = {
  host: { type: "string", description: "Where tasks reach it.", computed: true, stable: true },
  port: { type: "number", description: "The port there.", computed: true, stable: true },
  variables: {
    type: { list: "string" },
    description: "Names of the variables that tasks get.",
    computed: true,
    stable: true,
  },
} as const;
const STATE = {
  type: "string",
  description: "`running`, or `stopped` where it serves nobody because somebody stopped, paused or disconnected it.",
  computed: true,
} as const;

const factsOf = ({ host, port, variables, state }: BackingAnswer) => ({
  host,
  port,
  variables,
  // One that starts needs nobody.
  state: state === "stopped" ? state : "running",
});

export const backingResource = defineResource({
  description:
    "A database or cache beside an environment's services, there as soon as it is applied. Removed by hand it is drift, and is made again over the data " +
    "that were kept; stopped by hand it is started again.",
  attributes: {
    id: ID,
    ...PLACE,
    name: { ...NAME, forceNew: true },
    engine: {
      type: "string",
      description: "`mysql`, `mariadb`, `redis` or `postgres`.",
      required: true,
      forceNew: true,
      check: (engine: string) => (ENGINES.includes(engine) ? undefined : `Use one of ${ENGINES.join(", ")}.`),
    },
    version: {
      type: "string",
      description: 'Version tag of the image, such as `"10.11"`. Left out, Shipway chooses one, and keeps it.',
      optional: true,
      computed: true,
      check: checkVersionTag,
    },
    retain_data: {
      type: "bool",
      description:
        "Whether its data stay when it is destroyed, for one of the same name and engine to find. Without them nothing brings it back.",
      optional: true,
      default: true,
    },
    ...FACTS,
    state: STATE,
  },
  async create({ engine, version, retain_data: _, ...at }, { client, signal }) {
    const made = await client.putBacking(at, { engine, ...(version !== null && { version }) }, signal);
    return { id: idOf(at.app, at.environment, at.name), version: made.version, ...factsOf(made) };
  },
  async read(state, { client, signal }) {
    const found = await client.findBacking(state, signal);
    if (!found || found.state === "missing") return undefined;
    return { ...state, engine: found.engine, version: found.version, ...factsOf(found) };
  },
  async update(state, { engine, version }, { client, signal }) {
    const made = await client.putBacking(state, { engine, ...(version !== null && { version }) }, signal);
    return { id: state.id, version: made.version, ...factsOf(made) };
  },
  remove: (state, { client, signal }) => client.removeBacking(state, state.retain_data ? "keep" : "remove", signal),
  async import(id, { client, signal }) {
    const [app, environment, name] = parseId(id, "APP", "ENVIRONMENT", "NAME");
    const found = await client.findBacking({ app, environment, name }, signal);
    if (!found || found.state === "missing") return undefined;
    const { engine, version } = found;
    return { id, app, environment, name, engine, version, retain_data: true, ...factsOf(found) };
  },
  isOutdated: ({ state }) => state !== "running",
});

export const backingData = defineDataSource({
  description: "A backing service that was declared through the API, as it really is.",
  attributes: {
    id: ID,
    ...PLACE_TO_READ,
    name: NAME,
    engine: { type: "string", description: "`mysql`, `mariadb`, `redis` or `postgres`.", computed: true },
    version: { type: "string", description: "Version tag of its image.", computed: true },
    ...FACTS,
    state: { ...STATE, description: "`running`, `starting`, `stopped` or `missing`." },
  },
  async read(at, { client, signal }) {
    const found = await client.findBacking(at, signal);
    if (found) {
      const { engine, version, state } = found;
      return { ...at, id: idOf(at.app, at.environment, at.name), engine, version, ...factsOf(found), state };
    }
    throw new ProviderProblem(`${at.app} has no backing service ${at.name} in ${at.environment}`, {
      detail: "Those of shipway.yml belong to its releases; a `shipway_backing` declares one for Terraform.",
      attribute: "name",
    });
  },
});
