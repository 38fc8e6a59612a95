import { describe, expect, it } from "vitest";
import { hasCode } from "../../../../shared/errors.ts";
import type { RouterBackend } from "../router.ts";
import { checkRouterState } from "./check-router-state.ts";
import { newBackend, newServer } from "./test-backend.ts";

function refusal(...backends: RouterBackend[]): string {
  try {
    checkRouterState({ backends });
  } catch (error) {
    expect(hasCode(error, "REQUEST_INVALID")).toBe(true);
    return String(error);
  }
  return "accepted";
}

const other = (changes: Partial<RouterBackend>) =>
  newBackend({ name: "blog.production.web", hosts: [], internalAddress: "10.0.1.2", ...changes });

describe("checkRouterState", () => {
  it("accepts two environments with a service of the same name", () => {
    expect(refusal(newBackend({ servers: [newServer("a", "ready")] }), other({}))).toBe("accepted");
  });

  it("names the host that two back ends claim, and both of them", () => {
    expect(refusal(newBackend(), other({ hosts: ["web.production.shop.localhost"] }))).toContain(
      "web.production.shop.localhost belongs to shop.production.web and cannot also lead to blog.production.web",
    );
  });

  it("refuses one internal name for two back ends of one environment", () => {
    expect(refusal(newBackend(), other({ internalAddress: "10.0.0.2" }))).toContain("web at 10.0.0.2 belongs to");
  });

  it.each<[string, Partial<RouterBackend>]>([
    ["a name with a space", { name: "a b" }],
    ["a name that ends the line", { name: "a\n  server x 1.2.3.4:80" }],
    ["a proving name", { name: "proving:shop" }],
    ["a host with markup", { hosts: ["<b>.com"] }],
    ["an upper-case host, which would never match", { hosts: ["Shop.example.com"] }],
    ["an internal host with a slash", { internalHost: "a/b" }],
    ["an address that is a name", { internalAddress: "router" }],
    ["half a character in the path", { check: { kind: "http", path: "/\ud800", declared: true } }],
    ["a relative path", { check: { kind: "http", path: "health", declared: true } }],
    ["no interval", { timing: { interval: 0, timeout: 1, healthy: 1, unhealthy: 1 } }],
    ["a broken number", { timing: { interval: 1.5, timeout: 1, healthy: 1, unhealthy: 1 } }],
    ["a server name with a semicolon", { servers: [newServer("a;shutdown", "ready")] }],
    ["a server twice", { servers: [newServer("a", "ready"), newServer("a", "drain")] }],
    ["a server without an address", { servers: [newServer("a", "ready", { address: "" })] }],
    ["a port beyond the last", { servers: [newServer("a", "ready", { port: 65_536 })] }],
  ])("refuses %s", (_what, changes) => {
    expect(refusal(newBackend(changes))).toContain("The router cannot serve this");
  });
});
