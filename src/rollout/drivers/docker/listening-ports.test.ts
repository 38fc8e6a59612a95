import { describe, expect, it } from "vitest";
import { parseListening } from "./listening-ports.ts";

describe("parseListening", () => {
  it("reads who listens where from the kernel's table", () => {
    const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 040011AC:0BB8 010011AC:C350 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1`;
    expect(parseListening(table)).toEqual([
      { port: 8080, address: "127.0.0.1", loopbackOnly: true },
      { port: 3000, address: "0.0.0.0", loopbackOnly: false },
    ]);
  });

  it.each([
    ["00000000000000000000000000000000:0BB8", "::", false],
    ["00000000000000000000000001000000:0BB8", "::1", true],
    ["0000000000000000FFFF00000100007F:0BB8", "127.0.0.1", true],
    ["B80D0120000000000000000001000000:0BB8", "2001:db8:0:0:0:0:0:1", false],
  ])("reads %s", (local, address, loopbackOnly) => {
    const [found] = parseListening(`0: ${local} 00000000000000000000000000000000:0000 0A`);
    expect(found).toEqual({ port: 3000, address, loopbackOnly });
  });
});
