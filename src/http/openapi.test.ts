import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type OpenApi, renderApiReference } from "./api-reference.ts";
import { newTestPlatform, type TestPlatform } from "./testing.ts";

/** Made for programs that read them as they are, not for clients of the API. */
const STATE = "/api/apps/:app/environments/:environment/infra/state";
/** The state speaks Terraform's own protocol, with its runs alone. */
const UNDOCUMENTED = [
  "GET /api/openapi.json",
  "GET /metrics",
  `GET ${STATE}`,
  `POST ${STATE}`,
  `POST ${STATE}/lock`,
  `POST ${STATE}/unlock`,
];

let test: TestPlatform;
let document: OpenApi & { openapi: string; components: { securitySchemes: object } };
beforeAll(async () => {
  test = await newTestPlatform();
  document = (await test.server.inject("/api/openapi.json")).json();
});
afterAll(() => test?.close());

const operations = () =>
  Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      path,
      operation,
    })),
  );

it("describes every route, with its role, its path's parameters, an answer and the shape of an error", () => {
  expect(document.openapi).toMatch(/^3\./);
  expect(document.components.securitySchemes).toHaveProperty("token");
  for (const { name, path, operation } of operations()) {
    expect(operation.summary, name).toMatch(/^[A-Z].*[^.]$/);
    expect(operation.description, name).toMatch(/^Needs (no token|viewer|developer|tester|operator|admin)/);
    const inPath = (operation.parameters ?? []).filter((one) => one.in === "path").map((one) => `{${one.name}}`);
    expect(inPath.sort(), name).toEqual((path.match(/\{\w+\}/g) ?? []).sort());
    expect(
      Object.keys(operation.responses).filter((status) => /^(101|2\d\d)$/.test(status)),
      name,
    ).toHaveLength(1);
    const problem = operation.responses.default?.content?.["application/json"]?.schema;
    expect(problem?.properties?.error?.required, name).toEqual(["code", "message"]);
  }
});

it("leaves no route out but those that are no part of the API", async () => {
  await test.server.ready();
  const described = operations().map(({ name }) => name.replaceAll("{", ":").replaceAll("}", ""));
  for (const name of [...described, ...UNDOCUMENTED]) {
    const [method = "", url = ""] = name.split(" ");
    expect(test.server.hasRoute({ method: method as "GET", url }), name).toBe(true);
  }
  const drawn = test.server.printRoutes({ commonPrefix: false }).match(/\b(GET|POST|PUT|PATCH|DELETE)\b/g) ?? [];
  expect(described.length + UNDOCUMENTED.length).toBe(drawn.length);
});

it("is what docs/api.md says", async () => {
  const file = fileURLToPath(new URL("../../docs/api.md", import.meta.url));
  await expect(renderApiReference(document)).toMatchFileSnapshot(file);
});
