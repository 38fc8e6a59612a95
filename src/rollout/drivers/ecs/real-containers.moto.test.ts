import type { ContainerDefinition, RunTaskCommandInput, Task } from "@aws-sdk/client-ecs";
import { SSM } from "@aws-sdk/client-ssm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../../shared/until.ts";
import { networkOf } from "./rollout/ensure.ts";
import { type AwsStage, hasEngine, newAwsStage } from "./testing.ts";

/** What the stand-in for Fargate does with a task definition; the rest of the tests on real containers rest on it. */
const DEBIAN = "debian:bookworm-slim";
const NODE = "node:20-bookworm-slim";
const GROUP = "/stand-in";
const WITHIN = { withinMs: 90_000, everyMs: 100 };

let stage: AwsStage;
let families = 0;
beforeAll(async () => {
  if (!hasEngine) return;
  stage = await newAwsStage({ containers: "docker" });
  await stage.aws.logs.createLogGroup({ logGroupName: GROUP });
});
afterAll(() => stage?.cleanUp());

/** `sh -c SCRIPT` in a small image, with its lines in a log stream `t/NAME/TASK`. */
const shell = (name: string, script: string, changes: Partial<ContainerDefinition> = {}): ContainerDefinition => ({
  name,
  image: DEBIAN,
  essential: true,
  command: ["sh", "-c", script],
  logConfiguration: {
    logDriver: "awslogs",
    options: { "awslogs-group": GROUP, "awslogs-region": "eu-central-1", "awslogs-stream-prefix": "t" },
  },
  ...changes,
});

async function start(containers: ContainerDefinition[], overrides?: RunTaskCommandInput["overrides"]): Promise<string> {
  const { settings, aws } = stage;
  const { taskDefinition } = await aws.ecs.registerTaskDefinition({
    family: `t${++families}`,
    networkMode: "awsvpc",
    requiresCompatibilities: ["FARGATE"],
    cpu: "512",
    memory: "1024",
    executionRoleArn: settings.executionRole,
    taskRoleArn: "arn:aws:iam::123456789012:role/app",
    volumes: [{ name: "shared" }],
    containerDefinitions: containers,
  });
  const { tasks } = await aws.ecs.runTask({
    cluster: settings.cluster,
    taskDefinition: taskDefinition?.taskDefinitionArn,
    launchType: "FARGATE",
    networkConfiguration: networkOf(settings),
    ...(overrides && { overrides }),
  });
  return tasks?.[0]?.taskArn ?? "";
}

async function look(arn: string): Promise<Task> {
  const { tasks } = await stage.aws.ecs.describeTasks({ cluster: stage.settings.cluster, tasks: [arn] });
  return tasks?.[0] ?? {};
}

const reach = (arn: string, status: string): Promise<Task> =>
  until(`the task is ${status}`, async () => (await look(arn)).lastStatus === status && (await look(arn)), WITHIN);

/** The task's volume, in each container that names it. */
const mountPoints = [{ sourceVolume: "shared", containerPath: "/shared" }];

const exitCodes = (task: Task) => Object.fromEntries((task.containers ?? []).map((one) => [one.name, one.exitCode]));

/** All lines of a container, once the last of them is `last`. */
const linesTo = (last: string, arn: string, container: string): Promise<string[]> =>
  until(
    `${container} says ${last}`,
    async () => {
      const logStreamName = `t/${container}/${arn.split("/").at(-1)}`;
      const { events } = await stage.aws.logs.getLogEvents({
        logGroupName: GROUP,
        logStreamName,
        startFromHead: true,
      });
      const lines = (events ?? []).map((one) => one.message ?? "");
      return lines.at(-1) === last && lines;
    },
    WITHIN,
  );

