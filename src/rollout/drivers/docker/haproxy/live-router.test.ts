import { describe, expect, it } from "vitest";
import { parseLiveRouter, parseProcesses, parseStat } from "./live-router.ts";

// As HAProxy 2.6.12 answers.
const LIVE = `Name: HAProxy
Pid: 14370
description: 7d3d8b0d90ef9477

1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port
3 b1 1 s1 127.0.0.1 2 0 1 1 1 15 3 4 6 0 0 0 - 7001 - 0 0 - - 0
3 b1 2 parked 10.0.0.7 0 5 1 1 1 1 0 0 14 0 0 0 - 3000 - 0 0 - - 0
3 b1 3 fails 127.0.0.1 0 0 1 1 6 8 2 0 6 0 0 0 - 7002 - 0 0 - - 0
4 proving:b1 1 new 127.0.0.1 0 12 1 1 1 1 0 0 6 0 0 0 - 7004 - 0 0 - - 0
`;

const PROCESSES = `#<PID>          <type>          <reloads>       <uptime>        <version>
14367           master          2 [failed: 1]   0d00h13m26s     2.6.12-1+deb12u4
# workers
29657           worker          0               0d00h00m01s     2.6.12-1+deb12u4
# old workers
29597           worker          1               0d00h00m15s     2.6.12-1+deb12u4
29501           worker          2               0d00h01m15s     2.6.12-1+deb12u4
# programs
`;

describe("answers of HAProxy", () => {
  it("tell what runs", () => {
    expect(parseLiveRouter(LIVE)).toEqual({
      structure: "7d3d8b0d90ef9477",
      pid: 14_370,
      servers: [
        { backend: "b1", name: "s1", address: "127.0.0.1", port: 7_001, admin: "ready", up: true },
        { backend: "b1", name: "parked", address: "10.0.0.7", port: 3_000, admin: "maint", up: false },
        { backend: "b1", name: "fails", address: "127.0.0.1", port: 7_002, admin: "ready", up: false },
        { backend: "proving:b1", name: "new", address: "127.0.0.1", port: 7_004, admin: "drain", up: false },
      ],
    });
  });

  it("tell which workers a reload replaced and that one failed", () => {
    expect(parseProcesses(PROCESSES)).toEqual({ workers: [29_657], oldWorkers: [29_597, 29_501], failedReloads: 1 });
  });

  it("keep commas and quotes of an application inside one column", () => {
    const [row] = parseStat('# pxname,svname,last_chk,scur,\nb1,s1,"said ""no"", twice",4,\n\n');
    expect(row).toMatchObject({ pxname: "b1", svname: "s1", last_chk: 'said "no", twice', scur: "4" });
  });
});
