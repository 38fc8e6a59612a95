import type { Api } from "../api.ts";
import { checkName } from "../names.ts";
import type { Attribute } from "../protocol/attributes.ts";
import { dataSourcesOf, resourcesOf } from "../protocol/define-provider.ts";

export const defineResource = resourcesOf<Api>();
export const defineDataSource = dataSourcesOf<Api>();

export const ID = {
  type: "string",
  description: "What `terraform import` takes.",
  computed: true,
  stable: true,
} as const satisfies Attribute;

const app = { type: "string", description: "Name of the app.", required: true, check: checkName } as const;
const environment = {
  type: "string",
  description: "Name of the environment.",
  required: true,
  check: checkName,
} as const;

/** Where an object belongs: never changed, for another place is another object. */
export const PLACE = {
  app: { ...app, forceNew: true },
  environment: { ...environment, forceNew: true },
} as const;

export const PLACE_TO_READ = { app, environment } as const;

export const idOf = (...parts: string[]): string => parts.join("/");
