import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { InfraRunView, InfraView } from "../../src/http/infra-schemas.ts";
import { until } from "../../src/shared/until.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { DOCKERFILE, spec } from "../sample-app.ts";

let platform: Installation;
beforeAll(async () => {
  platform = await newInstallation();
  await platform.start();
});
afterAll(() => platform?.remove());

const SERVER = `
const http = require("node:http");
const server = http.createServer((request, response) => response.end(process.env.DB_URL + " " + process.env.SHIPWAY_RELEASE + "\\n"));
server.listen(3000);
process.on("SIGTERM", () => server.close(() => process.exit(0)));
`;
const main = (size: string, seconds = 0) => `
variable "size" {}
resource "terraform_data" "db" { input = "mysql://db-${size}" }
resource "terraform_data" "after" {
  depends_on       = [terraform_data.db]
  triggers_replace = ["${seconds}"]
  provisioner "local-exec" { command = "sleep ${seconds}" }
}
output "db_url" { value = terraform_data.db.output }
`;
const INFRA = `environments:
  production:
    branch: main
    infra:
      dir: infra
      variables: { size: 1 }
      outputs: { DB_URL: db_url }
`;
const files = (app: string, terraform: string, more: Record<string, string> = {}) => ({
  "shipway.yml": spec(app, INFRA),
  Dockerfile: DOCKERFILE,
  "server.js": SERVER,
  "infra/main.tf": terraform,
  ...more,
});
const runs = (app: string) => platform.api<InfraRunView[]>(`/api/apps/${app}/infra/runs`);
/** Without the drift checks, which come by themselves. */
const applies = async (app: string) => (await runs(app)).filter(({ kind }) => kind === "apply");
const infra = (app: string) => platform.api<InfraView>(`/api/apps/${app}/environments/production/infra`);
const page = (app: string) => platform.page(`web.production.${app}.localhost`);

