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
  const bad = async (files: Record<string, string>) => {
    const text = await pushBad(shipway, APP, checkout, files);
    console.log(text);
    return text;
  };
  beforeAll(async () => {
    shipway = await newInstallation();
    await shipway.start();
    checkout = await liveApp(shipway, APP);
  });
  afterAll(() => shipway.remove());

  it("points at the place where shipway.yml is no YAML", async () => {
    const text = await bad({ "shipway.yml": `app: ${APP}\nservices:\n  web: { build: {}, port: 3000\n` });
    expect(text).toBe("");
  });

  it("shows every mistake in shipway.yml at once, under the user's own lines", async () => {
    const text = await bad({
      "shipway.yml": `app: ${APP}\nservices:\n  web:\n    build: {}\n    prt: 3000\n    cpu: 300\n  worker:\n    count: many\n`,
    });
    expect(text).toBe("");
  });

  it("shows mistakes in bitbucket-pipelines.yml in the same way", async () => {
    const text = await bad({
      "shipway.yml": spec(APP),
      "bitbucket-pipelines.yml": `image: ${BASE_IMAGE}\npipelines:\n  default:\n    - step:\n        nam: Test\n        script: []\n`,
    });
    expect(text).toBe("");
  });

  it("says how to begin when shipway.yml is missing", async () => {
    await rm(join(checkout, "bitbucket-pipelines.yml"));
    await rm(join(checkout, "shipway.yml"));
    const text = await bad({});
    expect(text).toBe("");
  });

  it("names the Dockerfile it looked for", async () => {
    await rm(join(checkout, "Dockerfile"));
    const text = await bad({ "shipway.yml": spec(APP), "server.js": server("no dockerfile") });
    expect(text).toBe("");
  });

  it("shows the instruction that failed in a build, and its last lines", async () => {
    const text = await bad({
      Dockerfile: `FROM ${BASE_IMAGE}\nRUN echo preparing && \\\n    echo "cannot find module left-pad" >&2 && exit 3\n`,
    });
    expect(text).toBe("");
  });

  it("refuses what would interrupt the app, unless that is accepted", async () => {
    const text = await bad({
      "shipway.yml": spec(APP).replace("port: 3000\n", "port: 3000\n    hostPort: 18080\n"),
      Dockerfile: DOCKERFILE,
    });
    expect(text).toBe("");
  });

  it("names every missing secret with the command that sets it", async () => {
    const text = await bad({
      "shipway.yml": spec(APP).replace("port: 3000\n", "port: 3000\n    secrets: [API_KEY, DB_PASSWORD]\n"),
    });
    expect(text).toBe("");
  });

  it("deploys the next good push", async () => {
    await pushGood(shipway, APP, checkout);
  });

  it("refuses a wrong token and an unknown app in git's own words", async () => {
    const url = (token: string, app: string) =>
      shipway.apiUrl.replace("http://", `http://ada:${token}@`).concat(`/git/${app}.git`);
    const wrong = await shipway.git(["-c", "credential.helper=", "push", url("wrong", APP), "main"], checkout);
    console.log(wrong);
    await shipway.git(["remote", "set-url", "shipway", `${shipway.apiUrl}/git/nowhere.git`], checkout);
    const unknown = await shipway.push(checkout);
    console.log(unknown, told(unknown));
    const remotes = await shipway.git(["remote", "-v"], checkout);
    expect(remotes).toBe("");
  });
});
