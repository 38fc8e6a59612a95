import { describe, expect, it } from "vitest";
import { parseListening, readyCheckOf } from "./service-readiness.ts";
import { expandVariables } from "./step-environment.ts";

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
    expect(check.argv.slice(-2)).toEqual(["app", "shop"]);
    expect(check.argv.join(" ")).not.toMatch(/rootpw|apppw/);
    expect(check.env).toEqual(["ROOT_PASSWORD=rootpw", "USER_PASSWORD=apppw"]);
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

describe("parseListening", () => {
  it("finds listening ports on any address, IPv4 and IPv6, and not established connections", () => {
    const table = [
      "  sl  local_address rem_address   st tx_queue",
      "   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000",
      "   1: 0100007F:A1B2 0100007F:0CEA 01 00000000:00000000",
      "   0: 00000000000000000000000000000000:18EB 00000000000000000000000000000000:0000 0A 0",
    ].join("\n");
    expect([...parseListening(table)]).toEqual([3306, 6379]);
  });
});

describe("expandVariables", () => {
  it.each([
    [`$A-$\{B}`, "1-2"],
    ["$AB", "$AB"],
    ["pa$$word$", "pa$$word$"],
    [`$\{C}`, `$\{C}`],
    ["$toString", "$toString"],
  ])("%s becomes %s", (text, expected) => {
    expect(expandVariables(text, { A: "1", B: "2" })).toBe(expected);
  });
});
