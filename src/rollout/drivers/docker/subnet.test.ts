import { describe, expect, it } from "vitest";
import {
  dynamicRange,
  formatSubnet,
  freeSubnet,
  parseSubnet,
  prefixFor,
  type Subnet,
  taskAddresses,
} from "./subnet.ts";

const subnet = (text: string): Subnet => parseSubnet(text) ?? { base: -1, prefix: -1 };

describe("freeSubnet", () => {
  it.each([
    ["the first block of an unused pool", [], "10.213.0.0/26"],
    ["the next one", ["10.213.0.0/26"], "10.213.0.64/26"],
    ["a gap", ["10.213.0.0/26", "10.213.0.128/25"], "10.213.0.64/26"],
    ["what a larger network leaves", ["10.213.0.0/24", "172.17.0.0/16"], "10.213.1.0/26"],
    ["what a network around the pool leaves: nothing", ["10.0.0.0/8"], undefined],
  ])("gives %s", (_, taken, expected) => {
    const found = freeSubnet(subnet("10.213.0.0/16"), 26, taken.map(subnet));
    expect(found && formatSubnet(found)).toBe(expected);
  });
});

describe("a subnet", () => {
  it("keeps the addresses of tasks apart from those the engine gives out", () => {
    const block = subnet("10.213.0.64/26");
    expect(formatSubnet(dynamicRange(block))).toBe("10.213.0.112/28");
    expect(taskAddresses(block)[0]).toBe("10.213.0.68");
    expect(taskAddresses(block).at(-1)).toBe("10.213.0.111");
  });

  it("is large enough for three sets of tasks", () => {
    expect([1, 14, 15, 50].map(prefixFor)).toEqual([26, 26, 25, 24]);
  });

  it("is not read from anything but IPv4 blocks", () => {
    expect(["fd00::/64", "10.1.1.1", "300.1.1.0/24", ""].map(parseSubnet)).toEqual(Array(4).fill(undefined));
  });
});
