import { describe, expect, it } from "vitest";
import type { RouterBackend } from "../router.ts";
import { findStoredJson, renderConfig, type StoredRouter } from "./render-config.ts";
import { parseStoredRouter } from "./stored-router.ts";
import { newBackend, newServer } from "./test-backend.ts";

const stored = (...backends: RouterBackend[]): StoredRouter => ({ networks: { "shipway-shop": "10.0.0.2" }, backends });
const withPath = (path: string) =>
  renderConfig(stored(newBackend({ check: { kind: "http", path, declared: true } }))).config;

describe("renderConfig", () => {
  it("carries the whole desired state, and gives it back", () => {
    const state = stored(
      newBackend({ servers: [newServer("a", "ready"), newServer("b", "drain")] }),
      newBackend({ name: "x" }),
    );
    const json = findStoredJson(renderConfig(state).config) ?? "";
    expect(parseStoredRouter(JSON.parse(json))).toEqual(state);
  });

  it("starts with ready tasks in service, parked ones disabled, and unproved ones in the proving back end", () => {
    const servers = [newServer("a", "ready"), newServer("b", "maint"), newServer("c", "drain")];
    const { config } = renderConfig(stored(newBackend({ servers })));
    const [serving = "", open = "", proving = ""] = config.split(/^backend (?:open|proving):/m);
    expect(serving).toMatch(/server a 10\.0\.0\.5:3000 check .* fall 3 pool-max-conn -1 pool-purge-delay 200ms$/m);
    expect(serving).toMatch(/server b .* disabled$/m);
    expect(serving).not.toContain("server c");
    expect(open).toMatch(
      /server a 10\.0\.0\.5:3000 check inter 3s .* fall 2 pool-max-conn -1 pool-purge-delay 200ms$/m,
    );
    expect(open).toMatch(/server b .* disabled$/m);
    expect(open).not.toContain("server c");
    expect(proving).toMatch(/server c .* fall 1 disabled$/m);
  });

  it("asks in the open back end for nothing but a connection, and leads there only when no server is healthy", () => {
    const { config } = renderConfig(stored(newBackend({ servers: [newServer("a", "ready")] })));
    const [, open = ""] = config.split(/^backend (?:open|proving):/m);
    expect(open).not.toMatch(/httpchk|http-check|timeout check/);
    const choices = config.split("\n").filter((line) => line.includes("use_backend"));
    const pair = [
      "  use_backend open:%[var(txn.backend)] if { var(txn.backend),nbsrv eq 0 }",
      "  use_backend %[var(txn.backend)]",
    ];
    expect(choices).toEqual([...pair, ...pair]);
  });

  it("keeps its structure while only servers change", () => {
    const structure = (...servers: ReturnType<typeof newServer>[]) =>
      renderConfig(stored(newBackend({ servers }))).structure;
    expect(structure(newServer("a", "ready"))).toBe(structure(newServer("b", "drain"), newServer("c", "maint")));
  });

  it.each<[string, Partial<RouterBackend>]>([
    ["name", { name: "other" }],
    ["host", { hosts: ["shop.example.com"] }],
    ["internal address", { internalAddress: "10.0.0.3" }],
    ["internal host", { internalHost: "api" }],
    ["check", { check: { kind: "tcp" } }],
    ["expected answers", { check: { kind: "http", path: "/health", declared: false } }],
    ["timing", { timing: { interval: 1_000, timeout: 2_000, healthy: 2, unhealthy: 4 } }],
  ])("has another structure for another %s", (_what, changes) => {
    expect(renderConfig(stored(newBackend(changes))).structure).not.toBe(renderConfig(stored(newBackend())).structure);
  });

  it("names maps by their content, so that an old configuration keeps its own", () => {
    const one = renderConfig(stored(newBackend()));
    const two = renderConfig(stored(newBackend({ hosts: ["shop.example.com"] })));
    const hostsMap = Object.keys(two.maps).find((name) => name.startsWith("hosts-")) ?? "";
    expect(two.maps[hostsMap]).toBe("shop.example.com shop.production.web\n");
    expect(one.maps).not.toHaveProperty(hostsMap);
    expect(two.config).toContain(`/router/${hostsMap}`);
  });

  it("takes any answer below 500 for healthy when the user declared no path", () => {
    const check = { kind: "http", path: "/", declared: false } as const;
    expect(renderConfig(stored(newBackend({ check }))).config).toContain("expect status 200-499");
    expect(withPath("/up")).toContain("expect status 200-399");
  });

  it.each([
    ["/a b", "/a%20b"],
    ["/it's", "/it%27s"],
    ['/"quoted"', "/%22quoted%22"],
    ["/x\n  server evil 1.2.3.4:80", "/x%0A%20%20server%20evil%201.2.3.4:80"],
    ["/back\\slash", "/back%5Cslash"],
    ["/done%20already?a=b&c=d", "/done%20already?a=b&c=d"],
    ["/page#part", "/page%23part"],
    ["/grüezi", "/gr%C3%BCezi"],
  ])("writes the health path %j so that it stays one word", (path, written) => {
    const uri = /http-check send meth GET uri '([^']*)' ver HTTP\/1\.1 hdr Host \S+ hdr User-Agent/.exec(
      withPath(path),
    );
    expect(uri?.[1]).toBe(written);
  });

  it("believes forwarding headers of trusted proxies only", () => {
    expect(renderConfig(stored(), { trustedProxies: ["10.9.0.0/16"] }).config).toContain("acl trusted src 10.9.0.0/16");
    expect(renderConfig(stored()).config).toContain("acl trusted src 0.0.0.0/32");
  });
});
