import { expect, it } from "vitest";
import { Secret } from "../shared/secret.ts";
import { stepPlan } from "./drivers/contract.ts";
import { stepEnvironment } from "./step-environment.ts";
import { contextFor } from "./step-values.ts";

const secret = (name: string, value: string) => ({ [name]: new Secret(name, value) });
const run = {
  runId: "run_1",
  app: "shop",
  repositoryDir: "/nowhere",
  commit: "0".repeat(40),
  refKind: "branch" as const,
  refName: "main",
  buildNumber: 1,
};
const every = { variables: { A: "every", B: "every" }, secrets: { ...secret("C", "every"), ...secret("D", "every") } };
const production = { variables: { A: "own", C: "own" }, secrets: { ...secret("B", "own"), ...secret("E", "own") } };
const seen = (deployment: string | undefined, variables = {}) => {
  const step = stepPlan({ image: "any", script: [], variables, ...(deployment !== undefined && { deployment }) });
  const context = contextFor({ ...run, ...every, deployments: { production } }, step);
  const { A, B, C, D, E } = stepEnvironment(context, step);
  return { values: [A, B, C, D, E], secrets: Object.keys(context.secrets).sort() };
};

it("gives a step what every step gets, and of deployments nothing but its own", () => {
  const expected = { values: ["every", "every", "every", "every", undefined], secrets: ["C", "D"] };
  expect(seen(undefined)).toEqual(expected);
  expect(seen("staging")).toEqual(expected);
  expect(seen("toString")).toEqual(expected);
});

it("prefers the deployment's, be it a variable or a secret, and what the file sets to both", () => {
  expect(seen("production")).toEqual({ values: ["own", "own", "own", "every", "own"], secrets: ["B", "D", "E"] });
  expect(seen("production", { A: "file", E: "file" }).values).toEqual(["file", "own", "own", "every", "file"]);
});
