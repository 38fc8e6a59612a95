import { describe, expect, it } from "vitest";
import { parseListening } from "./service-readiness.ts";

describe("parseListening", () => {
  it("finds listening ports on any address, IPv4 and IPv6, and not established connections", () => {
    const table = [
      "  sl  local_address rem_address   st tx_queue",
      "   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000",
      "   1: 0100007F:A1B2 0100007F:0CEA 01 00000000:00000000",
      "   0: 00000000000000000000000000000000:18EB 00000000000000000000000000000000:0000 0A 0",
    ].join("\n");
    expect([...parseListening(table)]).toEqual([3306, 6379]);
  });
});
