import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { access, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { InfraView } from "../../src/http/infra-schemas.ts";
import type { Backing } from "../../src/http/schemas.ts";
import { hasTerraform } from "../../src/provider/testing/terraform-testing.ts";
import { until } from "../../src/shared/until.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { DOCKERFILE, server, spec } from "../sample-app.ts";

const MAIN = `terraform {
  required_providers {
    shipway = { source = "shipway.internal/shipway/shipway" }
  }
}
locals { place = { app = "shop", environment = "production" } }
resource "shipway_variable" "level" {
  app         = local.place.app
  environment = local.place.environment
  name        = "LOG_LEVEL"
  value       = "info"
}
resource "shipway_backing" "cache" {
  app         = local.place.app
  environment = local.place.environment
  name        = "cache"
  engine      = "redis"
  retain_data = false
}
variable "key" {
  ephemeral = true
}
resource "shipway_secret" "key" {
  app         = local.place.app
  environment = local.place.environment
  name        = "API_KEY"
  value_wo    = var.key
}
output "cache" { value = shipway_backing.cache.host }
`;
// No push deploys there: what is looked at is the infrastructure alone.
const ENVIRONMENTS =
  "environments:\n  production:\n    branch: release\n    infra: { dir: infra, secrets: [TF_VAR_key] }\n";
/** By it a plugin knows that Terraform started it. */
const COOKIE = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";
const IN = "/api/apps/shop/environments/production";

describe.skipIf(!hasTerraform)("Shipway's own provider, from the mirror that Shipway lays (needs terraform)", () => {
  let platform: Installation;
  let checkout: string;
  beforeAll(async () => {
    platform = await newInstallation();
    await platform.start();
    checkout = await platform.newApp("shop", {
      "shipway.yml": spec("shop", ENVIRONMENTS),
      Dockerfile: DOCKERFILE,
      "server.js": server("shop"),
      "infra/main.tf": MAIN,
    });
  });
  afterAll(() => platform?.remove());
  const IN_PRODUCTION = ["--app", "shop", "--env", "production"];
  const infra = (...args: string[]) => platform.shipway(["infra", ...args, ...IN_PRODUCTION], checkout);
  const drift = async () => (await platform.api<InfraView>(`${IN}/infra`)).drift?.resources;
  const cache = () => platform.api<Backing>(`${IN}/backing/cache`);
  /** Terraform of a laptop, on a copy of the code. */
  async function laptop(...args: string[]) {
    const dir = join(platform.dir, "laptop");
    const mirror = join(dir, "mirror");
    const told = await platform.shipway(["infra", "provider", "install", "--dir", mirror, "--json"]);
    await mkdir(join(dir, "code"), { recursive: true });
    await writeFile(join(dir, "code", "main.tf"), MAIN);
    await writeFile(
      join(dir, "terraform.rc"),
      `provider_installation {\n  filesystem_mirror {\n    path = "${mirror}"\n  }\n}\n`,
    );
    const env = {
      PATH: process.env.PATH,
      HOME: dir,
      TF_CLI_CONFIG_FILE: join(dir, "terraform.rc"),
      CHECKPOINT_DISABLE: "1",
      SHIPWAY_PROVIDER: JSON.parse(told.stdout).program,
    };
    return spawnSync("terraform", args, { cwd: join(dir, "code"), env, encoding: "utf8" });
  }

  it("makes what the code says, with the lock file of a laptop", async () => {
    const initialised = await laptop("init", "-no-color", "-input=false");
    expect(initialised.stderr).toBe("");
    const lock = await readFile(join(platform.dir, "laptop", "code", ".terraform.lock.hcl"), "utf8");
    expect(lock).toContain('provider "shipway.internal/shipway/shipway"');
    await platform.commit(checkout, { "infra/.terraform.lock.hcl": lock }, "lock the provider");
    const pushed = await platform.push(checkout, "-o", "no-wait");
    expect(pushed.code, pushed.stderr).toBe(0);

    const set = await platform.shipway(["secret", "set", "TF_VAR_key", ...IN_PRODUCTION], checkout, {
      stdin: "s3cr3t-value",
    });
    expect(set.code, set.stderr).toBe(0);
    const applied = await infra("apply", "--ref", "main");
    expect(applied.stderr).toContain("✓ shipway_backing.cache created");
    expect(applied.code, applied.stderr).toBe(0);
    expect(await cache()).toMatchObject({ engine: "redis", state: "running" });
    expect(await platform.api(`${IN}/variables/LOG_LEVEL`)).toMatchObject({ value: "info" });
    expect(await platform.api(`${IN}/secrets/API_KEY`)).toMatchObject({ version: 1 });
    expect((await infra("state", "show", "--raw")).stdout).not.toContain("s3cr3t-value");
    expect((await infra("drift", "--now")).code).toBe(0);
    expect(await drift()).toEqual([]);
  });

  it("sees a container removed, a variable changed and a secret set by hand, and puts all back", async () => {
    const { container = "" } = await cache();
    await platform.docker.getContainer(container).remove({ force: true });
    await platform.api(`${IN}/variables/LOG_LEVEL`, { method: "PUT", body: { value: "debug" } });
    await platform.api(`${IN}/secrets/API_KEY`, { method: "PUT", body: { value: "set-by-hand" } });
    expect(await cache()).toMatchObject({ state: "missing" });

    const looked = await infra("drift", "--now");
    expect(looked.code).toBe(1);
    expect(looked.stdout).toContain("shipway_backing.cache");
    expect(looked.stdout).toContain(`value: "info" → "debug"`);
    expect(await drift()).toMatchObject([
      { address: "shipway_backing.cache", kind: "reverting", action: "delete" },
      { address: "shipway_secret.key", kind: "reverting", attributes: [{ path: "version", before: "1", after: "2" }] },
      { address: "shipway_variable.level", kind: "reverting", attributes: [{ path: "value" }] },
    ]);

    const reverted = await infra("drift", "--revert");
    expect(reverted.code, reverted.stderr).toBe(0);
    expect(await cache()).toMatchObject({ state: "running" });
    expect(await platform.api(`${IN}/variables/LOG_LEVEL`)).toMatchObject({ value: "info" });
    expect(await platform.api(`${IN}/secrets/API_KEY`)).toMatchObject({ version: 3 });
    expect((await infra("drift", "--now")).code).toBe(0);
  });

  it("leaves no provider behind", async () => {
    const left: string[] = [];
    for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
      const environ = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
      if (environ.includes(`SHIPWAY_SERVER=${platform.apiUrl}`) && environ.includes("TF_PLUGIN_MAGIC_COOKIE"))
        left.push(pid);
    }
    expect(left).toEqual([]);
  });

  it("ends a provider whose Terraform was killed", async () => {
    const mirror = join(platform.dir, "laptop", "mirror");
    const { program } = JSON.parse(
      (await platform.shipway(["infra", "provider", "install", "--dir", mirror, "--json"])).stdout,
    );
    const terraform = spawn(
      process.execPath,
      [
        "-e",
        `const child = require("node:child_process").spawn(process.execPath, [${JSON.stringify(program)}], { stdio: ["ignore", "pipe", "inherit"] });
      child.stdout.once("data", (line) => console.log(child.pid + " " + line));
      setInterval(() => {}, 1000);`,
      ],
      { env: { PATH: process.env.PATH, TF_PLUGIN_MAGIC_COOKIE: COOKIE }, stdio: ["ignore", "pipe", "inherit"] },
    );
    const [line] = await once(terraform.stdout, "data");
    const [, pid, handshake] = /^(\d+) (\S+)/.exec(String(line)) ?? [];
    expect(handshake).toMatch(/^1\|6\|unix\|\/.*\|grpc$/);
    terraform.kill("SIGKILL");
    await until("the provider ending", async () =>
      access(`/proc/${pid}`).then(
        () => false,
        () => true,
      ),
    );
  });

  it("goes on with the locked provider after the mirror was lost", async () => {
    await rm(join(platform.dir, "data", "infra", "providers"), { recursive: true });
    await platform.kill("SIGINT");
    await platform.start();
    const planned = await infra("plan", "--ref", "main");
    expect(planned.code, planned.stderr).toBe(0);
    expect(planned.stderr).toContain("✓ plan: nothing to change");
  });
});
