import { symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AwsStage, hasEngine, newAwsStage } from "../../../rollout/drivers/ecs/testing.ts";
import type { LogLine } from "../../../shared/log-line.ts";
import { Secret } from "../../../shared/secret.ts";
import { until } from "../../../shared/until.ts";
import type { ServicePlan, StepExecutor, StepPlan, StepProgress } from "../../executor.ts";
import { said, stepPlan } from "../contract.ts";
import { commitAll } from "../docker/docker-subject.ts";
import { type EcsSubject, openEcsSubject } from "./testing.ts";

let stage: AwsStage;
beforeAll(async () => {
  if (hasEngine) stage = await newAwsStage({ containers: "docker" });
}, 120_000);
afterAll(() => stage?.cleanUp());

const CASE_MS = 120_000;
const DAY_MS = 24 * 3_600_000;

/** Cases wait for containers most of the time, and share nothing but the account. */
const on = (title: string, body: (subject: EcsSubject) => Promise<void>) =>
  it.concurrent(
    title,
    async () => {
      const subject = await openEcsSubject(stage);
      try {
        await body(subject);
      } finally {
        await subject.close();
      }
    },
    CASE_MS,
  );

async function run(
  subject: EcsSubject,
  step: Partial<StepPlan> & Pick<StepPlan, "script">,
  executor: StepExecutor = subject.executor,
) {
  const lines: LogLine[] = [];
  const progress: StepProgress[] = [];
  const plan = stepPlan({ image: subject.image, maxTimeMs: 100_000, ...step });
  const outcome = await executor.runStep(subject.context, plan, (batch) => lines.push(...batch), {
    alreadyLogged: 0,
    onProgress: (event) => progress.push(event),
  });
  const remarks = lines.filter(({ stream }) => stream === "meta").map(({ text }) => text);
  return { outcome, progress, lines, said: said(lines), remarks };
}

const redis: ServicePlan = { name: "cache", image: "redis:7", variables: {}, memoryMiB: 256 };
const mariadb: ServicePlan = {
  name: "db",
  image: "mariadb:10.11",
  memoryMiB: 1_024,
  variables: {
    MARIADB_ROOT_PASSWORD: "rootpw",
    MARIADB_USER: "app",
    MARIADB_PASSWORD: "$DB_PASSWORD",
    MARIADB_DATABASE: "shop",
  },
};

/** All that anybody who may look at the account sees of definitions, tasks and lines. */
async function visibleIn({ stage: { aws }, settings: { cluster } }: EcsSubject): Promise<string> {
  const { taskDefinitionArns } = await aws.ecs.listTaskDefinitions({});
  const definitions = (taskDefinitionArns ?? []).map((taskDefinition) =>
    aws.ecs.describeTaskDefinition({ taskDefinition }),
  );
  const { taskArns } = await aws.ecs.listTasks({ cluster, desiredStatus: "STOPPED" });
  const tasks = await aws.ecs.describeTasks({ cluster, tasks: taskArns ?? [] });
  const { logGroups } = await aws.logs.describeLogGroups({});
  const lines = (logGroups ?? []).map(({ logGroupName }) => aws.logs.filterLogEvents({ logGroupName }));
  return JSON.stringify([await Promise.all(definitions), tasks, await Promise.all(lines)]);
}

