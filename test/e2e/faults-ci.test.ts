import { spawnSync } from "node:child_process";
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

  it("gives steps what was set for pipelines, each its own and over a kill; it can be read nowhere afterwards", async () => {
    const team = "tr0ub4dor-of-the-team";
    const setSecret = (name: string, value: string, ...flags: string[]) =>
      shipway.shipway(["secret", "set", name, "--pipelines", ...flags], checkout, { stdin: value });
    expect((await setSecret("NPM_TOKEN", `first line\n${team}-one\nlast line`)).code).toBe(0);
    expect((await setSecret("DEPLOY_KEY", `${team}-two`, "--env", "production")).code).toBe(0);
    expect((await setSecret("BITBUCKET_COMMIT", "long enough")).code).toBe(2);
    const file = `image: ${BASE_IMAGE}
definitions: { services: { cache: { image: "redis:7", variables: { SEEN: "$NPM_TOKEN" } } } }
pipelines:
  default:
    - step: { name: Test, services: [cache], script: ['echo "it is $NPM_TOKEN, and \${DEPLOY_KEY:-nothing}"', sleep 3] }
    - step: { name: Publish, deployment: Production, script: ['echo "lines $(echo "$NPM_TOKEN" | wc -l)"', 'echo "$DEPLOY_KEY" | base64'] }
`;
    await shipway.commit(checkout, { "bitbucket-pipelines.yml": file }, "Use what the team set");
    const pushing = shipway.push(checkout);
    const inspect = async (role: string) => {
      const [name = ""] = await until(`a ${role}`, async () => {
        const found = await shipway.containers({ "shipway.role": role, "shipway.step": "1" });
        return found.length > 0 && found;
      });
      const { Config, HostConfig, Args } = await shipway.docker.getContainer(name).inspect();
      const { Env, ...rest } = Config;
      expect(JSON.stringify([rest, HostConfig, Args])).not.toContain(team);
      return (Env ?? []).filter((entry) => entry.includes(team)).map((entry) => entry.split("=")[0]);
    };
    expect([await inspect("step"), await inspect("service"), await inspect("holder")]).toEqual([
      ["NPM_TOKEN"],
      ["SEEN"],
      [],
    ]);
    await setSecret("NPM_TOKEN", `${team}-changed`);
    await shipway.kill("SIGKILL");
    await pushing;
    await shipway.start();
    const [pipeline] = await until("the pipeline's end", async () => {
      const found = await shipway.api<{ number: number; status: string }[]>(`/api/apps/${APP}/pipelines`);
      return found[0]?.status !== "running" && found;
    });
    expect(pipeline?.status).toBe("passed");
    const { stdout } = await shipway.shipway(["logs", "--pipeline", String(pipeline?.number)], checkout);
    expect(stdout).toMatch(/it is \*{4}\n.*\*{4}\n.*\*{4}, and nothing\n/);
    expect(stdout).toContain("lines 3");
    expect(stdout.replaceAll("=", "")).toMatch(/\*{4}[A-Za-z0-9]{0,2}\n/);
    const left = await Promise.all(
      (await shipway.containers()).map((name) => shipway.docker.getContainer(name).inspect()),
    );
    expect(JSON.stringify(left)).not.toContain(team);
    for (const form of [team, Buffer.from(team).toString("base64").slice(0, 24)]) {
      const { stdout: files } = spawnSync("grep", ["-rlF", form, join(shipway.dir, "data")], { encoding: "utf8" });
      expect(files).toBe("");
    }
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
