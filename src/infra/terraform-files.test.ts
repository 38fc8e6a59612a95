import { describe, expect, it } from "vitest";
import { checkFiles } from "./check-files.ts";
import {
  declaredBackends,
  filesRead,
  initInputs,
  localModuleDirs,
  meetsConstraint,
  requiredVersions,
} from "./terraform-files.ts";

const TERRAFORM = { product: "Terraform", version: "1.11.4" } as const;
const TOFU = { product: "OpenTofu", version: "1.8.1" } as const;
const file = (text: string, name = "main.tf") => [{ name, text }];

describe("meetsConstraint", () => {
  it.each([
    ["1.11.4", ">= 1.5", true],
    ["1.4.9", ">= 1.5", false],
    ["1.11.4", ">= 1.5, < 1.11", false],
    ["1.11.4", "~> 1.3", true],
    ["2.0.0", "~> 1.3", false],
    ["1.3.9", "~> 1.3.2", true],
    ["1.4.0", "~> 1.3.2", false],
    ["1.11.4", "1.11.4", true],
    ["1.11.4", "= 1.11.3", false],
    ["1.11.4", "!= 1.11.4", false],
    ["1.11.4", "> 1.11.3", true],
    ["1.12.0-beta1", ">= 1.12", true],
    ["1.11.4", "something new", true],
  ])("%s meets %s: %s", (version, constraint, met) => {
    expect(meetsConstraint(version, constraint)).toBe(met);
  });
});

describe("what Terraform files say", () => {
  it("is not read from comments", () => {
    const text =
      '# required_version = "0.1"\n/* backend "s3" {} */\nterraform { required_version = ">= 1.0" } // cloud {\n';
    expect(requiredVersions(file(text))).toEqual([{ file: "main.tf", constraint: ">= 1.0" }]);
    expect(declaredBackends(file(text))).toEqual([]);
  });

  it("keeps a # inside quotes", () => {
    expect(requiredVersions(file('locals { x = "a # b" }\nterraform { required_version = "1.2.3" }'))).toHaveLength(1);
  });

  it.each([
    ['terraform {\n  backend "s3" {\n    bucket = "x"\n  }\n}', "main.tf", "s3"],
    ['{"terraform":{"backend":{"gcs":{}}}}', "main.tf.json", "gcs"],
    ["terraform {\n  cloud {\n  }\n}", "main.tf", "cloud"],
  ])("names the backend of %j", (text, name, type) => {
    expect(declaredBackends(file(text, name))).toEqual([{ file: name, type, isOverride: false }]);
  });

  it("does not take a resource's attribute for a backend", () => {
    const text = 'resource "x" "y" {\n  backend = "s3"\n  cloud = true\n}\nresource "a" "backend" {}\n';
    expect(declaredBackends(file(text))).toEqual([]);
  });
});

describe("filesRead", () => {
  const names = ["main.tf", "main.tofu", "db.tf", "x.tofu.json", "x.tf.json", "readme.md", "a.tfvars"];

  it.each([
    [TERRAFORM, ["main.tf", "db.tf", "x.tf.json"]],
    [{ ...TOFU, version: "1.7.9" }, ["main.tf", "db.tf", "x.tf.json"]],
    [TOFU, ["main.tofu", "db.tf", "x.tofu.json"]],
  ])("are, for %o, %j", (program, read) => {
    expect(filesRead(names, program)).toEqual(read);
  });
});

describe("localModuleDirs", () => {
  it("are the relative sources, seen from the root of the repository, and none outside of it", () => {
    const text = `module "a" { source = "./modules/a" }
      module "b" {
        source  = "../shared/b/"
      }
      module "c" { source = "hashicorp/consul/aws" }
      # module "d" { source = "./d" }
      module "e" { source = "../../e" }`;
    const json = { name: "f.tf.json", text: '{"module": {"f": {"source": "./modules/f"}}}' };
    expect(localModuleDirs([...file(text), json], "infra")).toEqual(["infra/modules/a", "shared/b", "infra/modules/f"]);
  });
});

describe("checkFiles", () => {
  const check = (text: string, name?: string) => checkFiles(file(text, name), "infra", TERRAFORM, "1234567890");

  it("leaves a shared backend to the repository and keeps the state itself where none is named", () => {
    expect(check("")).toEqual({ type: "shipway" });
    expect(check('terraform {\n backend "s3" {}\n}')).toEqual({ type: "s3", file: "main.tf" });
  });

  it.each([
    ['terraform { backend "local" {} }', "main.tf", /would be lost/],
    ['terraform { backend "http" {} }', "zzzzz_override.tf", /override file/],
    ["terraform { cloud {} }", "main.tf", /another service/],
    ['terraform { required_version = "< 1.0" }', "main.tf", /infra\/main\.tf wants Terraform < 1\.0/],
  ])("refuses %s in %s", (text, name, reason) => {
    expect(() => check(text, name)).toThrow(reason);
  });

  it("holds local modules to their required_version, too, and names the program that runs", () => {
    const modules = [{ name: "modules/db/versions.tofu", text: 'terraform { required_version = "~> 1.9" }' }];
    expect(() => checkFiles(file("", "main.tofu"), "infra", TOFU, "1234567890", modules)).toThrow(
      "modules/db/versions.tofu wants OpenTofu ~> 1.9, but this Shipway runs 1.8.1.",
    );
  });

  it("says so when there is nothing to run", () => {
    expect(() => checkFiles([], "infra", TERRAFORM, "1234567890")).toThrow("no Terraform files in infra at 1234567");
  });
});

describe("what init looks at", () => {
  const main = (text: string) => initInputs([{ name: "main.tf", text }]);
  const BASE = `terraform {
  required_providers { aws = { source = "hashicorp/aws", version = "~> 5.0" } }
}
module "net" {
  source = "./net"
  size   = 1
}
resource "aws_vpc" "a" { cidr = "{" }
`;
  it.each([
    ["a value", BASE.replace("size   = 1", "size   = 2")],
    ["another resource of a provider that is used", `${BASE}resource "aws_subnet" "b" {}\n`],
    ["a comment", BASE.replace("module", "# terraform { }\nmodule")],
    ["white space", BASE.replace("  required", "\n      required")],
    ["the order", `resource "aws_vpc" "a" { cidr = "{" }\n${BASE.split("resource")[0]}`],
  ])("is not %s", (_what, text) => expect(main(text)).toBe(main(BASE)));
  it.each([
    ["a version of a provider", BASE.replace("5.0", "6.0")],
    ["where a module comes from", BASE.replace("./net", "./other")],
    ["another module", `${BASE}module "dns" { source = "./net" }`],
    ["a provider that is used without being named", `${BASE}resource "random_id" "x" {}\n`],
    ["one that only reads", `${BASE}data "http" "x" {}\n`],
    ["the backend", BASE.replace("terraform {", 'terraform {\n  backend "s3" { bucket = "a" }')],
  ])("is %s", (_what, text) => expect(main(text)).not.toBe(main(BASE)));
  it("is every file in JSON", () => {
    const json = (text: string) => initInputs([{ name: "a.tf.json", text }]);
    expect(json("{}")).not.toBe(json('{"a":1}'));
  });
});
