import { expect, it } from "vitest";
import { findComplaints } from "./complaints.ts";
import { routerAddress } from "./router-address.ts";

it("finds no complaint in what HAProxy says when all went well", () => {
  const answer =
    "New server registered.\n\n\n\nno need to change the addr, port changed from '1' to '7004' by 'stats socket command'\n\n" +
    "IP changed from '10.0.0.5' to '10.0.0.6', no need to change the port by 'stats socket command'\n\nServer deleted.\n";
  expect(findComplaints(answer)).toEqual([]);
});

it.each([
  "No such server.",
  "Proxy is disabled.",
  "Already exists a server with the same name in backend.",
  "Unknown command",
])("finds the complaint %j among good answers", (complaint) => {
  expect(findComplaints(`New server registered.\n\n${complaint}\n\n`)).toEqual([complaint]);
});

it.each([
  [{ Subnet: "10.200.0.64/26" }, "10.200.0.126"],
  [{ Subnet: "10.200.0.64/26", IPRange: "10.200.0.112/28" }, "10.200.0.66"],
  [{ Subnet: "172.20.0.0/16" }, "172.20.255.254"],
  [{ Subnet: "10.0.0.0/30" }, undefined],
  [{ Subnet: "fd00::/64" }, undefined],
  [{}, undefined],
])("has in network %j the address %s", (ipam, address) => {
  expect(routerAddress(ipam)).toBe(address);
});
