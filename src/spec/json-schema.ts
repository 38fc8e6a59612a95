import { z } from "zod";
import { AppSpec } from "./app-spec.ts";

/** A JSON schema, as far as this domain reads it. */
export type JsonSchema = {
  description?: string;
  properties?: Record<string, JsonSchema>;
  additionalProperties?: JsonSchema | boolean;
  items?: JsonSchema;
  anyOf?: JsonSchema[];
  default?: unknown;
  [key: string]: unknown;
};

/** The JSON schema of `shipway.yml`, for editors. `schema/shipway.schema.json` is this, and a test keeps it so. */
export function newJsonSchema(): JsonSchema {
  const { $schema, ...schema } = z.toJSONSchema(AppSpec, { io: "input" });
  return {
    $schema,
    title: "shipway.yml",
    description: "An app that Shipway builds, releases and watches.",
    ...schema,
  } as JsonSchema;
}

/** The keys a mapping at `path` may have; empty where names are free or the path leads nowhere. */
export function knownKeysAt(schema: JsonSchema, path: readonly PropertyKey[]): string[] {
  let here: JsonSchema | undefined = schema;
  for (const segment of path) {
    if (typeof segment === "number") here = here?.items;
    else here = here?.properties?.[String(segment)] ?? additional(here);
  }
  return [here, ...(here?.anyOf ?? [])].flatMap((one) => Object.keys(one?.properties ?? {}));
}

function additional(schema: JsonSchema | undefined): JsonSchema | undefined {
  return typeof schema?.additionalProperties === "object" ? schema.additionalProperties : undefined;
}
