import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { liveApp, pushBad, pushGood, told } from "../bad-push.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { BASE_IMAGE, DOCKERFILE, server, spec } from "../sample-app.ts";

const APP = "input";

describe("a push that cannot be understood or built", () => {
  let shipway: Installation;
  let checkout: string;
  const bad = (files: Record<string, string>) => pushBad(shipway, APP, checkout, files);
  beforeAll(async () => {
    shipway = await newInstallation();
    await shipway.start();
    checkout = await liveApp(shipway, APP);
  });
  afterAll(() => shipway.remove());

  it("points at the place where shipway.yml is no YAML", async () => {
    const text = await bad({ "shipway.yml": `app: ${APP}\nservices:\n  web: { build: {}, port: 3000\n` });
    expect(text).toContain(
      [
        "shipway.yml is not valid:",
        "",
        "  shipway.yml:3:8  this { is not closed: add the } it needs",
        "      3 |   web: { build: {}, port: 3000",
        "        |        ^",
        "  → Fix the places above, then run `shipway check` to validate without deploying.",
      ].join("\n"),
    );
  });

  it("shows every mistake in shipway.yml at once, under the user's own lines", async () => {
    const text = await bad({
      "shipway.yml": `app: ${APP}\nservices:\n  web:\n    build: {}\n    prt: 3000\n    cpu: 300\n  worker:\n    count: many\n`,
    });
    expect(text).toContain(
      'shipway.yml:5:5  unknown key "prt" – did you mean "port"?\n      5 |     prt: 3000\n        |     ^^^',
    );
    expect(text).toContain("shipway.yml:6:10  cpu must be 256, 512, 1024, 2048 or 4096, not 300");
    expect(text).toContain(
      'shipway.yml:8:12  count must be a number, not "many"\n      8 |     count: many\n        |            ^^^^',
    );
    expect(text).toContain("nothing was deployed");
  });

  it("shows mistakes in bitbucket-pipelines.yml in the same way", async () => {
    const text = await bad({
      "shipway.yml": spec(APP),
      "bitbucket-pipelines.yml": `image: ${BASE_IMAGE}\npipelines:\n  default:\n    - step:\n        nam: Test\n        script: []\n`,
    });
    expect(text).toContain("✗ stopped at ci");
    expect(text).toContain(
      "bitbucket-pipelines.yml:6:9  `script` has no commands\n      6 |         script: []\n        |         ^^^^^^",
    );
  });

  it("says how to begin when shipway.yml is missing", async () => {
    await rm(join(checkout, "bitbucket-pipelines.yml"));
    await rm(join(checkout, "shipway.yml"));
    const text = await bad({});
    expect(text).toContain("There is no shipway.yml at ");
    expect(text).toContain(
      `  → Add one, for instance:\n      app: ${APP}\n      services:\n        web: { build: {}, port: 3000 }`,
    );
  });

  it("names the Dockerfile it looked for", async () => {
    await rm(join(checkout, "Dockerfile"));
    const text = await bad({ "shipway.yml": spec(APP), "server.js": server("no dockerfile") });
    expect(text).toContain("✗ stopped at images");
    expect(text).toMatch(/Service web: there is no Dockerfile at commit \w+/);
    expect(text).toContain("→ Add a Dockerfile and commit it, or use `image:` to run a ready image.");
  });

  it("shows the instruction that failed in a build, and its last lines", async () => {
    const text = await bad({
      Dockerfile: `FROM ${BASE_IMAGE}\nRUN echo preparing && \\\n    echo "cannot find module left-pad" >&2 && exit 3\n`,
    });
    expect(text).toContain("✗ image web could not be built: Dockerfile:2: RUN echo preparing");
    expect(text).toContain("ended with exit code 3");
    expect(text).toContain("      | cannot find module left-pad");
    expect(text).toMatch(/→ `shipway logs --build \w+ --service web`/);
  });

  it("refuses what would interrupt the app, unless that is accepted", async () => {
    const text = await bad({
      "shipway.yml": spec(APP).replace("port: 3000\n", "port: 3000\n    hostPort: 18080\n"),
      Dockerfile: DOCKERFILE,
    });
    expect(text).toMatch(/shipway.yml:6:5\s+a fixed host port is refused: two tasks cannot own it at once/);
    expect(text).toContain("`downtime: accept`");
    expect(text).toContain("      6 |     hostPort: 18080\n        |     ^^^^^^^^");
  });

  it("names every missing secret with the command that sets it", async () => {
    const text = await bad({
      "shipway.yml": spec(APP).replace("port: 3000\n", "port: 3000\n    secrets: [API_KEY, DB_PASSWORD]\n"),
    });
    expect(text).toContain("input declares secrets that production does not have: API_KEY, DB_PASSWORD.");
    expect(text).toContain("; nothing changed for your users");
    expect(text).toContain("  → Set them, then deploy again:");
    expect(text).toContain("shipway secret set DB_PASSWORD --app input --env production");
    expect(text).toContain("shipway deploy --app input --env production");
  });

  it("deploys the next good push", async () => {
    await pushGood(shipway, APP, checkout);
  });

  it("refuses a wrong token and an unknown app in git's own words", async () => {
    const url = (token: string, app: string) =>
      shipway.apiUrl.replace("http://", `http://ada:${token}@`).concat(`/git/${app}.git`);
    const wrong = await shipway.git(["-c", "credential.helper=", "push", url("wrong", APP), "main"], checkout);
    expect(wrong.code).toBe(128);
    expect(told(wrong)).toContain("This token is not valid, or there was none.");
    expect(told(wrong)).toContain("Make one: `shipway token create`");
    await shipway.git(["remote", "set-url", "shipway", `${shipway.apiUrl}/git/nowhere.git`], checkout);
    const unknown = await shipway.push(checkout);
    expect(unknown.code).toBe(128);
    expect(told(unknown)).toBe("There is no app nowhere here. Create it: `shipway app create nowhere`.");
  });
});
