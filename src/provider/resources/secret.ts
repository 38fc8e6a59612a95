import { checkVariableName, parseId } from "../names.ts";
import { ProviderProblem } from "../protocol/diagnostics.ts";
import { defineDataSource, defineResource, ID, idOf, PLACE, PLACE_TO_READ } from "./shared-attributes.ts";

const NAME = {
  type: "string",
  description: "Name of the environment variable that tasks get, such as `STRIPE_KEY`.",
  required: true,
  check: checkVariableName,
} as const;

export const secretResource = defineResource({
  description:
    "A secret of an environment, sealed on the server. Its value is write-only: it is in no state and no plan, and nobody can read it back. " +
    "A secret that was set by hand since is drift, seen by its version, and is written again. Needs Terraform 1.11 or OpenTofu 1.11.",
  attributes: {
    id: ID,
    ...PLACE,
    name: { ...NAME, forceNew: true },
    value_wo: { type: "string", description: "Its value, kept nowhere.", required: true, writeOnly: true },
    value_wo_version: {
      type: "number",
      description:
        "Change it to have a new `value_wo` written: Terraform does not know the value, so it cannot see it change.",
      optional: true,
    },
    version: { type: "number", description: "Version that the server has.", computed: true },
    written_version: {
      type: "number",
      description: "Version that Terraform wrote. Another `version` means that somebody set the secret by hand.",
      computed: true,
    },
  },
  async create({ value_wo, ...at }, { client, signal }) {
    const { version } = await client.putSecret(at, value_wo, signal);
    return { id: idOf(at.app, at.environment, at.name), version, written_version: version };
  },
  async read(state, { client, signal }) {
    const found = await client.findSecret(state, signal);
    return found && { ...state, version: found.version };
  },
  async update(state, { value_wo }, { client, signal }) {
    const { version } = await client.putSecret(state, value_wo, signal);
    return { id: state.id, version, written_version: version };
  },
  remove: (state, { client, signal }) => client.removeSecret(state, signal),
  async import(id, { client, signal }) {
    const [app, environment, name] = parseId(id, "APP", "ENVIRONMENT", "NAME");
    const found = await client.findSecret({ app, environment, name }, signal);
    if (!found) return undefined;
    const { version } = found;
    return { id, app, environment, name, value_wo_version: null, version, written_version: version };
  },
  isOutdated: ({ version, written_version }) => version !== written_version,
});

export const secretData = defineDataSource({
  description: "A secret that is set: which version of it, never its value.",
  attributes: {
    id: ID,
    ...PLACE_TO_READ,
    name: NAME,
    version: { type: "number", description: "Which version it is.", computed: true },
    updated_at: { type: "string", description: "When it was set, in ISO 8601.", computed: true },
  },
  async read(at, { client, signal }) {
    const found = await client.findSecret(at, signal);
    if (found) {
      const { version, updatedAt } = found;
      return { ...at, id: idOf(at.app, at.environment, at.name), version, updated_at: updatedAt };
    }
    throw new ProviderProblem(`${at.app} has no secret ${at.name} in ${at.environment}`, {
      detail: `Set it with \`shipway secret set ${at.name} --app ${at.app} --env ${at.environment}\`.`,
      attribute: "name",
    });
  },
});
