import { describe, expect, it } from "vitest";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { findMissingOutputs } from "./check-outputs.ts";
import { declaredOutputs } from "./declared-outputs.ts";
import { topLevelBlocks } from "./hcl-blocks.ts";

const outputsOf = (text: string, name = "main.tf") => declaredOutputs([{ name, text }]);

describe("topLevelBlocks", () => {
  it("names blocks with their labels, and nothing inside of them", () => {
    const text =
      'resource "aws_vpc" "main" {\n  tags = { output = "x" }\n  dynamic "output" { content {} }\n}\nlocals {}\n';
    expect(topLevelBlocks(text)).toEqual([
      { type: "resource", labels: ["aws_vpc", "main"] },
      { type: "locals", labels: [] },
    ]);
  });

  it.each([
    "locals {",
    "}",
    'output "a" { value = "x }',
    "/* no end",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the template is Terraform's
    'x = "${lower("a)}"\n',
    "locals { x = <<EOT\nno end",
  ])("does not judge %j", (text) => {
    expect(topLevelBlocks(text)).toBeUndefined();
  });
});

describe("declaredOutputs", () => {
  it.each<[string, string, string[]]>([
    ["one", 'output "db_url" {\n  value = 1\n}', ["db_url"]],
    ["all of a line", 'output "a" {}output "b" { value = 1 }', ["a", "b"]],
    ["a bare label", "output db_url {\n}", ["db_url"]],
    ["a brace on the next line of nothing", 'x = 1\noutput "a" {\n}', ["a"]],
    ["none in comments", '# output "a" {}\n// output "b" {}\n/* output "c" {\n} */\noutput "d" {}', ["d"]],
    ["none in texts", 'locals { x = "output \\"a\\" {" }\noutput "b" {}', ["b"]],
    [
      "none in heredocs",
      'locals {\n x = <<-EOT\n  output "a" {\n  EOT\n y = <<END\nEOT }\nEND\n}\noutput "b" {}',
      ["b"],
    ],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the template is Terraform's
    ["behind templates", 'locals { x = "${join("}", ["{"])} %{ if true }{%{ endif } $${" }\noutput "b" {}', ["b"]],
    ["with Windows' line ends", 'locals {\r\n x = <<EOT\r\n}\r\nEOT\r\n}\r\noutput "b" {\r\n}\r\n', ["b"]],
    ["behind a byte order mark", '\ufeffoutput "a" {}', ["a"]],
    ["none of a call", 'locals { x = output("a", { b = 1 }) }', []],
    ["none of a block of another type", 'module "output" {\n source = "./x"\n}\nvariable "output" {}', []],
  ])("finds %s", (_, text, expected) => {
    expect(outputsOf(text)).toEqual(expected);
  });

  it.each([
    ['{"output":{"a":{"value":1},"b":{"value":2},"//":"comment"}}', ["a", "b"]],
    ['{"output":[{"a":{}},{"b":{}}]}', ["a", "b"]],
    ['[{"output":{"a":{}}},{"locals":{}}]', ["a"]],
    ['{"resource":{"x":{"output":{}}}}', []],
    ["{", undefined],
  ])("reads JSON: %s", (text, expected) => {
    expect(outputsOf(text, "main.tf.json")).toEqual(expected);
  });

  it("joins the files of a folder, and does not judge when one cannot be read", () => {
    const files = [
      { name: "a.tf", text: 'output "a" {}' },
      { name: "b.tofu", text: 'output "b" {}' },
    ];
    expect(declaredOutputs(files)).toEqual(["a", "b"]);
    expect(declaredOutputs([...files, { name: "c.tf", text: "locals {" }])).toBeUndefined();
  });
});

describe("findMissingOutputs", () => {
  const text = [
    "app: shop",
    "services:",
    "  web: { build: {}, port: 3000, secrets: [KEY] }",
    "environments:",
    "  production:",
    "    branch: main",
    "    infra:",
    "      dir: infra",
    "      outputs:",
    "        DB_URL: db_ulr",
    "        QUEUE: queue_url",
    "        CACHE: cache",
    "  staging:",
    "    infra: { dir: infra, outputs: { X: nothing } }",
    "  account:",
    "    runtime: ecs",
    "    infra: { dir: infra }",
    "    secrets: { KEY: { output: arns.db } }",
    "  apart:",
    "    infra: { repository: platform-infra, dir: infra, outputs: { X: nothing } }",
  ].join("\n");
  const spec = parseAppSpec(text);
  const find = (environments: string[], main: string | undefined) =>
    findMissingOutputs(spec, text, environments, async () =>
      main === undefined ? undefined : [{ name: "main.tf", text: main }],
    );

  it("shows each under the user's own line, with what was meant", async () => {
    const error = await find(["production"], 'output "db_url" {}\noutput "cache" {}');
    expect(error).toMatchObject({ code: "INFRA_OUTPUT_MISSING" });
    expect(error?.message.split("\n").slice(2)).toEqual([
      'shipway.yml:10:17  infra declares no output "db_ulr": did you mean "db_url"?',
      "   10 |         DB_URL: db_ulr",
      "      |                 ^^^^^^",
      "",
      'shipway.yml:11:16  infra declares no output "queue_url": it declares db_url, cache',
      "   11 |         QUEUE: queue_url",
      "      |                ^^^^^^^^^",
    ]);
  });

  it("shows a secret's output, too, and looks for the map of an entry", async () => {
    const error = await find(["account"], 'output "arn" {}');
    expect(error?.message).toContain(':31  infra declares no output "arns": did you mean "arn"?');
    expect(await find(["account"], 'output "arns" {}')).toBeUndefined();
  });

  it("is silent where all is there, the folder is not, a file cannot be read, or the code lies elsewhere", async () => {
    expect(await find(["staging"], 'output "nothing" {}')).toBeUndefined();
    expect(await find(["production"], undefined)).toBeUndefined();
    expect(await find(["production"], "locals {")).toBeUndefined();
    expect(await find(["apart", "unknown"], "")).toBeUndefined();
    expect(await find(["staging"], "")).toMatchObject({ message: expect.stringContaining("it declares none") });
  });
});