describe.skipIf(!hasEngine)("a step as a task with real containers", () => {
  on(
    "has its services on localhost, ready when the script begins, and nothing of its secrets can be seen",
    async (subject) => {
      subject.context.secrets.DB_PASSWORD = new Secret("DB_PASSWORD", "sw0rdf!sh'\"");
      const query = `MYSQL_PWD="$DB_PASSWORD" mariadb -h127.0.0.1 -uapp shop -e "select 'from the database'"`;
      const { outcome, progress, said } = await run(subject, {
        image: "mariadb:10.11",
        services: [redis, mariadb],
        script: [
          query,
          "exec 3<>/dev/tcp/localhost/6379 && printf 'PING\\r\\n' >&3 && head -n1 <&3",
          'echo "the password is $DB_PASSWORD"',
          `echo "it has \${#DB_PASSWORD} characters"`,
        ],
      });
      expect(outcome).toMatchObject({ status: "passed" });
      expect(said).toEqual(
        expect.arrayContaining(["from the database", "+PONG", "the password is ****", "it has 11 characters"]),
      );
      expect(progress.flatMap((event) => (event.kind === "serviceReady" ? [event.service] : [])).sort()).toEqual([
        "cache",
        "db",
      ]);
      expect((await visibleIn(subject)).includes("sw0rdf!sh")).toBe(false);
      const { SecretList } = await subject.stage.aws.secrets.listSecrets({});
      expect(SecretList?.some(({ Name }) => Name?.includes(subject.context.runId))).toBe(true);
      await subject.executor.cleanUp(subject.context.runId);
      const after = await subject.stage.aws.secrets.listSecrets({});
      expect(after.SecretList?.some(({ Name }) => Name?.includes(subject.context.runId))).toBe(false);
      const left = await subject.stage.aws.ecs.listTaskDefinitions({
        familyPrefix: `shipway-${subject.install}_shop_`,
      });
      expect(left.taskDefinitionArns).toEqual([]);
    },
  );

  on("fails with a service's own last lines when that stops before it answers", async (subject) => {
    const broken = { ...redis, name: "broken", image: "mariadb:10.11" };
    const { outcome, said } = await run(subject, { script: ["echo never"], services: [broken] });
    expect(outcome).toMatchObject({ status: "failed" });
    expect(outcome.reason).toMatch(/^service broken \(mariadb:10.11\) stopped with exit code \d+ before it answered$/);
    expect(outcome.lastLines.join("\n")).toMatch(/password option is not specified|MARIADB_ROOT_PASSWORD/);
    expect(said).not.toContain("never");
    expect(await subject.left()).toBe(0);
  });

  on("fails when a service never answers", async (subject) => {
    // A user without a password is not made, so the check as this user never passes.
    const silent = { ...mariadb, variables: { MARIADB_ROOT_PASSWORD: "rootpw", MARIADB_USER: "app" } };
    const executor = await subject.open({ times: { serviceMs: 2_000 } });
    const { outcome, said } = await run(subject, { script: ["echo never"], services: [silent] }, executor);
    expect(outcome).toMatchObject({
      status: "failed",
      reason: "service db (mariadb:10.11) did not answer within 2.0 s",
    });
    expect(said).not.toContain("never");
    expect(await subject.left()).toBe(0);
  });

  on("hands artifacts to later stages with modes and harmless links, into real directories", async (subject) => {
    const { repositoryDir, context } = subject;
    const make = [
      "mkdir -p dist/deep target && echo 1 > dist/a.js && echo 2 > dist/deep/b.js && chmod +x dist/a.js && echo 3 > other",
      "ln -s /etc/passwd dist/out && ln -s deep/b.js dist/good && echo mine > target/owned",
    ];
    const first = await run(subject, { script: make, artifacts: ["dist/**", "target/**", "none/*"] });
    expect(first.remarks).toEqual(
      expect.arrayContaining([
        "kept 4 artifact files",
        "artifact dist/out is not kept: it is a link out of the checkout",
        "artifact none/* matches no file",
      ]),
    );
    // The next checkout has a link to elsewhere where the artifact's directory was.
    await symlink("/tmp", join(repositoryDir, "target"));
    context.commit = await commitAll(repositoryDir, "a link");
    const look =
      "find . -path ./.git -prune -o ! -type d -print | sort; test -x dist/a.js && cat dist/good target/owned";
    const later = await run(subject, { id: "2", stage: 1, script: [look] });
    expect(later.said.filter((line) => !line.startsWith("+"))).toEqual([
      "./README.md",
      "./dist/a.js",
      "./dist/deep/b.js",
      "./dist/good",
      "./package-lock.json",
      "./target/owned",
      "2",
      "mine",
    ]);
    const picky = { id: "3", stage: 2, script: ["find dist ! -type d"], downloadArtifacts: ["dist/deep/*"] };
    expect((await run(subject, picky)).said).toEqual(["+ find dist ! -type d", "dist/deep/b.js"]);
  });

  on(
    "shows 10,000 lines once each and in order, empty ones, endless ones and such as CloudWatch would swallow",
    async (subject) => {
      const metric = '{"_aws":{"Timestamp":1,"CloudWatchMetrics":[]}}';
      const script = [
        "for n in $(seq 10000); do echo line $n; done",
        "echo; echo",
        `echo '${metric}'`,
        "head -c 700000 /dev/zero | tr '\\0' x; echo",
        "printf 'a\\nb'",
        "set -x; for n in 1 2 3; do echo out$n; echo err$n >&2; done 2>&1 | grep -v '^+'",
      ];
      const { outcome, said } = await run(subject, { script });
      expect(outcome.status).toBe("passed");
      const numbered = said.filter((line) => line.startsWith("line "));
      expect(numbered).toEqual(Array.from({ length: 10_000 }, (_, n) => `line ${n + 1}`));
      const after = said.slice(said.indexOf("line 10000") + 1);
      expect(after.slice(0, 3)).toEqual(["+ echo; echo", "", ""]);
      expect(after).toContain(metric);
      expect(after).toContain("x".repeat(700_000));
      expect(after.filter((line) => /^(a|b|(out|err)\d)$/.test(line))).toEqual([
        "a",
        "b",
        "out1",
        "err1",
        "out2",
        "err2",
        "out3",
        "err3",
      ]);
      expect(said.join("\n")).not.toMatch(/\u001d/);
      expect(outcome.commands).toHaveLength(script.length);
    },
  );

  on("says that it ran out of memory", async (subject) => {
    const script = ["echo begun", "tail /dev/zero"];
    const { outcome } = await run(subject, { script, memoryMiB: 256 });
    expect(outcome).toMatchObject({ status: "failed" });
    expect(outcome.reason).toMatch(/ran out of memory \(the step has 256 MB\)/);
    expect(outcome.lastLines).toContain("begun");
  });

  on("says that it was stopped by somebody else, with all that it had said", async (subject) => {
    const { aws } = stage;
    const { cluster } = subject.settings;
    const startedBy = `shipway/ci/${subject.install}/${subject.context.runId}`;
    const lines: LogLine[] = [];
    const plan = stepPlan({ image: subject.image, script: ["echo begun", "sleep 60"] });
    const running = subject.executor.runStep(subject.context, plan, (batch) => lines.push(...batch), {
      alreadyLogged: 0,
    });
    await until("the step begins", () => said(lines).includes("begun"), { withinMs: 60_000 });
    const { taskArns } = await aws.ecs.listTasks({ cluster, startedBy });
    await aws.ecs.stopTask({ cluster, task: taskArns?.[0] ?? "", reason: "by hand" });
    const outcome = await running;
    expect(outcome).toMatchObject({ status: "failed", exitCode: 137, failedCommand: "sleep 60" });
    expect(outcome.reason).toBe("the step's container was stopped during `sleep 60` (exit code 137)");
    expect(said(lines)).toEqual(["+ echo begun", "begun", "+ sleep 60"]);
  });
});

