import { chmod, mkdir, mkdtemp, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { until } from "../../shared/until.ts";
import { terraformCli } from "./terraform-cli.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-programs-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** A program that says its version as Terraform and OpenTofu do; what it cannot show is how an OpenTofu plans. */
async function install(folder: string, name: string, product: string, version: string): Promise<string> {
  await mkdir(join(dir, folder), { recursive: true });
  const path = join(dir, folder, name);
  const json = `{"terraform_version": "${version}", "platform": "linux_amd64"}`;
  await writeFile(
    path,
    `#!/bin/sh\nif [ "$2" = -json ]; then echo '${json}'; else echo '${product} v${version}'; fi\n`,
  );
  await chmod(path, 0o755);
  return path;
}

const cli = (program?: string) =>
  terraformCli({
    program,
    searchPath: `${join(dir, "one")}:${join(dir, "two")}:/bin`,
    mirrorDir: undefined,
    configFile: join(dir, "config", "terraform.rc"),
  });

describe("the program that runs infrastructure", () => {
  it("is terraform before tofu, wherever on the path they are", async () => {
    await install("one", "tofu", "OpenTofu", "1.8.1");
    await install("two", "terraform", "Terraform", "1.11.4");
    expect(await cli().program()).toEqual({ product: "Terraform", version: "1.11.4" });
  });

  it("is tofu where there is no terraform that can be run", async () => {
    await install("one", "tofu", "OpenTofu", "1.8.1");
    await mkdir(join(dir, "two", "terraform"), { recursive: true });
    expect(await cli().program()).toEqual({ product: "OpenTofu", version: "1.8.1" });
  });

  it("is the one that was named, also under another name", async () => {
    await install("one", "terraform", "Terraform", "1.11.4");
    const named = await install("elsewhere", "tf", "OpenTofu", "1.9.0");
    expect(await cli(named).program()).toEqual({ product: "OpenTofu", version: "1.9.0" });
  });

  it("is missed with what to install, and found once it is there", async () => {
    const terraform = cli();
    await expect(terraform.program()).rejects.toMatchObject({
      code: "TERRAFORM_MISSING",
      message: "Neither terraform nor tofu is on the PATH of Shipway.",
      hint: expect.stringMatching(/Terraform 1\.5 or later .* or OpenTofu/),
    });
    await install("one", "tofu", "OpenTofu", "1.8.1");
    expect(await terraform.program()).toMatchObject({ product: "OpenTofu" });
  });

  it("is not one that does not say its version", async () => {
    const named = join(dir, "odd");
    await writeFile(named, "#!/bin/sh\necho hello\n");
    await chmod(named, 0o755);
    await expect(cli(named).program()).rejects.toMatchObject({ code: "TERRAFORM_MISSING" });
  });
});

describe("a command that outlives us", () => {
  const workspace = () => ({ runDir: dir, codeDir: dir, dataDir: join(dir, "data"), env: {} });
  /** Says its arguments, then stays until it is killed. */
  async function installLasting(): Promise<string> {
    const path = join(dir, "lasting");
    await writeFile(path, '#!/bin/sh\necho "$@"\nexec sleep 60\n');
    await chmod(path, 0o755);
    return path;
  }

  it("is known to another life from the moment it runs, with the arguments as they were given", async () => {
    const program = await installLasting();
    await cli(program).start(workspace(), "apply", ["apply", "-var=a=$(id) 'b'"]);
    const other = cli(program);
    expect(await other.state(workspace(), "apply")).toBe("running");
    await until("its output", async () => (await other.output(workspace(), "apply")).length > 0);
    expect(await other.output(workspace(), "apply")).toEqual([`-chdir=${dir} apply -var=a=$(id) 'b'`]);
    await other.kill(workspace(), "apply");
    await until("its end", async () => (await other.state(workspace(), "apply")) === "gone");
  });

  it("never started when we were killed before it ran, and starts then", async () => {
    const program = await installLasting();
    const out = join(dir, "apply.jsonl");
    await writeFile(out, "");
    await utimes(out, new Date(0), new Date(0));
    const terraform = cli(program);
    expect(await terraform.state(workspace(), "apply")).toBe("never started");
    await terraform.start(workspace(), "apply", ["apply"]);
    expect(await cli(program).state(workspace(), "apply")).toBe("running");
    await terraform.kill(workspace(), "apply");
    await until("its end", async () => (await cli(program).state(workspace(), "apply")) === "gone");
  });

  it("is not started a second time", async () => {
    const program = await installLasting();
    await cli(program).start(workspace(), "apply", ["apply"]);
    await expect(cli(program).start(workspace(), "apply", ["apply"])).rejects.toThrow(/EEXIST/);
    await cli(program).kill(workspace(), "apply");
    expect(JSON.parse(await readFile(join(dir, "apply.pid"), "utf8"))).toMatchObject({ pid: expect.any(Number) });
  });
});
