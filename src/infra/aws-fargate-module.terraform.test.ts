import { spawnSync } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runProgram } from "../shared/run-program.ts";
import { AWS_MIRROR, describeWithAws, type Moto, startMoto } from "./moto-testing.ts";

const ROOT = join(import.meta.dirname, "../..");
const hasTerraform = spawnSync("terraform", ["version"], { stdio: "ignore" }).status === 0;

describe.skipIf(!hasTerraform)("Terraform code that users copy (with the real Terraform)", () => {
  it("is formatted as Terraform formats it", async () => {
    for (const dir of ["terraform", "examples"]) {
      const { stdout } = await runProgram(["terraform", "fmt", "-check", "-recursive", "-diff", join(ROOT, dir)]);
      expect(stdout).toBe("");
    }
  });
});

describeWithAws("terraform/aws-fargate, planned in each of its forms", () => {
  let dir: string;
  let moto: Moto;
  let env: NodeJS.ProcessEnv;
  const terraform = (...args: string[]) => runProgram(["terraform", ...args, "-no-color"], { cwd: dir, env });

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "shipway-module-"));
    await cp(join(ROOT, "terraform/aws-fargate"), dir, {
      recursive: true,
      filter: (path) => !path.includes(".terraform"),
    });
    const config = join(dir, "terraform.rc");
    await writeFile(config, `provider_installation {\n  filesystem_mirror {\n    path = "${AWS_MIRROR}"\n  }\n}\n`);
    moto = await startMoto();
    env = { PATH: process.env.PATH, HOME: dir, TF_CLI_CONFIG_FILE: config, ...moto.env };
    await terraform("init", "-input=false");
  }, 180_000);
  afterAll(async () => {
    await moto?.close();
    await rm(dir, { recursive: true, force: true });
  });

  it("is valid", async () => {
    expect((await terraform("validate")).stdout).toContain("The configuration is valid.");
  }, 120_000);

  it("plans what each input promises, and refuses values that cannot work", async () => {
    const runs = (await readFile(join(dir, "tests/plan.tftest.hcl"), "utf8")).match(/^run "/gm) ?? [];
    expect((await terraform("test")).stdout).toContain(`Success! ${runs.length} passed, 0 failed.`);
  }, 300_000);

  it("keeps a password out of the state that is to be without", async () => {
    const only = ["-target=aws_secretsmanager_secret_version.password", "-var=passwords_in_outputs=false"];
    const backing = '-var=backing={ db = { engine = "mariadb" } }';
    await terraform("apply", "-input=false", "-auto-approve", backing, ...only);
    const { SecretString } = await moto.aws<{ SecretString: string }>(
      "secretsmanager",
      "get-secret-value",
      "--secret-id",
      "shipway-backing/db/password",
    );
    expect(SecretString).toHaveLength(40);
    const state = await readFile(join(dir, "terraform.tfstate"), "utf8");
    expect(state).toContain("aws_secretsmanager_secret_version");
    expect(state).not.toContain(SecretString);
  }, 120_000);

  it("says of every value that cannot work what would do", async () => {
    const wrong = {
      name: "acme",
      cidr: "10.0.0.0/24",
      domain: "apps.example.com",
      driver_principals: '["*"]',
      backing: '{ db = { engine = "oracle" } }',
    };
    const refused = await terraform(
      "plan",
      "-input=false",
      ...Object.entries(wrong).flatMap(([name, value]) => ["-var", `${name}=${value}`]),
    ).then(
      () => "planned",
      (error: Error) => String(error.cause),
    );
    for (const message of [
      'name must be "shipway" or begin with "shipway-"',
      "cidr must be an IPv4 range of size /16 to /20",
      "For a domain kept elsewhere give certificate_arn",
      'a whole account or "*" is refused',
      "engine in backing must be mariadb, mysql, postgres, redis or valkey",
    ]) {
      expect(unwrapped(refused)).toContain(message);
    }
  }, 120_000);
});

/** Terraform breaks its messages into lines of the terminal's width and draws a border beside them, which falls between words. */
const unwrapped = (text: string): string => text.replace(/\s+│?\s*/g, " ");
