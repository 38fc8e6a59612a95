import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { type JsonSchema, knownKeysAt, newJsonSchema } from "./json-schema.ts";
import { parseAppSpec } from "./parse-spec.ts";

const committed = new URL("../../schema/shipway.schema.json", import.meta.url);
const reference = await readFile(new URL("../../docs/shipway-yml.md", import.meta.url), "utf8");

/** Every mapping of the schema with its keys. */
function* mappings(schema: JsonSchema, path = ""): Generator<{ path: string; properties: Record<string, JsonSchema> }> {
  if (schema.properties) {
    yield { path, properties: schema.properties };
    for (const [key, inner] of Object.entries(schema.properties))
      yield* mappings(inner, path === "" ? key : `${path}.${key}`);
  }
  if (typeof schema.additionalProperties === "object") yield* mappings(schema.additionalProperties, `${path}.NAME`);
  if (schema.items) yield* mappings(schema.items, path);
}

/** The key table of the reference page's section about `path`. */
function tableOf(path: string): Map<string, string> {
  const heading =
    path === "" ? "The file" : path.replace("environments.NAME.services.NAME", "environments.NAME.services.SERVICE");
  const [, section = ""] =
    new RegExp(`^#{2,3} ${heading.replaceAll(".", "\\.")}\\n(.*?)(?=^#|$(?![\\s\\S]))`, "ms").exec(reference) ?? [];
  return new Map([...section.matchAll(/^\| `(\w+)` \| (.*?) \|/gm)].map(([, key = "", text = ""]) => [key, text]));
}

describe("the JSON schema of shipway.yml", () => {
  it("is committed as it is generated (vitest -u writes it anew)", async () => {
    await expect(`${JSON.stringify(newJsonSchema(), null, 2)}\n`).toMatchFileSnapshot(committed.pathname);
  });

  it("describes every key", () => {
    const bare = [...mappings(newJsonSchema())].flatMap(({ path, properties }) =>
      Object.entries(properties)
        .filter(([, { description }]) => description === undefined)
        .map(([key]) => `${path}.${key}`),
    );
    expect(bare).toEqual([]);
  });

  it("knows the keys of a place inside records and lists", () => {
    expect(knownKeysAt(newJsonSchema(), ["services", "web", "build"])).toEqual([
      "context",
      "dockerfile",
      "target",
      "args",
    ]);
    expect(knownKeysAt(newJsonSchema(), ["verify", 3])).toEqual(["service", "command", "timeout"]);
    expect(knownKeysAt(newJsonSchema(), ["services", "web", "env", "X"])).toEqual([]);
  });
});

describe("docs/shipway-yml.md", () => {
  it.each([...mappings(newJsonSchema())])(
    "has the keys of the schema, and no others, for $path",
    ({ path, properties }) => {
      expect([...tableOf(path).keys()].sort()).toEqual(Object.keys(properties).sort());
    },
  );

  it("gives the defaults of the schema", () => {
    const wrong = [...mappings(newJsonSchema())].flatMap(({ path, properties }) =>
      Object.entries(properties)
        .filter(([, { default: value }]) => typeof value === "string" || typeof value === "number")
        .filter(([key, { default: value }]) => tableOf(path).get(key) !== `\`${value}\``)
        .map(([key]) => `${path}.${key}`),
    );
    expect(wrong).toEqual([]);
  });

  const examples = [...reference.matchAll(/^```yaml\n(.*?)^```/gms)].map(([, text = ""]) => text);
  it.each(examples)("has examples that are valid: %#", (example) => {
    expect(parseAppSpec(example).app).toMatch(/\w/);
  });

  it("is followed by the sample product", async () => {
    const text = await readFile(new URL("../../examples/launches/shipway.yml", import.meta.url), "utf8");
    expect(Object.keys(parseAppSpec(text).services)).toContain("frontend");
  });

  it("has a handful of examples", () => expect(examples.length).toBeGreaterThanOrEqual(3));
});
