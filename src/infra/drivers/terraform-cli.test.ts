import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
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
