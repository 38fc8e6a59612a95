import { access } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newTestCli, type TestCli } from "./testing.ts";

let cli: TestCli;
beforeEach(async () => {
  cli = await newTestCli();
});
afterEach(() => cli.close());

describe("shipway infra provider install", () => {
  const launcher = "shipway.internal/shipway/shipway/1.2.3/linux_amd64/terraform-provider-shipway_v1.2.3";

  it("lays the provider where Terraform looks, prints what the configuration needs, and says how it is started", async () => {
    const { code, out, err } = await cli.run(["infra", "provider", "install"]);
    expect(code).toBe(0);
    expect(out).toContain('source  = "shipway.internal/shipway/shipway"\n      version = ">= 1.2.3"');
    expect(err).toContain("`terraform init`");
    expect(err).toContain("→ `shipway` in your PATH is not this one");
    expect(err).toContain("export SHIPWAY_PROVIDER=");
    await access(join(cli.dir, "home", ".terraform.d", "plugins", launcher));
  });

  it("takes another folder, and tells a program where everything is", async () => {
    const { out } = await cli.run(["infra", "provider", "install", "--dir", "mirror", "--json"]);
    const told = JSON.parse(out);
    expect(told).toMatchObject({ source: "shipway.internal/shipway/shipway", version: "1.2.3", inPath: false });
    expect(told.files).toContain(join(cli.dir, "mirror", launcher));
    await access(join(cli.dir, "mirror", launcher));
  });
});
