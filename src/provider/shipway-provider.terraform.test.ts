import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newTestPlatform, type TestPlatform } from "../http/testing.ts";
import { createApp } from "../source/apps.ts";
import { shipwayProvider } from "./shipway-provider.ts";
import { hasTerraform, newTerraformDir, type TerraformDir } from "./testing/terraform-testing.ts";

const HEAD = `terraform {
  required_providers {
    shipway = { source = "shipway.internal/shipway/shipway" }
  }
}
`;
const place = 'app         = "shop"\n  environment = "production"';
const SHOP = { app: "shop", environment: "production" };
const DB = `resource "shipway_backing" "db" {\n  ${place}\n  name   = "db"\n  engine = "redis"\n`;

describe.skipIf(!hasTerraform)("Shipway's provider on the real API, with the real terraform", () => {
  let test: TestPlatform;
  let tf: TerraformDir;
  let url: string;
  let token: string;
  const db = () => test.platform.store.db;
  beforeEach(async () => {
    test = await newTestPlatform();
    await test.server.listen({ port: 0, host: "127.0.0.1" });
    url = `http://127.0.0.1:${(test.server.server.address() as AddressInfo).port}`;
    token = await test.tokenFor("admin");
    tf = await newTerraformDir(shipwayProvider({ server: url, token }, { version: "1.2.3" }));
    await createApp(db(), test.platform.repositories, "shop", "ada");
  });
  afterEach(async () => {
    await tf?.close();
    await test?.close();
  });
  const api = async (method: "GET" | "PUT" | "DELETE", path: string, body?: object) => {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await test.server.inject({ method, url: path, headers, ...(body && { payload: body }) });
    return { status: answer.statusCode, body: answer.body === "" ? undefined : answer.json() };
  };
  const IN = "/api/apps/shop/environments/production";
  const applied = async (text: string, ...args: string[]) => {
    await tf.write(HEAD + text);
    expect(await tf.apply(...args)).toEqual({ exitCode: 0, diagnostics: [] });
    expect(await tf.plan(...args)).toMatchObject({ exitCode: 0, does: [], drift: [] });
  };
  const fixed = async () => {
    expect((await tf.apply("plan.tfplan")).diagnostics).toEqual([]);
    expect(await tf.plan()).toMatchObject({ exitCode: 0, does: [], drift: [] });
  };

  it("makes an app with an environment, changes its rules, and removes both", async () => {
    const both = (branch: string) => `resource "shipway_app" "blog" {\n  name = "blog"\n}
resource "shipway_environment" "staging" {\n  app = shipway_app.blog.name\n  name = "staging"\n  ${branch}\n}
output "url" {\n  value = shipway_app.blog.git_url\n}`;
    await applied(both('branch = "release/*"'));
    expect((await tf.run("output", "-raw", "url")).stdout).toBe(`${url}/git/blog.git`);
    expect((await api("GET", "/api/apps/blog/environments/staging")).body.declared).toEqual({
      branch: "release/*",
      tag: null,
    });
    await applied(both('tag = "v*"'));
    await api("PUT", "/api/apps/blog/environments/staging", { tag: "*" });
    const plan = await tf.plan();
    expect(plan.does).toEqual(["update shipway_environment.staging"]);
    expect(plan.drifted[0]?.change).toMatchObject({ before: { tag: "v*" }, after: { tag: "*" } });
    await fixed();
    await applied("");
    expect((await api("GET", "/api/apps/blog")).status).toBe(404);
  });

  it("keeps a variable as it is written, whoever changes or removes it by hand", async () => {
    const level = (value: string) =>
      `resource "shipway_variable" "level" {\n  ${place}\n  name = "LOG_LEVEL"\n  value = "${value}"\n}`;
    await applied(level("info"));
    expect((await api("GET", `${IN}/variables/LOG_LEVEL`)).body.value).toBe("info");
    await api("PUT", `${IN}/variables/LOG_LEVEL`, { value: "debug" });
    const plan = await tf.plan();
    expect(plan.drifted[0]?.change).toMatchObject({ before: { value: "info" }, after: { value: "debug" } });
    expect(plan.does).toEqual(["update shipway_variable.level"]);
    await fixed();
    expect((await api("GET", `${IN}/variables/LOG_LEVEL`)).body.value).toBe("info");
    await api("DELETE", `${IN}/variables/LOG_LEVEL`);
    expect(await tf.plan()).toMatchObject({
      does: ["create shipway_variable.level"],
      drift: ["delete shipway_variable.level"],
    });
    await fixed();
    await applied(level("warn"));
    await applied("");
    expect((await api("GET", `${IN}/variables/LOG_LEVEL`)).status).toBe(404);
  });

  it("writes a secret that is in no state, sees that it was set by hand, and writes it again", async () => {
    const key = (version: number) => `variable "key" {\n  ephemeral = true\n}
resource "shipway_secret" "key" {\n  ${place}\n  name = "API_KEY"\n  value_wo = var.key\n  value_wo_version = ${version}\n}`;
    const value = async () => (await test.platform.secrets.resolve(SHOP, ["API_KEY"])).values.API_KEY?.reveal();
    await applied(key(1), "-var=key=s3cr3t-one");
    expect(await value()).toBe("s3cr3t-one");
    expect(await tf.stateText()).not.toContain("s3cr3t");

    await api("PUT", `${IN}/secrets/API_KEY`, { value: "by hand" });
    const plan = await tf.plan("-var=key=s3cr3t-one");
    expect(plan.drifted[0]?.change).toMatchObject({ before: { version: 1 }, after: { version: 2 } });
    expect(plan.does).toEqual(["update shipway_secret.key"]);
    await applied(key(1), "-var=key=s3cr3t-one");
    expect(await value()).toBe("s3cr3t-one");

    await applied(key(2), "-var=key=s3cr3t-two");
    expect(await value()).toBe("s3cr3t-two");
    await applied('variable "key" {\n  ephemeral = true\n}', "-var=key=x");
    expect((await api("GET", `${IN}/secrets/API_KEY`)).status).toBe(404);
  });

  it("makes a backing service and tells what tasks reach it by", async () => {
    await applied(`${DB}}\noutput "db" {\n  value = shipway_backing.db\n}`);
    const { body } = await api("GET", `${IN}/backing/db`);
    expect(JSON.parse((await tf.run("output", "-json", "db")).stdout)).toEqual({
      id: "shop/production/db",
      ...SHOP,
      name: "db",
      engine: "redis",
      version: body.version,
      retain_data: true,
      host: body.host,
      port: body.port,
      variables: body.variables,
      state: "running",
    });
  });

  it("makes a backing service again that was removed by hand, and starts one that was stopped", async () => {
    await applied(`${DB}}`);
    test.platform.target.loseBacking(SHOP, "db");
    expect(await tf.plan()).toMatchObject({
      does: ["create shipway_backing.db"],
      drift: ["delete shipway_backing.db"],
    });
    await fixed();
    test.platform.target.stopBacking(SHOP, "db");
    const plan = await tf.plan();
    expect(plan.does).toEqual(["update shipway_backing.db"]);
    expect(plan.drifted[0]?.change).toMatchObject({ before: { state: "running" }, after: { state: "stopped" } });
    await fixed();
    expect((await api("GET", `${IN}/backing/db`)).body.state).toBe("running");
  });

  it("moves a backing service to another version, puts back one that was moved, and leaves alone what is not written", async () => {
    await applied(`${DB}  version = "7"\n}`);
    await applied(`${DB}  version = "7.2"\n}`);
    await api("PUT", `${IN}/backing/db`, { engine: "redis", version: "6" });
    expect(await tf.plan()).toMatchObject({
      does: ["update shipway_backing.db"],
      drift: ["update shipway_backing.db"],
    });
    await fixed();
    expect((await api("GET", `${IN}/backing/db`)).body.version).toBe("7.2");
    await applied(`${DB}}`);
    expect((await api("GET", `${IN}/backing/db`)).body.version).toBe("7.2");
  });

  it("keeps the data of a destroyed backing service unless it is told not to", async () => {
    await applied(`${DB}}`);
    await applied("");
    await tf.write(`${HEAD}${DB.replace('"redis"', '"postgres"')}}`);
    expect((await tf.apply()).diagnostics[0]).toContain("made by redis");
    await applied(`${DB}  retain_data = false\n}`);
    await applied("");
    await applied(`${DB.replace('"redis"', '"postgres"')}}`);
  });

  it("imports each kind by its id, with nothing left to do", async () => {
    await api("PUT", IN, { branch: "main" });
    await api("PUT", `${IN}/variables/LEVEL`, { value: "info" });
    await api("PUT", `${IN}/secrets/KEY`, { value: "s3cr3t" });
    await api("PUT", `${IN}/backing/db`, { engine: "redis" });
    const block = (to: string, id: string) => `import {\n  to = ${to}\n  id = "${id}"\n}\n`;
    await tf.write(`${HEAD}
${block("shipway_app.a", "shop")}resource "shipway_app" "a" {\n  name = "shop"\n}
${block("shipway_environment.e", "shop/production")}resource "shipway_environment" "e" {\n  app = "shop"\n  name = "production"\n  branch = "main"\n}
${block("shipway_variable.v", "shop/production/LEVEL")}resource "shipway_variable" "v" {\n  ${place}\n  name = "LEVEL"\n  value = "info"\n}
${block("shipway_secret.s", "shop/production/KEY")}resource "shipway_secret" "s" {\n  ${place}\n  name = "KEY"\n  value_wo = "s3cr3t"\n}
${block("shipway_backing.db", "shop/production/db")}${DB}}`);
    const plan = await tf.plan();
    expect(plan.diagnostics).toEqual([]);
    expect(plan.does).toEqual([]);
    expect((await tf.apply("plan.tfplan")).exitCode).toBe(0);
    expect((await tf.run("state", "list")).stdout.trim().split("\n")).toHaveLength(5);

    await tf.write(`${HEAD}${block("shipway_backing.cache", "shop/cache")}${DB.replace('"db"', '"cache"')}}`);
    expect((await tf.plan()).diagnostics[0]).toContain(
      '"shop/cache" is not an id of that kind | It is made of APP/ENVIRONMENT/NAME.',
    );
    await tf.write(`${HEAD}${block("shipway_backing.cache", "shop/production/none")}${DB.replace('"db"', '"cache"')}}`);
    expect((await tf.plan()).diagnostics[0]).toContain(
      'There is no shipway_backing with the id "shop/production/none"',
    );
  });

  it("reads each kind, and names what it does not find", async () => {
    await api("PUT", IN, { branch: "main" });
    await api("PUT", `${IN}/variables/LEVEL`, { value: "info" });
    await api("PUT", `${IN}/secrets/KEY`, { value: "s3cr3t" });
    await api("PUT", `${IN}/backing/db`, { engine: "redis" });
    const data = (type: string, name: string) =>
      `data "shipway_${type}" "it" {\n  ${type === "environment" ? 'app = "shop"' : place}\n  name = "${name}"\n}\n`;
    await applied(`data "shipway_app" "it" {\n  name = "shop"\n}
${data("environment", "production")}${data("variable", "LEVEL")}${data("secret", "KEY")}${data("backing", "db")}
output "found" {\n  value = {
    environments = data.shipway_app.it.environments
    branch       = data.shipway_environment.it.branch
    live         = data.shipway_environment.it.live_release
    value        = data.shipway_variable.it.value
    secret       = data.shipway_secret.it.version
    state        = data.shipway_backing.it.state
  }\n}`);
    expect(JSON.parse((await tf.run("output", "-json", "found")).stdout)).toEqual({
      environments: ["production"],
      branch: "main",
      live: null,
      value: "info",
      secret: 1,
      state: "running",
    });
    for (const [type, name] of [
      ["environment", "nowhere"],
      ["variable", "NONE"],
      ["secret", "NONE"],
      ["backing", "none"],
    ] as const) {
      await tf.write(HEAD + data(type, name));
      expect((await tf.plan()).diagnostics[0]).toMatch(
        new RegExp(`^shop has no .*${name}.* \\| .* \\| name = "${name}"$`, "s"),
      );
    }
  });

  it("refuses a wrong name before anything is asked, at its line", async () => {
    await tf.write(`${HEAD}resource "shipway_app" "a" {\n  name = "My Shop"\n}
${DB.replace('"redis"', '"oracle"')}}
resource "shipway_variable" "v" {\n  ${place}\n  name = "SHIPWAY_X"\n  value = "1"\n}`);
    expect((await tf.plan()).diagnostics.map((text) => text.split(" | ").at(-1)).sort()).toEqual([
      'engine = "oracle"',
      'name = "My Shop"',
      'name = "SHIPWAY_X"',
    ]);
  });

  it("passes on what the API says", async () => {
    await tf.write(
      `${HEAD}resource "shipway_variable" "v" {\n  app = "nowhere"\n  environment = "production"\n  name = "A"\n  value = "1"\n}`,
    );
    const [said = ""] = (await tf.apply()).diagnostics;
    expect(said).toMatch(/^There is no app nowhere.* \| .*shipway apps?/);
    expect(said).not.toMatch(/at .*\.ts:\d+/);
  });
});

describe.skipIf(!hasTerraform)("Shipway's provider without a Shipway", () => {
  it.each([
    [{ server: undefined, token: "t" }, "The provider has no server | Set the environment variable SHIPWAY_SERVER"],
    [{ server: "http://127.0.0.1:1", token: undefined }, "The provider has no token | Set the environment variable"],
    [{ server: "shipway.example.com", token: "t" }, "shipway.example.com is no address of a Shipway | Write it with"],
  ])("says what it lacks: %j", async (defaults, said) => {
    const tf = await newTerraformDir(shipwayProvider(defaults, { version: "1" }));
    try {
      await tf.write(`${HEAD}data "shipway_app" "a" {\n  name = "shop"\n}`);
      expect((await tf.plan()).diagnostics[0]).toContain(said);
    } finally {
      await tf.close();
    }
  });
});
