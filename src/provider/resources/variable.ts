import { checkVariableName, parseId } from "../names.ts";
import { ProviderProblem } from "../protocol/diagnostics.ts";
import { defineDataSource, defineResource, ID, idOf, PLACE, PLACE_TO_READ } from "./shared-attributes.ts";

const NAME = {
  type: "string",
  description: "Name of the environment variable, such as `LOG_LEVEL`.",
  required: true,
  check: checkVariableName,
} as const;
const VALUE = { type: "string", description: "Its value. What must stay secret is a `shipway_secret`." } as const;

export const variableResource = defineResource({
  description:
    "A variable of an environment. Tasks get it with the next deployment; a rollback has the value of its time.",
  attributes: { id: ID, ...PLACE, name: { ...NAME, forceNew: true }, value: { ...VALUE, required: true } },
  async create({ value, ...at }, { client, signal }) {
    await client.putVariable(at, value, signal);
    return { id: idOf(at.app, at.environment, at.name) };
  },
  async read(state, { client, signal }) {
    const found = await client.findVariable(state, signal);
    return found && { ...state, value: found.value };
  },
  async update(state, { value }, { client, signal }) {
    await client.putVariable(state, value, signal);
    return { id: state.id };
  },
  remove: (state, { client, signal }) => client.removeVariable(state, signal),
  async import(id, { client, signal }) {
    const [app, environment, name] = parseId(id, "APP", "ENVIRONMENT", "NAME");
    const found = await client.findVariable({ app, environment, name }, signal);
    return found && { id, app, environment, name, value: found.value };
  },
});

export const variableData = defineDataSource({
  description: "A variable that is set.",
  attributes: { id: ID, ...PLACE_TO_READ, name: NAME, value: { ...VALUE, computed: true } },
  async read(at, { client, signal }) {
    const found = await client.findVariable(at, signal);
    if (found) return { ...at, id: idOf(at.app, at.environment, at.name), value: found.value };
    throw new ProviderProblem(`${at.app} has no variable ${at.name} in ${at.environment}`, {
      detail: "Set it, or check the names.",
      attribute: "name",
    });
  },
});
