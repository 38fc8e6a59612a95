import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { describe, expect, it } from "vitest";
import { type Check, type DoctorDeps, runDoctor } from "./doctor.ts";
import { machineFacts } from "./machine-facts.ts";

const GIB = 1024 ** 3;
const healthy: DoctorDeps = {
  docker: async () => ({
    version: "20.10.24+dfsg1",
    clockMs: 1_000,
    rootDir: "/var/lib/docker",
    images: ["haproxy:2.6"],
  }),
  versionOf: async ([program]) => (program === "git" ? "git version 2.39.5" : "Terraform v1.9.0"),
  hasGitHttpBackend: async () => true,
  portOwner: async () => "free",
  freeBytes: async () => 50 * GIB,
  totalMemoryBytes: () => 8 * GIB,
  now: () => 1_000,
};
const options = {
  dataDir: "/data",
  ports: [{ port: 8080, purpose: "apps", flag: "--http-port" }],
  baseImages: ["haproxy:2.6"],
  terraform: undefined,
};
const notOk = (checks: readonly Check[]) => checks.filter(({ status }) => status !== "ok");
const unreachable = Object.assign(new Error("connect EACCES /var/run/docker.sock"), { code: "EACCES" });

describe("runDoctor", () => {
  it("finds nothing on a machine that has everything", async () => {
    const checks = await runDoctor(healthy, options);
    expect(notOk(checks)).toEqual([]);
    expect(checks.map(({ name }) => name)).toEqual([
      "Docker Engine",
      "git",
      "git http-backend",
      "Terraform",
      "port 8080",
      "disk for Shipway's data",
      "disk for Docker's images",
      "memory",
      "clock",
      "base images",
    ]);
  });

  it.each<{ name: string; deps: Partial<DoctorDeps>; status: Check["status"]; check: string; fix: RegExp }>([
    {
      name: "an engine that is not there",
      deps: { docker: () => Promise.reject(new Error("connect ENOENT")) },
      status: "fail",
      check: "Docker Engine",
      fix: /systemctl start docker/,
    },
    {
      name: "an engine it may not use",
      deps: { docker: () => Promise.reject(unreachable) },
      status: "fail",
      check: "Docker Engine",
      fix: /usermod -aG docker/,
    },
    {
      name: "an engine that is too old",
      deps: { docker: async () => ({ version: "19.03.15", clockMs: 1_000, rootDir: "/", images: ["haproxy:2.6"] }) },
      status: "fail",
      check: "Docker Engine",
      fix: /Update Docker/,
    },
    {
      name: "no git",
      deps: { versionOf: async ([program]) => (program === "git" ? undefined : "x") },
      status: "fail",
      check: "git",
      fix: /install git/,
    },
    {
      name: "an old git",
      deps: { versionOf: async ([program]) => (program === "git" ? "git version 2.17.1" : "x") },
      status: "fail",
      check: "git",
      fix: /Update git/,
    },
    {
      name: "no git http-backend",
      deps: { hasGitHttpBackend: async () => false },
      status: "fail",
      check: "git http-backend",
      fix: /git-daemon/,
    },
    {
      name: "no Terraform",
      deps: { versionOf: async ([program]) => (program === "git" ? "git version 2.39.5" : undefined) },
      status: "warn",
      check: "Terraform",
      fix: /OpenTofu/,
    },
    {
      name: "a port of another program",
      deps: { portOwner: async () => "other" },
      status: "fail",
      check: "port 8080",
      fix: /--http-port N/,
    },
    {
      name: "an old Terraform",
      deps: { versionOf: async ([program]) => (program === "git" ? "git version 2.39.5" : "Terraform v1.4.6") },
      status: "warn",
      check: "Terraform",
      fix: /Update it/,
    },
    {
      name: "neither Terraform nor OpenTofu",
      deps: { versionOf: async ([program]) => (program === "git" ? "git version 2.39.5" : undefined) },
      status: "warn",
      check: "Terraform",
      fix: /Install Terraform or OpenTofu/,
    },
    { name: "little memory", deps: { totalMemoryBytes: () => GIB }, status: "warn", check: "memory", fix: /2\.0 GiB/ },
    {
      name: "a clock that is off",
      deps: { now: () => 60_000 },
      status: "warn",
      check: "clock",
      fix: /synchronisation/,
    },
  ])("says what to do about $name", async ({ deps, status, check, fix }) => {
    const [found, ...others] = notOk(await runDoctor({ ...healthy, ...deps }, options));
    expect(others).toEqual([]);
    expect(found).toMatchObject({ name: check, status });
    expect(found?.fix).toMatch(fix);
  });

  it.each([
    { free: 9 * GIB, status: "warn" },
    { free: GIB, status: "fail" },
  ])("takes $free free bytes as a $status", async ({ free, status }) => {
    const [found] = notOk(await runDoctor({ ...healthy, freeBytes: async () => free }, options));
    expect(found).toMatchObject({ name: "disk for Shipway's data", status });
  });

  it("names the program that will be run: terraform before tofu, and what SHIPWAY_TERRAFORM names before both", async () => {
    const having = (...programs: string[]) => ({
      ...healthy,
      versionOf: async ([program]: readonly [string, ...string[]]) =>
        program === "git" ? "git version 2.39.5" : programs.includes(program) ? `${program} v1.9.0` : undefined,
    });
    const found = async (deps: DoctorDeps, terraform?: string) =>
      (await runDoctor(deps, { ...options, terraform })).find(({ name }) => name === "Terraform");
    expect(await found(having("terraform", "tofu"))).toMatchObject({ found: "terraform v1.9.0 (terraform)" });
    expect(await found(having("tofu"))).toMatchObject({ status: "ok", found: "tofu v1.9.0 (tofu)" });
    expect(await found(having("terraform", "/opt/tofu"), "/opt/tofu")).toMatchObject({
      found: expect.stringMatching(/\(\/opt\/tofu\)$/),
    });
    expect(await found(having("terraform"), "/opt/tofu")).toMatchObject({
      status: "fail",
      found: expect.stringMatching(/SHIPWAY_TERRAFORM/),
    });
  });

  it("shows a check that breaks as failed and goes on", async () => {
    const broken = { ...healthy, hasGitHttpBackend: () => Promise.reject(new Error("boom")) };
    const found = notOk(await runDoctor(broken, options));
    expect(found).toMatchObject([{ name: "git http-backend", status: "fail", found: /boom/ }]);
  });
});

