import type { EnvironmentAnswer } from "../api.ts";
import { checkName, parseId } from "../names.ts";
import { ProviderProblem } from "../protocol/diagnostics.ts";
import { defineDataSource, defineResource, ID, idOf, PLACE, PLACE_TO_READ } from "./shared-attributes.ts";

const NAME = { type: "string", description: "Name of the environment.", required: true, check: checkName } as const;
const BRANCH = {
  type: "string",
  description: "A push to a branch that matches this glob, such as `main` or `release/*`, deploys here.",
} as const;
const TAG = { type: "string", description: "A tag that matches this glob, such as `v*`, deploys here." } as const;

type Declared = EnvironmentAnswer & { declared: NonNullable<EnvironmentAnswer["declared"]> };
/** One that only shipway.yml declares is not Terraform's. */
const isDeclared = (found: EnvironmentAnswer | undefined): found is Declared => found?.declared != null;

const viewEnvironment = ({ app, name, declared }: Declared) => ({
  id: idOf(app, name),
  app,
  name,
  branch: declared.branch,
  tag: declared.tag,
});

export const environmentResource = defineResource({
  description:
    "An environment with the refs that deploy to it, with no need of an entry in `shipway.yml`; where that has one, too, its rules hold. " +
    "Destroying it stops all that runs there and keeps the data of its backing services and volumes.",
  attributes: {
    id: ID,
    app: PLACE.app,
    name: { ...NAME, forceNew: true },
    branch: { ...BRANCH, optional: true },
    tag: { ...TAG, optional: true },
  },
  async create({ app, name, branch, tag }, { client, signal }) {
    await client.putEnvironment({ app, environment: name }, { branch, tag }, signal);
    return { id: idOf(app, name) };
  },
  async read({ app, name }, { client, signal }) {
    const found = await client.findEnvironment({ app, environment: name }, signal);
    return isDeclared(found) ? viewEnvironment(found) : undefined;
  },
  async update({ id, app, name }, { branch, tag }, { client, signal }) {
    await client.putEnvironment({ app, environment: name }, { branch, tag }, signal);
    return { id };
  },
  remove: ({ app, name }, { client, signal }) => client.removeEnvironment({ app, environment: name }, signal),
  async import(id, { client, signal }) {
    const [app, environment] = parseId(id, "APP", "ENVIRONMENT");
    const found = await client.findEnvironment({ app, environment }, signal);
    return isDeclared(found) ? viewEnvironment(found) : undefined;
  },
});

export const environmentData = defineDataSource({
  description: "An environment that is there, whoever declared it.",
  attributes: {
    id: ID,
    app: PLACE_TO_READ.app,
    name: NAME,
    branch: { ...BRANCH, computed: true, nullable: true },
    tag: { ...TAG, computed: true, nullable: true },
    live_release: { type: "number", description: "Number of the release that serves.", computed: true, nullable: true },
    addresses: { type: { list: "string" }, description: "Where its services answer.", computed: true },
  },
  async read({ app, name }, { client, signal }) {
    const found = await client.findEnvironment({ app, environment: name }, signal);
    if (!found) {
      throw new ProviderProblem(`${app} has no environment ${name}`, {
        detail: "It appears with its first deployment, or with a `shipway_environment`.",
        attribute: "name",
      });
    }
    const { declared, liveRelease, addresses } = found;
    const rules = { branch: declared?.branch ?? null, tag: declared?.tag ?? null };
    return { id: idOf(app, name), app, name, ...rules, live_release: liveRelease, addresses };
  },
});
