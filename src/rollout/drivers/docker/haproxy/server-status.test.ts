import { describe, expect, it } from "vitest";
import type { RouterServer } from "../router.ts";
import type { StatRow } from "./live-router.ts";
import { toServerStatus } from "./server-status.ts";
import { newBackend, newServer } from "./test-backend.ts";

const B = "shop.production.web";

function row(changes: StatRow): StatRow {
  return { pxname: B, svname: "a", addr: "10.0.0.5:3000", status: "UP", scur: "0", qcur: "0", ...changes };
}

function statusOf(state: RouterServer["state"], stat: StatRow[], oldWorkers: StatRow[][] = []) {
  return toServerStatus(newBackend(), newServer("a", state), { stat, oldWorkers });
}

const proving = (changes: StatRow) => row({ pxname: `proving:${B}`, ...changes });

describe("toServerStatus", () => {
  it.each([
    ["starting", proving({ status: "DOWN", check_status: "INI" })],
    ["starting", proving({ status: "DRAIN", check_status: "INI" })],
    ["starting", proving({ status: "DOWN 1/2", check_status: "L7OK", check_code: "200" })],
    ["starting", proving({ status: "DOWN 1/2", check_status: "* L7OK", check_code: "200" })],
    ["down", proving({ status: "DOWN", check_status: "L7STS", check_code: "500" })],
    ["down", proving({ status: "DOWN", check_status: "* L4CON" })],
    ["up", proving({ status: "DRAIN", check_status: "L7OK", check_code: "200" })],
    ["up", proving({ status: "DRAIN", check_status: "* L7OK", check_code: "200" })],
    ["maint", proving({ status: "MAINT", check_status: "INI" })],
  ])("finds a task under proof %s", (operational, stat) => {
    expect(statusOf("drain", [stat])).toMatchObject({ operational });
  });

  it("is starting while the router does not know the task", () => {
    expect(statusOf("drain", [])).toMatchObject({ operational: "starting", lastCheck: "", inFlight: 0 });
  });

  it.each([
    ["HTTP 500", { check_status: "L7STS", check_code: "500", last_chk: "Internal Server Error" }],
    [
      "connection refused",
      { check_status: "L4CON", last_chk: "Connection refused at initial connection step of tcp-check" },
    ],
    ["timed out after 2.0 s", { check_status: "L7TOUT", last_chk: " at step 2 of http-check (expect status)" }],
    ["port accepts connections", { check_status: "L4OK" }],
    ["", { check_status: "INI" }],
    ["", { check_status: "L7STS", check_code: "0" }],
  ])('says "%s"', (lastCheck, changes) => {
    expect(statusOf("drain", [proving({ status: "DOWN", ...changes })])).toMatchObject({ lastCheck });
  });

  it("counts the requests that workers before a reload still have", () => {
    const old = [row({ scur: "2" }), row({ svname: "FRONTEND", pxname: "outside", scur: "2" })];
    expect(statusOf("drain", [row({ status: "DRAIN", scur: "1" })], [old])).toMatchObject({ inFlight: 3 });
  });

  it("calls a task that is served although it fails its checks down, and counts all of its requests", () => {
    const open = row({ pxname: `open:${B}`, scur: "3", stot: "30" });
    const failing = row({ status: "DOWN", check_status: "L7TOUT", scur: "1", stot: "10" });
    const old = [row({ status: "DOWN", scur: "1" }), { ...open, scur: "5" }];
    expect(statusOf("ready", [failing, open], [old])).toMatchObject({
      operational: "down",
      admin: "ready",
      lastCheck: "timed out after 2.0 s",
      inFlight: 10,
      totalRequests: 40,
    });
  });

  it("counts idle clients of a replaced worker as one request, which they may still send", () => {
    const old = [row({ scur: "0" }), row({ svname: "FRONTEND", pxname: "outside", scur: "5" })];
    expect(statusOf("drain", [row({ status: "DRAIN" })], [old])).toMatchObject({ inFlight: 1 });
    const parked = [row({ status: "MAINT" }), row({ svname: "FRONTEND", pxname: "outside", scur: "5" })];
    expect(statusOf("maint", [row({ status: "MAINT" })], [parked])).toMatchObject({ inFlight: 0 });
  });
});