describe("infrastructure", () => {
  it("comes before the release that needs it, gives it its outputs, and is skipped when nothing of it changed", async () => {
    const checkout = await platform.newApp("shop", files("shop", main("one")));
    const pushed = await platform.push(checkout);
    expect(pushed.stderr).toContain("✓ plan: 2 to create");
    expect(pushed.stderr).toContain("✓ terraform_data.db created");
    expect(await page("shop")).toEqual({ status: 200, body: "mysql://db-one r1\n" });

    await platform.commit(checkout, { "server.js": `${SERVER}// changed\n` }, "only code");
    expect((await platform.push(checkout)).stderr).not.toContain("infra of production");
    expect(await applies("shop")).toHaveLength(1);

    await platform.commit(checkout, { "infra/main.tf": main("two") }, "another database");
    await platform.push(checkout);
    expect(await page("shop")).toEqual({ status: 200, body: "mysql://db-two r3\n" });
    const rolledBack = await platform.shipway(["rollback"], checkout);
    expect(rolledBack.code).toBe(0);
    expect(await applies("shop")).toHaveLength(2);
  });

  it("stops a deployment whose plan destroys something until somebody approved it; the old release serves on", async () => {
    const checkout = join(platform.dir, "shop");
    await platform.shipway(["resume"], checkout);
    await platform.commit(checkout, { "infra/main.tf": main("two", 1) }, "made anew");
    const pushed = await platform.push(checkout);
    expect(pushed.stderr).toContain("waits for an approval: it destroys and makes anew terraform_data.after");
    expect((await page("shop")).status).toBe(200);
    const [waiting] = await applies("shop");
    const approved = await platform.shipway(["infra", "approve", waiting?.id ?? ""], checkout);
    expect(approved.stderr).toContain("✓ infra of production applied");
    const deployed = await platform.shipway(["deploy", "--release", "r4"], checkout);
    expect(deployed.code).toBe(0);
    expect((await page("shop")).body).toBe("mysql://db-two r4\n");
  });

  it("says when a service wants an output that is not there, before anything is started", async () => {
    const checkout = join(platform.dir, "shop");
    await platform.commit(
      checkout,
      { "shipway.yml": spec("shop", INFRA.replace("db_url", "no_such")) },
      "wrong output",
    );
    const pushed = await platform.push(checkout);
    expect(pushed.stderr).toContain('infra declares no output "no_such"');
    expect((await page("shop")).body).toBe("mysql://db-two r4\n");
  });

  it("goes on after a kill of Shipway in the middle of an apply: Terraform lives on, and nothing is done twice", async () => {
    const checkout = await platform.newApp("blog", files("blog", main("one", 4)));
    const pushing = platform.push(checkout);
    const runId = await until(
      "the first resource",
      async () => {
        const events = await platform.api<{ kind: string; data: { runId: string } }[]>(
          "/api/events?app=blog&limit=500",
        );
        return events.find(({ kind }) => kind === "infra.resource")?.data.runId;
      },
      { withinMs: 60_000 },
    );
    await platform.kill("SIGKILL");
    await pushing;
    await platform.start();
    await until(
      "the run ending",
      async () => {
        const [run] = await applies("blog");
        if (run?.status === "failed" || run?.status === "unknown") throw new Error(JSON.stringify(run));
        return run?.status === "succeeded";
      },
      { withinMs: 60_000, everyMs: 200 },
    );
    expect(await infra("blog")).toMatchObject({ applied: { runId }, blockedBy: null, lock: null });
    await until("the release serving", async () => (await page("blog")).body === "mysql://db-one r1\n", {
      withinMs: 60_000,
    });
    expect(await applies("blog")).toHaveLength(1);
    expect(await readdir(join(platform.dir, "data", "infra", "runs"))).toEqual([]);
  });

  it("may lie in a repository of its own, whose pushes plan and apply, and deploy nothing", async () => {
    const code = join(platform.dir, "kiosk-infra");
    await mkdir(code);
    await platform.git(["init", "--quiet"], code);
    await platform.commit(code, { "stack/main.tf": main("one") }, "first");
    const apart = INFRA.replace("dir: infra", "repository: kiosk-infra\n      dir: stack");
    const { "infra/main.tf": _own, ...own } = files("kiosk", "");
    const checkout = await platform.newApp("kiosk", { ...own, "shipway.yml": spec("kiosk", apart) });
    const made = await platform.shipway(["infra", "repository", "create", "kiosk-infra", "--app", "kiosk"], code);
    expect(made.stderr).toContain("The git remote `shipway` was added.");
    expect((await platform.push(code)).stderr).toContain("No environment of kiosk uses kiosk-infra yet");
    expect((await platform.push(checkout)).stderr).toContain("→ infra of production  kiosk-infra main");
    expect(await page("kiosk")).toEqual({ status: 200, body: "mysql://db-one r1\n" });

    await platform.commit(code, { "stack/main.tf": main("two") }, "another database");
    const pushed = await platform.push(code);
    expect(pushed.stderr).toContain("✓ terraform_data.db changed");
    const [, again = ""] = /`shipway (deploy [^`]*)`/.exec(pushed.stderr) ?? [];
    expect(again).toMatch(/^deploy --app kiosk --env production --ref [0-9a-f]{12}$/);
    expect(await platform.deployments("kiosk")).toHaveLength(1);
    expect((await platform.shipway(again.split(" "), checkout)).code).toBe(0);
    expect(await page("kiosk")).toEqual({ status: 200, body: "mysql://db-two r2\n" });
    const [last] = await platform.deployments("kiosk");
    const shown = await platform.shipway(["deployments", last?.id ?? ""], checkout);
    const commit = (await platform.git(["rev-parse", "HEAD"], code)).stdout.slice(0, 7);
    expect(shown.stdout).toContain(`infra: kiosk-infra ${commit}, applied by i_`);
    expect(await applies("kiosk")).toHaveLength(2);
  });

  it("goes with its environment: stopped, destroyed once approved, removed, across a kill; and comes back with the next push", async () => {
    const checkout = await platform.newApp("brief", files("brief", main("one")));
    await platform.push(checkout);
    const stop = await platform.shipway(["env", "stop", "production"], checkout);
    expect([stop.code, stop.stderr]).toEqual([0, expect.stringContaining("shipway env start production")]);
    expect((await page("brief")).status).not.toBe(200);
    expect((await platform.shipway(["env", "list"], checkout)).stdout).toContain("r1 stopped by admin");
    expect((await platform.shipway(["env", "start", "production"], checkout)).code).toBe(0);
    expect((await page("brief")).body).toBe("mysql://db-one r1\n");

    const ending = ["env", "remove", "production", "--infra", "destroy", "--yes"];
    const left = await platform.shipway([...ending, "--no-wait", "--json"], checkout);
    const { id } = JSON.parse(left.stdout);
    const runId = await until("the plan waiting", async () => {
      const [run] = await runs("brief");
      return run?.kind === "destroy" && run.status === "waiting" && run.id;
    });
    await platform.kill("SIGKILL");
    await platform.start();
    const approved = await platform.shipway(["infra", "approve", runId], checkout);
    expect(approved.stderr).toMatch(/infra of production destroyed[\s\S]*production is removed/);
    expect(await platform.api(`/api/teardowns/${id}`)).toMatchObject({ status: "succeeded" });
    expect(await platform.containers({ "shipway.app": "brief" })).toEqual([]);
    expect(await infra("brief")).toMatchObject({ applied: null, lock: null });

    await platform.commit(checkout, { "server.js": `${SERVER}// again\n` }, "again");
    await platform.push(checkout);
    expect((await page("brief")).body).toBe("mysql://db-one r2\n");
    const removed = await platform.shipway([...ending, "--data", "remove", "--approve"], checkout);
    expect([removed.code, removed.stderr]).toEqual([0, expect.stringContaining("✓ production is removed")]);
    expect((await platform.shipway(["app", "remove", "brief", "--yes"], checkout)).code).toBe(0);
  });

  it("is blocked after Shipway and Terraform were killed together, and recovered without losing or repeating anything", async () => {
    const checkout = join(platform.dir, "blog");
    await platform.commit(
      checkout,
      {
        "infra/main.tf": `${main("one", 4)}resource "terraform_data" "new" {}\nresource "terraform_data" "slow" {\n  depends_on = [terraform_data.new]\n  provisioner "local-exec" { command = "sleep 30" }\n}\n`,
      },
      "more",
    );
    const pushing = platform.push(checkout);
    const runId = await until(
      "the new resource",
      async () => {
        const events = await platform.api<{ kind: string; data: { runId: string; address: string } }[]>(
          "/api/events?app=blog&limit=500",
        );
        return events.find(({ kind, data }) => kind === "infra.resource" && data.address === "terraform_data.new")?.data
          .runId;
      },
      { withinMs: 60_000 },
    );
    const { pid } = JSON.parse(await readFile(join(platform.dir, "data", "infra", "runs", runId, "apply.pid"), "utf8"));
    await platform.kill("SIGKILL");
    process.kill(-pid, "SIGKILL");
    await pushing;
    await platform.start();
    await until("the block", async () => (await infra("blog")).blockedBy === runId, { withinMs: 60_000, everyMs: 200 });
    const shown = await platform.shipway(["infra", "recover"], checkout);
    expect(shown.stdout).toContain("terraform_data.new");
    expect(shown.stderr).toContain("--way import");
    const importing = await platform.shipway(["infra", "recover", "--way", "import"], checkout);
    expect(importing.stderr).toContain("waits for an approval");
    const [run] = await applies("blog");
    expect(run?.plan?.changes.map(({ address, action }) => `${action} ${address}`)).toEqual([
      "import terraform_data.new",
      "create terraform_data.slow",
    ]);
  });
});