describe("machineFacts", () => {
  const facts = machineFacts(new Docker({ socketPath: "/nowhere/docker.sock" }), async () => []);

  it("knows its own server, another program and a free port", async () => {
    const server = createServer((request, response) => {
      response.end(request.url === "/api/ready" && isShipway ? '{"ready":true,"version":"1"}' : "hello");
    });
    let isShipway = true;
    await new Promise<void>((resolve) => server.listen(0, resolve));
    const { port } = server.address() as AddressInfo;
    expect(await facts.portOwner(port)).toBe("ours");
    isShipway = false;
    expect(await facts.portOwner(port)).toBe("other");
    await new Promise((resolve) => server.close(resolve));
    expect(await facts.portOwner(port)).toBe("free");
  });

  it("measures the disk that a directory will lie on", async () => {
    expect(await facts.freeBytes(join(tmpdir(), "not", "yet", "there"))).toBeGreaterThan(0);
  });

  it("asks programs for their version, and knows when there is none", async () => {
    expect(await facts.versionOf(["git", "--version"])).toMatch(/^git version \d/);
    expect(await facts.versionOf(["no-such-program-here"])).toBeUndefined();
  });

  it("cannot reach an engine that is not there", async () => {
    await expect(facts.docker()).rejects.toThrow(/ENOENT/);
  });
});
