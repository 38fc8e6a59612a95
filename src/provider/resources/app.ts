import { checkName, parseId } from "../names.ts";
import { ProviderProblem } from "../protocol/diagnostics.ts";
import { defineDataSource, defineResource, ID } from "./shared-attributes.ts";

const NAME = { type: "string", description: "Name of the app.", required: true, check: checkName } as const;
const FACTS = {
  git_url: { type: "string", description: "Where to push to.", computed: true, stable: true },
  created_at: { type: "string", description: "When it was created, in ISO 8601.", computed: true, stable: true },
} as const;

const viewApp = (app: { name: string; gitUrl: string; createdAt: string }) => ({
  id: app.name,
  name: app.name,
  git_url: app.gitUrl,
  created_at: app.createdAt,
});

export const appResource = defineResource({
  description:
    "An app with its hosted repository. Destroying it removes all of it, its repository, releases and data, and needs a token of the role `admin`; " +
    "what must not go that way gets `lifecycle { prevent_destroy = true }`.",
  attributes: { id: ID, name: { ...NAME, forceNew: true }, ...FACTS },
  create: async ({ name }, { client, signal }) => viewApp(await client.createApp(name, signal)),
  async read({ name }, { client, signal }) {
    const found = await client.findApp(name, signal);
    return found && viewApp(found);
  },
  remove: ({ name }, { client, signal }) => client.removeApp(name, signal),
  async import(id, { client, signal }) {
    const [name] = parseId(id, "NAME");
    const found = await client.findApp(name, signal);
    return found && viewApp(found);
  },
});

export const appData = defineDataSource({
  description: "An app that is there.",
  attributes: {
    id: ID,
    name: NAME,
    ...FACTS,
    environments: { type: { list: "string" }, description: "Names of its environments.", computed: true },
  },
  async read({ name }, { client, signal }) {
    const found = await client.findApp(name, signal);
    if (found) return { ...viewApp(found), environments: found.environments };
    throw new ProviderProblem(`There is no app ${name}`, {
      detail: "`shipway apps` lists those there are.",
      attribute: "name",
    });
  },
});
