import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PROVIDER_SOURCE } from "../provider-mirror.ts";
import { terraformCli } from "./terraform-cli.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-tf-cli-"));
  // Prints the environment it gets, so that this needs no Terraform.
  await writeFile(
    join(dir, "terraform"),
    '#!/bin/sh\n[ "$1" = version ] && { echo "Terraform v1.11.4"; exit; }\nenv\n',
    {
      mode: 0o755,
    },
  );
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe("the configuration that Terraform is given", () => {
  const start = async (mirrorDir: string | undefined, own: boolean) => {
    const terraform = terraformCli({
      program: join(dir, "terraform"),
      searchPath: "/usr/bin:/bin",
      mirrorDir,
      configFile: join(dir, "infra", "terraform.rc"),
      ...(own && {
        ownProvider: {
          mirrorDir: join(dir, "providers"),
          version: "1.2.3",
          program: "/opt/provider.js",
          node: "/opt/node",
        },
      }),
    });
    const workspace = { runDir: dir, codeDir: dir, dataDir: dir, env: { SHIPWAY_PROVIDER: "/theirs", FOO: "1" } };
    const { stdout } = await terraform.run(workspace, ["plan"]);
    return { config: await readFile(join(dir, "infra", "terraform.rc"), "utf8"), env: stdout.split("\n") };
  };

  it("takes Shipway's provider from Shipway's mirror, those of the user's mirror from there, and all others from their registry", async () => {
    const mirror = join(dir, "mirror");
    await mkdir(join(mirror, "providers.example.com", "hashicorp", "aws"), { recursive: true });
    const { config, env } = await start(mirror, true);
    const aws = "providers.example.com/hashicorp/aws";
    expect(config).toContain(`  filesystem_mirror {
    path    = "${join(dir, "providers")}"
    include = ["${PROVIDER_SOURCE}"]
  }
  filesystem_mirror {
    path    = "${mirror}"
    include = ["${aws}"]
  }
  direct {
    exclude = ["${PROVIDER_SOURCE}","${aws}"]
  }`);
    expect(env).toEqual(
      expect.arrayContaining(["SHIPWAY_PROVIDER=/opt/provider.js", "SHIPWAY_PROVIDER_NODE=/opt/node", "FOO=1"]),
    );
    await readFile(
      join(dir, "providers", PROVIDER_SOURCE, "1.2.3", "linux_amd64", "terraform-provider-shipway_v1.2.3"),
    );
  });

  it("says nothing of where to look when there is nothing to say", async () => {
    expect((await start(undefined, false)).config).not.toContain("filesystem_mirror");
  });
});
