import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { shipwayProvider } from "./shipway-provider.ts";
import { DATA_EXAMPLES, RESOURCE_EXAMPLES, renderProviderReference } from "./testing/provider-reference.ts";
import { hasTerraform, newTerraformDir } from "./testing/terraform-testing.ts";

const provider = shipwayProvider({ server: undefined, token: undefined }, { version: "1" });

it("is what docs/provider.md says, attribute by attribute", async () => {
  const page = fileURLToPath(new URL("../../docs/provider.md", import.meta.url));
  await expect(renderProviderReference(provider, packageJson.version)).toMatchFileSnapshot(page);
});

it("has an example of each resource and each data source", () => {
  expect(Object.keys(RESOURCE_EXAMPLES)).toEqual(Object.keys(provider.resources));
  expect(Object.keys(DATA_EXAMPLES)).toEqual(Object.keys(provider.dataSources));
});

it("describes everything in whole sentences", () => {
  for (const { description, attributes } of [
    ...Object.values(provider.resources),
    ...Object.values(provider.dataSources),
    { description: "It is one.", attributes: provider.attributes },
  ]) {
    expect(description).toMatch(/^[A-Z].*\.$/);
    for (const one of Object.values(attributes)) expect(one.description).toMatch(/^[A-Z`].*\.$/);
  }
});

it.skipIf(!hasTerraform)("has examples that the real terraform takes as they stand", async () => {
  const tf = await newTerraformDir(provider);
  try {
    const examples = [
      ...Object.values(RESOURCE_EXAMPLES).map(({ example }) => example),
      ...Object.values(DATA_EXAMPLES),
    ];
    await tf.write(
      `terraform {\n  required_providers {\n    shipway = { source = "${provider.address}" }\n  }\n}\n${examples.join("\n")}\n`,
    );
    const { stdout } = await tf.run("validate", "-json");
    expect(JSON.parse(stdout)).toMatchObject({ valid: true, diagnostics: [] });
  } finally {
    await tf.close();
  }
});
