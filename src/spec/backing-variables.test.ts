import { expect, it } from "vitest";
import { notesOnOutputs } from "./backing-variables.ts";
import { parseAppSpec } from "./parse-spec.ts";

const spec = (outputs: string) =>
  parseAppSpec(
    `app: shop\nservices:\n  web: { build: {}, port: 3000 }\nbacking:\n  main-db: { engine: mariadb }\n  cache: { engine: redis }\nenvironments:\n  production: { infra: { dir: infra, outputs: ${outputs} } }\n  staging: {}\n`,
  );

it("says which of a backing service's variables an output overrules", () => {
  expect(notesOnOutputs(spec("{ MAIN_DB_URL: url, MAIN_DB_PASSWORD: pw, CACHE_HOST: host, OTHER: x }"))).toEqual([
    "environment production takes MAIN_DB_URL, MAIN_DB_PASSWORD from Terraform's outputs, and backing service main-db gives them, too: the output wins.",
    "environment production takes CACHE_HOST from Terraform's outputs, and backing service cache gives it, too: the output wins.",
  ]);
});

it("has nothing to say where names differ, or an engine has no accounts", () => {
  expect(notesOnOutputs(spec("{ DB_URL: url, CACHE_PASSWORD: pw }"))).toEqual([]);
});
