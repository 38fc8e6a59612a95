import { expect, it } from "vitest";
import { Secret } from "../../../shared/secret.ts";
import { backingVariableNames } from "../../../spec/backing-variables.ts";
import { backingVariables } from "./backing.ts";

it.each(["mysql", "mariadb", "postgres", "redis"] as const)(
  "gives for %s the variables that `check` knows of",
  (engine) => {
    const backing = { name: "main-db", spec: { engine }, password: new Secret("MAIN_DB", "x") };
    const given = backingVariables({ app: "shop", environment: "production" }, backing);
    expect(Object.keys(given).sort()).toEqual(backingVariableNames("main-db", engine).sort());
  },
);