describe.skipIf(!hasEngine)("caches of steps as tasks", () => {
  const node = { name: "node", path: "node_modules", keyFiles: ["package-lock.json"] };
  const home = { name: "npm", path: "~/.npm", keyFiles: [] };

  on(
    "are kept after a step that passed, come back as they were, and are made anew when they are old or others",
    async (subject) => {
      const failed = await run(subject, { id: "0", script: ["mkdir node_modules", "exit 1"], caches: [node] });
      expect(failed.remarks.join()).not.toMatch(/cache node: kept/);
      const script = [
        "test ! -e node_modules && mkdir -p node_modules/a ~/.npm/x",
        "echo 1 > node_modules/a/i.js; echo 2 > ~/.npm/x/y; chmod 700 ~/.npm",
      ];
      const first = await run(subject, { script, caches: [node, home] });
      expect(first.remarks.filter((text) => /^cache (node|npm): kept/.test(text))).toHaveLength(2);
      const again = ["cat node_modules/a/i.js ~/.npm/x/y", "stat -c %a ~/.npm", "echo changed > node_modules/a/i.js"];
      const second = await run(subject, { id: "2", script: again, caches: [node, home] });
      expect(second.said).toEqual(expect.arrayContaining(["1", "2", "700"]));
      expect(second.remarks.filter((text) => /^cache (node|npm): restored/.test(text))).toHaveLength(2);
      const late = await subject.open({ now: () => Date.now() + 8 * DAY_MS });
      const old = await run(subject, { id: "3", script: ["test ! -e node_modules"], caches: [node] }, late);
      expect(old.remarks).toContain("cache node: older than 7 days, made anew");
      expect(old.outcome.status).toBe("passed");
      await writeFile(join(subject.repositoryDir, "package-lock.json"), '{"new":true}\n');
      subject.context.commit = await commitAll(subject.repositoryDir, "other lock");
      const gone = { ...node, name: "gone", keyFiles: ["none"] };
      const other = await run(subject, { id: "4", script: ["test ! -e node_modules"], caches: [node, gone] });
      expect(other.outcome.status).toBe("passed");
      expect(other.remarks).toEqual(
        expect.arrayContaining([
          "cache node: nothing kept yet",
          "cache gone: none of its key files exists, so it is not used",
        ]),
      );
    },
  );
});