describe.skipIf(!hasEngine)("a task as real containers", { timeout: 120_000 }, () => {
  it("answers on an address of its own, and its containers find each other at localhost", async () => {
    const serve = `require("http").createServer((_, to) => to.end("web")).listen(8080)`;
    const ask = `
      const asking = setInterval(async () => {
        const got = await fetch("http://localhost:8080").then((answer) => answer.text(), () => undefined);
        if (got !== undefined) { clearInterval(asking); console.log("got", got); }
      }, 100);
      setTimeout(() => {}, 1e6);`;
    const node = { image: NODE, entryPoint: ["node"] };
    const arn = await start([
      shell("web", "", { ...node, command: ["-e", serve] }),
      shell("asker", "", { ...node, command: ["-e", ask] }),
    ]);
    const task = await reach(arn, "RUNNING");
    const ip = task.attachments?.[0]?.details?.find((one) => one.name === "privateIPv4Address")?.value;
    const page = await until("it answers", async () => (await fetch(`http://${ip}:8080/`)).text(), WITHIN);
    expect(page).toBe("web");
    await linesTo("got web", arn, "asker");
    await stage.aws.ecs.stopTask({ cluster: stage.settings.cluster, task: arn });
  });

  it("starts its containers in the order they depend on each other, and stops them in reverse", async () => {
    const stamp = (word: string) => `echo ${word} >> /shared/order`;
    const waits = `trap '${stamp("db-ends")}; cat /shared/order; exit 0' TERM; sleep 2; ${stamp("db-up")}; touch /up; while :; do sleep 0.1; done`;
    const arn = await start([
      shell(
        "app",
        `trap 'sleep 1; ${stamp("app-ends")}; exit 0' TERM; ${stamp("app")}; echo up; while :; do sleep 0.1; done`,
        {
          mountPoints,
          dependsOn: [
            { containerName: "db", condition: "HEALTHY" },
            { containerName: "migrate", condition: "SUCCESS" },
          ],
        },
      ),
      shell("migrate", stamp("migrate"), {
        mountPoints,
        essential: false,
        dependsOn: [{ containerName: "db", condition: "HEALTHY" }],
      }),
      shell("db", waits, {
        mountPoints,
        healthCheck: { command: ["CMD-SHELL", "test -e /up"], interval: 5, retries: 10 },
      }),
    ]);
    expect((await reach(arn, "RUNNING")).healthStatus).toBe("HEALTHY");
    await linesTo("up", arn, "app");
    await stage.aws.ecs.stopTask({ cluster: stage.settings.cluster, task: arn, reason: "enough" });
    const task = await reach(arn, "STOPPED");
    expect(task).toMatchObject({ stopCode: "UserInitiated", stoppedReason: "enough" });
    expect(exitCodes(task)).toEqual({ app: 0, db: 0, migrate: 0 });
    expect(await linesTo("db-ends", arn, "db")).toEqual(["db-up", "migrate", "app", "app-ends", "db-ends"]);
  });

  it("does not start what depends on the success of something that failed", async () => {
    const arn = await start([
      shell("app", "echo never", { dependsOn: [{ containerName: "migrate", condition: "SUCCESS" }] }),
      shell("migrate", "exit 3", { essential: false }),
    ]);
    const task = await reach(arn, "STOPPED");
    expect(task.stopCode).toBe("TaskFailedToStart");
    expect(exitCodes(task)).toEqual({ app: undefined, migrate: 3 });
  });

  it.each([
    [
      "that waits for the end of an essential container",
      { dependsOn: [{ containerName: "b", condition: "SUCCESS" as const }] },
    ],
    [
      "that waits for the health of one without a check",
      { dependsOn: [{ containerName: "b", condition: "HEALTHY" as const }] },
    ],
    ["that names a version of a parameter", { secrets: [{ name: "A", valueFrom: "/shop/a:2" }] }],
    ["that waits for one that is not there", { dependsOn: [{ containerName: "c", condition: "START" as const }] }],
  ])("is refused when it is registered with a container %s", async (_, changes) => {
    const error = await start([shell("a", "", changes), shell("b", "")]).catch((refused: unknown) => refused);
    expect(error).toMatchObject({ name: "ClientException" });
  });

  it("gets its variables, its secrets by version and its parameters, and what RunTask overrides", async () => {
    const { secrets } = stage.aws;
    const { ARN, VersionId } = await secrets.createSecret({ Name: "one", SecretString: '{"KEY":"first"}' });
    await secrets.putSecretValue({ SecretId: "one", SecretString: '{"KEY":"second"}' });
    const ssm = new SSM({ region: stage.settings.region, endpoint: stage.endpoint });
    for (const Value of ["old", "new"])
      await ssm.putParameter({ Name: "/shop/parameter", Value, Type: "SecureString", Overwrite: true });
    const arn = await start(
      [
        shell("app", "exit 9", {
          environment: [
            { name: "A", value: "defined" },
            { name: "B", value: "defined" },
          ],
          secrets: [
            { name: "PINNED", valueFrom: `${ARN}:KEY::${VersionId}` },
            { name: "NEWEST", valueFrom: `${ARN}:KEY::` },
            { name: "WHOLE", valueFrom: ARN ?? "" },
            { name: "PARAMETER", valueFrom: "/shop/parameter" },
          ],
          user: "1234",
          workingDirectory: "/var/tmp",
        }),
      ],
      {
        containerOverrides: [
          {
            name: "app",
            command: ["sh", "-c", 'echo "$A $B $PINNED $NEWEST $WHOLE $PARAMETER $(id -u) $(pwd)"'],
            environment: [{ name: "B", value: "overridden" }],
          },
        ],
      },
    );
    const [line] = await until("it says so", () => linesTo(EXPECTED, arn, "app"), WITHIN);
    expect(line).toBe(EXPECTED);
  });
  const EXPECTED = 'defined overridden first second {"KEY":"second"} new 1234 /var/tmp';

  it("ends with its exit code, and all its lines, long and many, in order with their times", async () => {
    const arn = await start([
      shell(
        "app",
        "until test -e /shared/ready; do sleep 0.1; done; for n in $(seq 500); do echo line $n; done; head -c 40000 /dev/zero | tr '\\0' x; echo; echo end; exit 42",
        { mountPoints },
      ),
      // A shell that is process 1 hears no SIGTERM before it set its trap.
      shell("beside", "trap 'echo told; exit 7' TERM; touch /shared/ready; while :; do sleep 0.1; done", {
        essential: false,
        mountPoints,
      }),
    ]);
    const task = await reach(arn, "STOPPED");
    expect(task).toMatchObject({
      stopCode: "EssentialContainerExited",
      stoppedReason: "Essential container in task exited",
    });
    expect(exitCodes(task)).toEqual({ app: 42, beside: 7 });
    const lines = await linesTo("end", arn, "app");
    expect(lines).toEqual([...Array.from({ length: 500 }, (_, n) => `line ${n + 1}`), "x".repeat(40_000), "end"]);
    await linesTo("told", arn, "beside");
  });

  it("is killed when it does not end within its stop timeout, and when it takes too much memory", async () => {
    const stubborn = await start([shell("app", "trap '' TERM; while :; do sleep 0.1; done", { stopTimeout: 2 })]);
    const greedy = await start([shell("app", "tail /dev/zero", { memory: 64 })]);
    await reach(stubborn, "RUNNING");
    await stage.aws.ecs.stopTask({ cluster: stage.settings.cluster, task: stubborn });
    expect(exitCodes(await reach(stubborn, "STOPPED"))).toEqual({ app: 137 });
    const killed = await reach(greedy, "STOPPED");
    expect(exitCodes(killed)).toEqual({ app: 137 });
    expect(killed.containers?.[0]?.reason).toContain("OutOfMemoryError");
  });

  it("says why it did not start: an image, a secret, a program that is not there", async () => {
    const missing = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nothing-123456";
    const arns = await Promise.all([
      start([shell("app", "", { image: "no/such-image:1" })]),
      start([shell("app", "", { secrets: [{ name: "A", valueFrom: missing }] })]),
      start([shell("app", "", { command: ["/no/such/program"] })]),
    ]);
    const [image, secret, program] = await Promise.all(arns.map((arn) => reach(arn, "STOPPED")));
    expect(image?.stoppedReason).toContain("CannotPullContainerError");
    expect(secret?.stoppedReason).toContain("ResourceInitializationError");
    expect(program?.containers?.[0]?.reason).toContain("CannotStartContainerError");
    for (const task of [image, secret, program]) expect(task?.stopCode).toBe("TaskFailedToStart");
  });

  it("reaches AWS at the address it is told, S3 too", async () => {
    const put = `
      const [bucket, key] = ["made-by-a-task", "a/b"];
      const url = process.env.AWS_ENDPOINT_URL + "/" + bucket;
      const headers = { authorization: "AWS4-HMAC-SHA256 Credential=" + process.env.AWS_ACCESS_KEY_ID + "/20260101/us-east-1/s3/aws4_request" };
      await fetch(url, { method: "PUT", headers });
      await fetch(url + "/" + key, { method: "PUT", headers, body: "workspace" });
      console.log(await (await fetch(url + "/" + key, { headers })).text());`;
    const arn = await start([shell("app", "", { image: NODE, command: ["node", "--input-type=module", "-e", put] })]);
    await linesTo("workspace", arn, "app");
  });
});
