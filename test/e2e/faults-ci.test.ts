import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../src/shared/until.ts";
import { hostOf, liveApp, pushBad, pushGood, told } from "../bad-push.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { BASE_IMAGE, DOCKERFILE, server, spec } from "../sample-app.ts";

const APP = "steps";
const SECRET = "hunter2-correct-horse";

const pipelines = (...script: string[]) =>
  `image: ${BASE_IMAGE}\npipelines:\n  default:\n    - step:\n        name: Test\n        script:\n${script.map((line) => `          - ${line}\n`).join("")}`;

describe("a pipeline that goes wrong", () => {
  let shipway: Installation;
  let checkout: string;
  beforeAll(async () => {
    shipway = await newInstallation();
    await shipway.start();
    checkout = await liveApp(shipway, APP);
  });
  afterAll(() => shipway.remove());

  it("shows the failing command with its exit code and the last lines before it", async () => {
    const text = await pushBad(shipway, APP, checkout, {
      "server.js": server("untested"),
      "bitbucket-pipelines.yml": pipelines("echo two tests passed", "echo cart is empty >&2; exit 6"),
    });
    await pushGood(shipway, APP, checkout, { "bitbucket-pipelines.yml": pipelines("echo fine") });
    expect(text).toContain("$ echo cart is empty >&2; exit 6   exit code 6");
    expect(text).toContain("      | two tests passed");
    expect(text).toContain("      | cart is empty");
    expect(text).toMatch(/→ `shipway logs --pipeline \d+ --step Test`/);
    expect(text).toContain("nothing was deployed; what runs, runs on");
  });

  it("says so when the step's container is removed by hand", async () => {
    const before = await shipway.things();
    await shipway.commit(checkout, { "bitbucket-pipelines.yml": pipelines("echo begun", "sleep 60") }, "Take long");
    const pushing = shipway.push(checkout);
    const [step = ""] = await until("the step running", async () => {
      const found = await shipway.containers({ "shipway.role": "step" });
      return found.length > 0 && (await shipway.docker.getContainer(found[0] ?? "").inspect()).State.Running && found;
    });
    await shipway.docker.getContainer(step).remove({ force: true });
    const pushed = await pushing;
    expect(await shipway.things()).toEqual(before);
    expect((await shipway.page(hostOf(APP))).body).toContain("good");
    expect(told(pushed).replace(/\s+/g, " ")).toContain(
      "the step's container was removed while it ran: start the pipeline again",
    );
    expect(told(pushed)).toContain("nothing was deployed; what runs, runs on");
    await pushGood(shipway, APP, checkout, { "bitbucket-pipelines.yml": pipelines("echo fine") });
  });

  it("keeps a secret out of every log and event, whoever prints it", async () => {
    const set = await shipway.shipway(["secret", "set", "API_KEY", "--env", "production"], checkout, { stdin: SECRET });
    expect(set).toMatchObject({ code: 0, stdout: "" });
    const prints = `console.log("key " + process.env.API_KEY); console.error(Buffer.from(process.env.API_KEY).toString("base64"));\n`;
    const withSecret = spec(APP).replace(
      "    port: 3000\n",
      "    port: 3000\n    secrets: [API_KEY]\n    release: [node, migrate.js]\n",
    );
    const files = {
      "shipway.yml": withSecret,
      "bitbucket-pipelines.yml": pipelines(`echo ${SECRET}`),
      Dockerfile: `FROM ${BASE_IMAGE}\nRUN echo ${SECRET}\nWORKDIR /app\nCOPY . .\nCMD ["node", "server.js"]\n`,
      "migrate.js": prints,
      "server.js": prints + server("good with a secret"),
    };
    await shipway.commit(checkout, files, "Print it");
    const pushed = await shipway.push(checkout);
    expect(told(pushed)).toContain("✓ live in");
    const taskLogs = await until("the task's lines", async () => {
      const lines = await shipway.api<unknown[]>(`/api/apps/${APP}/environments/production/logs`);
      return lines.length > 0 && lines;
    });
    const failing = [
      { "bitbucket-pipelines.yml": pipelines(`echo ${SECRET}; exit 3`) },
      {
        "bitbucket-pipelines.yml": pipelines("echo fine"),
        Dockerfile: `FROM ${BASE_IMAGE}\nRUN echo ${SECRET}; exit 4\n`,
      },
      { Dockerfile: DOCKERFILE, "migrate.js": `${prints}process.exit(5);\n` },
      { "migrate.js": prints, "server.js": `${prints}setTimeout(() => process.exit(6), 300);\n` },
    ];
    const said = [told(pushed)];
    for (const change of failing) said.push(await pushBad(shipway, APP, checkout, change));

    const dir = join(shipway.dir, "data", "logs");
    const logs = await Promise.all((await readdir(dir)).map((name) => readFile(join(dir, name), "utf8")));
    const events = await shipway.api<unknown[]>(`/api/events?app=${APP}&after=0&limit=1000`);
    const kept = [
      ...said,
      ...logs,
      JSON.stringify([
        taskLogs,
        events,
        await shipway.deployments(APP),
        await shipway.api(`/api/apps/${APP}/pipelines`),
      ]),
      shipway.output(),
    ].join("\n");
    const leaks = [SECRET, Buffer.from(SECRET).toString("base64")].flatMap((form) =>
      kept
        .split(form)
        .slice(0, -1)
        .map((before) => before.slice(-200)),
    );
    expect(leaks).toEqual([]);
    // What proves that it was printed in each of these places at all.
    for (const text of said.slice(1)) expect(text).toContain("****");
    expect(JSON.stringify(taskLogs)).toContain("key ****");
    expect(logs.filter((log) => log.includes("****")).length).toBeGreaterThanOrEqual(4);
  });
});
