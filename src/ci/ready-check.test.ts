import { describe, expect, it } from "vitest";
import { readyCheckOf } from "./ready-check.ts";

describe("readyCheckOf", () => {
  it("asks a database as root and as the declared user on the declared database, passwords not in the arguments", () => {
    const variables = {
      MYSQL_ROOT_PASSWORD: "rootpw",
      MYSQL_USER: "app",
      MYSQL_PASSWORD: "apppw",
      MYSQL_DATABASE: "shop",
    };
    const check = readyCheckOf("registry.example.org:5000/library/mariadb:10.11@sha256:abc", variables, [3306]);
    expect(check.kind).toBe("query");
    if (check.kind !== "query") return;
    const [root = "", user = ""] = check.argv.join(" ").split(" && ");
    expect(root).toContain("-uroot -e");
    expect(user).toContain(`-u"\${MARIADB_USER-$MYSQL_USER}" "\${MARIADB_DATABASE-$MYSQL_DATABASE}"`);
    expect(check.argv.join(" ")).not.toMatch(/rootpw|apppw|shop/);
  });

  it.each([
    ["redis:7-alpine", {}, "query"],
    ["postgis/postgis:16", { POSTGRES_PASSWORD: "x" }, "query"],
    ["mysql:8", { MYSQL_RANDOM_ROOT_PASSWORD: "1" }, "ports"],
    ["rabbitmq:3", {}, "ports"],
  ] as const)("for %s with %j is a %s check", (image, variables, kind) => {
    expect(readyCheckOf(image, variables, [5672]).kind).toBe(kind);
  });

  it("is none for an image of which nothing is known", () => {
    expect(readyCheckOf("example/thing", {}, [])).toEqual({ kind: "none" });
  });
});
