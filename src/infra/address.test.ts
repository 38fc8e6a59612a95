import { describe, expect, it } from "vitest";
import { matchesAddress, splitAddress } from "./address.ts";

describe("matchesAddress", () => {
  it.each([
    ["aws_db_instance.*", "aws_db_instance.main"],
    ["aws_db_instance.*", "aws_db_instance.main[0]"],
    ["aws_db_instance.*", 'module.shop["a.b"].aws_db_instance.main'],
    ["aws_db_instance", "module.x.module.y.aws_db_instance.main"],
    ["aws_db_*", "aws_db_subnet_group.main"],
    ["aws_db_instance.main", 'aws_db_instance.main["eu.west"]'],
    ["aws_db_instance.main[0]", "aws_db_instance.main[0]"],
    ["module.db", "module.db.aws_vpc.main"],
    ["module.db", 'module.db["x"].aws_vpc.main'],
    ["module.db.*", "module.db.module.inner.aws_vpc.main[2]"],
    ["module.inner", "module.db.module.inner.aws_vpc.main"],
    ["module.*.aws_vpc.main", 'module.db["x"].aws_vpc.main'],
    ["shipway_backing.*", "shipway_backing.db"],
    ["*", "anything.at_all"],
  ])("%s is about %s", (rule, address) => {
    expect(matchesAddress(rule, address)).toBe(true);
  });

  it.each([
    ["aws_db_instance.*", "aws_db_instance_role_association.main"],
    ["aws_db_instance", "aws_db_instance_x.main"],
    ["aws_db_instance.main[0]", "aws_db_instance.main[1]"],
    ["aws_db_instance.main", "aws_db_instance.mainframe"],
    ["module.db", "module.database.aws_vpc.main"],
    ["module.db[0]", "module.db[1].aws_vpc.main"],
    ["main", "aws_vpc.main"],
    ["", "aws_vpc.main"],
  ])("%j is not about %s", (rule, address) => {
    expect(matchesAddress(rule, address)).toBe(false);
  });

  it("answers a hostile rule at once", () => {
    const startedAt = Date.now();
    expect(matchesAddress(`${"*a".repeat(200)}b`, `x.${"a".repeat(5_000)}`)).toBe(false);
    expect(Date.now() - startedAt).toBeLessThan(1_000);
  });
});

describe("splitAddress", () => {
  it.each([
    ["aws_ecs_service.web", "aws_ecs_service.web", ""],
    ["aws_ecs_service.web.desired_count", "aws_ecs_service.web", "desired_count"],
    ['module.a["x.y"].aws_vpc.main["k.z"].tags.team', 'module.a["x.y"].aws_vpc.main["k.z"]', "tags.team"],
    ["aws_sg.x.ingress[0].from_port", "aws_sg.x", "ingress[0].from_port"],
    ["data.aws_ami.x.id", "data.aws_ami.x", "id"],
    ['a.b["say \\"x.y\\""].c', 'a.b["say \\"x.y\\""]', "c"],
  ])("parts %s", (text, address, path) => {
    expect(splitAddress(text)).toEqual({ address, path });
  });

  it.each(["aws_vpc", "module.a.aws_vpc", "", "a..b", "module.a"])("finds no resource in %j", (text) => {
    expect(splitAddress(text)).toBeUndefined();
  });
});
