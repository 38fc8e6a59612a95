import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CliContext } from "../context.ts";
import type { Check } from "../doctor.ts";
import { newTestCli, type TestCli } from "../testing.ts";

const SPEC = `
app: shop
services:
  web: { build: {}, port: 3000 }
environments:
  production:
    runtime: ecs
    aws:
      region: us-east-1
      cluster: shop
      listener: arn:aws:elasticloadbalancing:us-east-1:123456789012:listener/app/shop/0123456789abcdef/0123456789abcdef
      subnets: [subnet-0000000a]
      securityGroups: [sg-0000000a]
      executionRole: arn:aws:iam::123456789012:role/exec
      scheme: http
`;

let cli: TestCli;
beforeAll(async () => {
  cli = await newTestCli();
  await writeFile(join(cli.dir, "shipway.yml"), SPEC);
});
afterAll(() => cli.close());

const ok: Check = { name: "credentials", status: "ok", found: "arn:aws:iam::123456789012:role/shipway" };
const flip: Check = { name: "flip", status: "ok", found: "from 90 ms on", figures: { firstNewMs: 90 } };
const swept: Check = { name: "sweep", status: "ok", found: "nothing" };

const run = async (
  argv: string[],
  {
    looked = [ok],
    tried = [flip, swept],
    ...changes
  }: Partial<CliContext> & { looked?: Check[]; tried?: Check[] } = {},
) => {
  const images: string[] = [];
  const actions: CliContext["actions"] = {
    up: async () => 0,
    demo: async () => 0,
    doctor: async () => [],
    doctorAws: async () => looked,
    smokeAws: async (_needs, { image, onLine, onProgress }) => {
      images.push(image);
      onProgress("starting r1");
      for (const check of tried) onLine(check);
      return tried;
    },
  };
  return { ...(await cli.run(["doctor", "aws", "--smoke", ...argv], { actions, ...changes })), images };
};

describe("shipway doctor aws --smoke", () => {
  it("is explained line by line in the documentation, and the table of what was checked names no other line", async () => {
    const { SMOKE_LINES } = await import("./run-smoke.ts");
    const docs = await readFile(join(import.meta.dirname, "../../../docs/aws.md"), "utf8");
    const [, section = ""] = /## Trying the account\n([\s\S]*?)\n## /.exec(docs) ?? [];
    const explained = [...section.matchAll(/^\| ([a-z ]+) \| /gm)]
      .map(([, name]) => name)
      .filter((name) => name !== "line");
    expect(explained).toEqual(SMOKE_LINES);
    const [, table = ""] = /## What has been checked against what\n([\s\S]*)$/.exec(docs) ?? [];
    const named = [...table.matchAll(/[^*]\*([a-z ]+)\*/g)].map(([, name]) => name);
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter((name) => !SMOKE_LINES.includes(name ?? ""))).toEqual([]);
  });

  it("says what it does, how long it takes and what it costs, and shows each line as it is known", async () => {
    const { code, out, err, images } = await run(["--yes"]);
    expect(code).toBe(0);
    expect(images).toEqual(["node:20-bookworm-slim"]);
    expect(out).toMatch(/✓ credentials +arn[\s\S]*✓ flip +from 90 ms on\n✓ sweep +nothing\n$/);
    expect(err).toMatch(
      /in the cluster shop \(us-east-1\)[\s\S]*10 to 15 minutes and costs about \$0\.02 at list prices/,
    );
    expect(err).toMatch(/… starting r1\nAll 2 held on this account\./);
  });

  it("gives all checks and what was measured as JSON", async () => {
    const { out } = await run(["--yes", "--json"]);
    expect(JSON.parse(out)).toEqual([ok, flip, swept]);
  });

  it("begins only when somebody says so", async () => {
    const nobody = await run([]);
    expect([nobody.code, nobody.images]).toEqual([2, []]);
    expect(nobody.err).toContain("shipway doctor aws --smoke --yes");
    const isTTY = { in: true, out: false, err: false };
    expect((await run([], { isTTY, confirm: async () => false })).images).toEqual([]);
    expect((await run(["--image", "x/node:1"], { isTTY, confirm: async () => true })).images).toEqual(["x/node:1"]);
  });

  it("tries nothing where the look has found something to fix, unless a person insists", async () => {
    const looked: Check[] = [ok, { name: "cluster", status: "fail", found: "there is none", fix: "Make one." }];
    const { code, err, images } = await run(["--yes"], { looked });
    expect([code, images]).toEqual([1, []]);
    expect(err).toContain("fix what is marked first");
    const isTTY = { in: true, out: false, err: false };
    expect((await run(["--yes"], { looked, isTTY, confirm: async () => true })).images).toHaveLength(1);
  });

  it("exits 1 for what did not hold, and 130 for what was interrupted", async () => {
    const failed: Check = { name: "flip", status: "fail", found: "3 of 900 requests failed: 3 × 502" };
    expect(await run(["--yes"], { tried: [failed, swept] })).toMatchObject({
      code: 1,
      err: expect.stringContaining("1 of 2 did not hold"),
    });
    const skipped: Check = { name: "flip", status: "skip", found: "interrupted" };
    const cut = await run(["--yes"], { tried: [skipped, swept], interrupted: AbortSignal.abort() });
    expect(cut.code).toBe(130);
    expect(cut.out).toContain("– flip");
  });

  it.each([
    [["doctor", "--smoke"], "--smoke: only with aws"],
    [["doctor", "aws", "--image", "node:22"], "--image: only with --smoke"],
    [["doctor", "aws", "--yes"], "--yes: only with --smoke"],
  ])("refuses %j", async (argv, text) => {
    const { code, err } = await cli.run(argv);
    expect(code).toBe(2);
    expect(err).toContain(text);
  });
});
