import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkProject } from "./check-project.ts";
import { adaptToEcs, type EcsWay } from "./demo-aws-infra.ts";
import { requirePrograms } from "./demo-aws-programs.ts";

const ROOT = join(import.meta.dirname, "../..");

describe("the sample product, moved to ECS for the demo", () => {
  let checkout: string;
  beforeEach(async () => {
    checkout = await mkdtemp(join(tmpdir(), "shipway-demo-test-"));
    const isOurs = (path: string) => !path.includes("node_modules");
    await cp(join(ROOT, "examples/launches"), checkout, {
      recursive: true,
      filter: (path) => isOurs(path.slice(ROOT.length)),
    });
  });
  afterEach(() => rm(checkout, { recursive: true, force: true }));

  const adapt = async (way: EcsWay) => {
    const said = await adaptToEcs({ projectDir: ROOT, checkout, app: "launches", host: "launches.localhost" }, way);
    const { problems, notes } = await checkProject(checkout, { refKind: "branch", refName: "main" });
    return { said: said.join("\n"), problems, notes };
  };

  it("is what a push takes, with Terraform: its code is there and declares every output that is read", async () => {
    const { said, problems, notes } = await adapt({ by: "terraform", env: { AWS_REGION: "eu-central-1" } });
    expect({ problems, notes }).toEqual({ problems: [], notes: [] });
    expect(said).toContain("modules/aws-fargate");
    const main = await readFile(join(checkout, "infra/main.tf"), "utf8");
    const source = /source = "(\.[^"]+)"/.exec(main)?.[1] ?? "";
    expect(await readFile(join(checkout, "infra", source, "outputs.tf"), "utf8")).toContain('output "listener_arn"');
  });

  it("is what a push takes, without: settings are written down, and addresses with passwords are secrets", async () => {
    const settings = {
      region: "eu-central-1",
      cluster: "one",
      listener:
        "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/one/0123456789abcdef/0123456789abcdef",
      subnets: ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
      securityGroups: ["sg-0123456789abcdef0"],
      executionRole: "arn:aws:iam::123456789012:role/exec",
    };
    const backing = { DB_URL: "mysql://app:correct-horse@db/app", CACHE_URL: "rediss://cache" };
    const { problems, notes } = await adapt({ by: "settings", settings, backing });
    expect({ problems, notes }).toEqual({ problems: [], notes: [] });
    expect(await readFile(join(checkout, "shipway.yml"), "utf8")).not.toContain("correct-horse");
  });
});

describe("the demo on ECS where its programs are missing", () => {
  it("ends with a sentence that names each and the command that gets it", async () => {
    await expect(requirePrograms({ PATH: "/nowhere" })).rejects.toMatchObject({
      code: "STAND_IN_MISSING",
      message: expect.stringMatching(/moto, .* and docker-registry/),
      hint: expect.stringMatching(/pip install 'moto\[server\]==5\.2\.1'.*apt-get install docker-registry/),
    });
  });
});
