import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newStatus, newTestCli, startTestServer, type TestCli } from "./testing.ts";

let cli: TestCli;
beforeEach(async () => {
  cli = await newTestCli();
});
afterEach(() => cli.close());

async function write(files: Record<string, string>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(cli.dir, name, ".."), { recursive: true });
    await writeFile(join(cli.dir, name), text);
  }
}

const SPEC = "app: shop\nservices:\n  web:\n    build: { context: web }\n    port: 8080\n";
const PIPELINE =
  "image: node:20\npipelines:\n  default:\n    - step:\n        name: unit\n        script:\n          - npm test\n";

describe("check", () => {
  it("needs no server and says what a push would do", async () => {
    await write({ "shipway.yml": SPEC, "bitbucket-pipelines.yml": PIPELINE, "web/Dockerfile": "FROM scratch\n" });
    const { code, out, err } = await cli.run(["check", "--branch", "main"]);
    expect({ code, out }).toEqual({ code: 0, out: "" });
    expect(err).toBe(
      [
        "✓ shipway.yml: app shop, service web:8080; to production (branch main)",
        "✓ bitbucket-pipelines.yml: a push of branch main runs default: unit",
        "  Next: `git push shipway main`",
        "",
      ].join("\n"),
    );
  });

  it("finds what a server without a Docker Engine cannot do of it", async () => {
    await write({ "shipway.yml": SPEC, "bitbucket-pipelines.yml": PIPELINE, "web/Dockerfile": "FROM scratch\n" });
    const answering = (used: boolean) =>
      startTestServer((app) => {
        app.get("/api/status", async () => newStatus({ docker: { used, reachable: used, version: null } }));
      });
    for (const used of [true, false]) {
      const server = await answering(used);
      const there = await newTestCli(server.url);
      const { code, err } = await there.run(["check", "--branch", "main"], { cwd: cli.dir });
      expect(code).toBe(used ? 0 : 2);
      expect(err.includes("needs one: production has runtime: docker; the steps of its pipeline run on Docker")).toBe(
        !used,
      );
      await server.close();
      // Gone, it has nothing to say.
      expect((await there.run(["check", "--branch", "main"], { cwd: cli.dir })).code).toBe(0);
      await there.close();
    }
  });

  it("asks the server for the variables that an image's login or a service takes, and says where it cannot", async () => {
    const pipeline = PIPELINE.replace(
      "image: node:20\n",
      "image:\n  name: r.example/node\n  username: $R_USER\n  password: $R_PASS\ndefinitions: { services: { db: { image: mariadb, variables: { A: $DB_PASS, B: a$b } } } }\n",
    ).replace("script:", "services: [db]\n        script:");
    await write({ "shipway.yml": SPEC, "bitbucket-pipelines.yml": pipeline, "web/Dockerfile": "FROM scratch\n" });
    const alone = await cli.run(["check", "--branch", "main"]);
    expect(alone.code).toBe(0);
    expect(alone.err.match(/Unless it is set: `shipway secret set (\w+) --app shop --pipelines`/g)).toHaveLength(3);

    const server = await startTestServer((app) => {
      const value = { version: 1, updatedAt: "2026-11-23T11:00:00.000Z", environment: null };
      app.get("/api/status", async () => newStatus());
      app.get("/api/apps/shop/pipeline-variables", async () => [{ name: "R_USER", value: "ada", ...value }]);
      app.get("/api/apps/shop/pipeline-secrets", async () => [
        { name: "DB_PASS", ...value },
        { name: "R_PASS", ...value, environment: "production" },
      ]);
    });
    const there = await newTestCli(server.url);
    const { code, err } = await there.run(["check", "--branch", "main"], { cwd: cli.dir });
    await Promise.all([there.close(), server.close()]);
    expect(code).toBe(2);
    expect(err).toContain("bitbucket-pipelines.yml:4:13  the image r.example/node is fetched with $R_PASS, and nobody");
    expect(err).toContain("shipway secret set R_PASS --app shop --pipelines");
    expect(err).toContain("! bitbucket-pipelines.yml line 5: service db gets $b as it is written");
    expect(err).not.toMatch(/R_USER|DB_PASS/);
  });

  it("shows the mistakes of all files at once and exits 2", async () => {
    await write({ "shipway.yml": `${SPEC}extra: 1\n`, "bitbucket-pipelines.yml": "pipelines: 7\n" });
    const { code, err } = await cli.run(["check"]);
    expect(code).toBe(2);
    expect(err).toContain("extra");
    expect(err).toContain("bitbucket-pipelines.yml cannot be run");
  });

  it("names a Dockerfile that is not there", async () => {
    await write({ "shipway.yml": SPEC });
    const { code, err } = await cli.run(["check", "--json"]);
    expect({ code, err }).toEqual({ code: 2, err: "" });
    const { code: textCode, err: text } = await cli.run(["check"]);
    expect(textCode).toBe(2);
    expect(text).toContain("✗ The service web is built from web/Dockerfile, which does not exist.");
    expect(text).toContain("! there is no bitbucket-pipelines.yml, so a push runs no tests.");
  });

  it("shows infrastructure code that is not there under the line that names it", async () => {
    const infra = [
      "environments:",
      "  staging:",
      "    infra:",
      "      dir: nowhere",
      "  production:",
      "    infra:",
      "      dir: infra",
      "      varFiles: [small.tfvars, ../shared/eu.tfvars, ../shared/us.tfvars]",
      "",
    ];
    await write({
      "shipway.yml": SPEC + infra.join("\n"),
      "web/Dockerfile": "FROM scratch\n",
      "infra/main.tofu": "",
      "shared/eu.tfvars": "",
    });
    const { code, err } = await cli.run(["check"]);
    expect(code).toBe(2);
    expect(err).toContain("shipway.yml:9:12  there is no folder nowhere\n    9 |       dir: nowhere");
    expect(err).toContain("shipway.yml:13:18  there is no file infra/small.tfvars");
    expect(err).toContain("there is no file shared/us.tfvars");
    expect(err).not.toContain("eu.tfvars\n");
    await write({ "nowhere/readme.md": "", "infra/small.tfvars": "", "shared/us.tfvars": "" });
    expect((await cli.run(["check"])).err).toContain("there are no Terraform files in nowhere");
    await write({ "nowhere/main.tf": "" });
    expect((await cli.run(["check"])).code).toBe(0);
  });

  it("finds outputs that the Terraform code does not declare, and says where one overrules a backing service", async () => {
    const more = [
      "backing:",
      "  db: { engine: mariadb }",
      "environments:",
      "  production:",
      "    infra: { dir: infra, outputs: { DB_URL: db_ulr } }",
      "",
    ].join("\n");
    const infra = {
      "infra/main.tf": 'output "db_url" {\n  value = 1\n}\n',
      "infra/x.tf.json": '{"output":{"more":{}}}',
    };
    await write({ "shipway.yml": SPEC + more, "web/Dockerfile": "FROM scratch\n", ...infra });
    const { code, err } = await cli.run(["check"]);
    expect(code).toBe(2);
    expect(err).toContain('shipway.yml:10:45  infra declares no output "db_ulr": did you mean "db_url"?');
    expect(err).toContain(
      "! environment production takes DB_URL from Terraform's outputs, and backing service db gives it",
    );
    await write({ "infra/override.tf": 'output "db_ulr" {}\n' });
    expect((await cli.run(["check"])).code).toBe(0);
    await write({ "infra/override.tf": "locals {\n" });
    expect((await cli.run(["check"])).code).toBe(0);
  });

  it("finds the pipeline of a tag", async () => {
    const tags = `${PIPELINE}  tags:\n    v*:\n      - step:\n          name: publish\n          script: [ls]\n`;
    await write({ "shipway.yml": SPEC, "bitbucket-pipelines.yml": tags, "web/Dockerfile": "FROM scratch\n" });
    expect((await cli.run(["check", "--tag", "v1.2.0"])).err).toContain("a push of tag v1.2.0 runs tags.v*: publish");
  });

  it("shows the smallest spec when there is none", async () => {
    const { code, err } = await cli.run(["check"]);
    expect(code).toBe(2);
    expect(err).toContain("There is no shipway.yml");
    expect(err).toContain("    services:\n      web:");
  });
});
