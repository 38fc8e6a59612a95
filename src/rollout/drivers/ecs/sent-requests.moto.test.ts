import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { SSM } from "@aws-sdk/client-ssm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openAccountSecrets } from "../../../aws/account-secrets.ts";
import { newId } from "../../../shared/new-id.ts";
import { Secret } from "../../../shared/secret.ts";
import type { Place, Release } from "../../release.ts";
import { openEcsTarget } from "./ecs-target.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, targetOptions, withExec } from "./testing.ts";

const VALIDATOR = join(import.meta.dirname, "../../../../test/aws/validate.py");
const hasLinter = spawnSync("cfn-lint", ["--version"], { stdio: "ignore" }).status === 0;
if (!hasLinter) console.warn("SKIPPED: cfn-lint's opinion of task definitions. It needs: pip install cfn-lint==1.51.0");

type Call = { service: string; command: string; input: unknown };

describe.skipIf(!hasMoto)("what is sent to AWS", () => {
  let stage: AwsStage;
  const calls: Call[] = [];
  beforeAll(async () => {
    stage = await newAwsStage();
    await liveALife(stage, (call) => void calls.push(call));
  });
  afterAll(async () => stage?.cleanUp());

  it("is of the form that AWS's own Python client takes", () => {
    expect(new Set(calls.map((call) => call.command)).size).toBeGreaterThan(25);
    expect(complaints("requests", calls)).toBe("");
  });

  it("is found out by that client when a member is missing or misspelt", () => {
    const broken: Call[] = [
      { service: "ecs", command: "CreateService", input: { cluster: "c" } },
      { service: "ecs", command: "UpdateService", input: { service: "s", desiredCuont: 1 } },
    ];
    expect(complaints("requests", broken)).toMatch(
      /CreateService[\s\S]*serviceName[\s\S]*UpdateService[\s\S]*desiredCuont/,
    );
  });

  it.skipIf(!hasLinter)("has task definitions and services that cfn-lint takes", () => {
    const made = calls.filter((call) => call.command === "RegisterTaskDefinition" || call.command === "CreateService");
    expect(made.length).toBeGreaterThan(4);
    expect(complaints("templates", made)).toBe("");
  });

  it.skipIf(!hasLinter)("is found out by cfn-lint when cpu and memory do not go together", () => {
    const [made] = calls.filter((call) => call.command === "RegisterTaskDefinition");
    const broken = { ...made, input: { ...(made?.input as object), cpu: "256", memory: "30720" } } as Call;
    expect(complaints("templates", [broken])).toContain("E3047");
  });
});

function complaints(what: "requests" | "templates", calls: Call[]): string {
  const input = calls.map((call) => JSON.stringify(call)).join("\n");
  const { stdout, stderr } = spawnSync("python3", [VALIDATOR, what], { input, encoding: "utf8" });
  return `${stdout}${stderr}`.trim();
}

/** Everything the driver does, once. */
async function liveALife(stage: AwsStage, onCall: (call: Call) => void): Promise<void> {
  const target = await openEcsTarget(
    targetOptions(stage, {
      settings: { ...withExec(stage.settings), storageGiB: 40, architecture: "arm64", spot: true, autoscaling: true },
      aws: { endpoint: stage.endpoint, attempts: 1, speed: 1_000, onCall },
    }),
  );
  const place: Place = { app: "shop", environment: "sent" };
  const release = (number: number): Release => ({
    app: place.app,
    number,
    services: [
      ecsService(place, "web", "web", { count: 2, cpu: 512, memoryMiB: 1_024 }),
      ecsService(place, "api", "web", {
        health: {
          path: `/health/${number}`,
          interval: 1_000,
          timeout: 2_000,
          healthy: 1,
          unhealthy: 30,
          command: ["true"],
        },
      }),
      ecsService(place, "worker", "worker"),
    ],
  });
  const references = await ofTheAccount(stage, onCall);
  const variables = { env: { A: "1" }, secrets: { DB_URL: new Secret("DB_URL", "mysql://db") }, references };
  for (const number of [1, 2]) {
    const one = release(number);
    await target.prepare(place, one);
    const run = { key: `k${number}`, service: "web", command: ["sh", "-c", "sleep 1"], variables, deadlineMs: 200 };
    await target.runOnce(place, one, run, () => undefined);
    for (const service of one.services) await target.startService(place, one, service, variables);
    await target.awaitHealthy(place, one, one.services, { deadlineMs: 10_000, onProgress: () => undefined });
    await target.shiftTraffic(place, one);
  }
  const { stdout, stderr, ended } = await target.exec(place, "shop.sent.web.r2-1", {
    id: newId("x"),
    command: ["true"],
  });
  for (const stream of [stdout, stderr]) stream.resume();
  await ended;
  await target.park(place, release(1));
  for (const follow of [false, true]) {
    const signal = AbortSignal.timeout(500);
    await target.readLogs(place, { release: 2, service: "web" }, { sinceMs: 0, follow, signal }, () => undefined);
  }
  await target.reconcile(place, { live: { release: release(2), variables: {} }, inProgress: [] });
  await target.tidy(place, [release(2)], AbortSignal.timeout(30_000));
  await target.destroy(place, "remove");
}

/** A secret and a parameter, as a deployment looks them up. */
async function ofTheAccount(stage: AwsStage, onCall: (call: Call) => void): Promise<Record<string, string>> {
  const { region, executionRole } = stage.settings;
  const { ARN } = await stage.aws.secrets.createSecret({ Name: "shop/mail", SecretString: '{"token":"one"}' });
  await new SSM({ region, endpoint: stage.endpoint }).putParameter({ Name: "/shop/key", Value: "1", Type: "String" });
  const account = openAccountSecrets({ region, executionRole, endpoint: stage.endpoint, attempts: 1, onCall });
  const [secret, parameter] = await account.lookUp([
    { kind: "secret", arn: ARN ?? "", region, key: "token" },
    { kind: "parameter", names: ["/shop/key"] },
  ]);
  await account.lookUp([{ kind: "secret", arn: ARN ?? "", region, versionId: "gone" }]);
  if (secret?.status !== "found" || parameter?.status !== "found") throw new Error("they were just made");
  return { MAIL_TOKEN: secret.valueFrom, KEY: parameter.valueFrom };
}
