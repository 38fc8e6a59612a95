import { describe, expect, it } from "vitest";
import { errorCode, fail } from "../../../shared/errors.ts";
import { asking, askingUnless, toDockerError } from "./docker-errors.ts";

describe("toDockerError", () => {
  const cases: [string, unknown, string, RegExp][] = [
    [
      "a socket that is not there",
      { code: "ENOENT", message: "connect ENOENT /var/run/docker.sock" },
      "DOCKER_UNREACHABLE",
      /Starting web/,
    ],
    ["a refused connection", { code: "ECONNREFUSED", message: "connect" }, "DOCKER_UNREACHABLE", /does not answer/],
    ["a full disk", engine(500, "mkdir /var/lib/docker/x: no space left on device"), "DISK_FULL", /no space is left/],
    [
      "a port that is taken",
      engine(
        500,
        "driver failed programming external connectivity: Bind for 0.0.0.0:8080 failed: port is already allocated",
      ),
      "PORT_IN_USE",
      /port 8080 of this machine is taken/,
    ],
    [
      "a port that another program listens on",
      engine(500, "Error starting userland proxy: listen tcp4 0.0.0.0:8080: bind: address already in use"),
      "PORT_IN_USE",
      /port 8080/,
    ],
    ["an image that is not there", engine(404, "No such image: shop:9"), "IMAGE_UNAVAILABLE", /No such image: shop:9/],
    ["anything else", engine(500, "oops"), "DOCKER_FAILED", /Starting web failed: oops/],
  ];
  it.each(cases)("gives %s its public code", (_, error, code, message) => {
    const mapped = toDockerError(error, "Starting web");
    expect(errorCode(mapped)).toBe(code);
    expect(mapped.message).toMatch(message);
  });

  it("keeps an error that has a code already", async () => {
    const known = fail("ROUTER_FAILED", { message: "no router" });
    await expect(asking("Starting web", () => Promise.reject(known))).rejects.toBe(known);
  });

  it("takes the statuses that mean done for done, and no other", async () => {
    expect(await askingUnless([304], "x", () => Promise.reject(engine(304, "already started")))).toBeUndefined();
    await expect(askingUnless([304], "x", () => Promise.reject(engine(500, "no")))).rejects.toThrow("x failed: no");
  });
});

function engine(statusCode: number, message: string) {
  return Object.assign(new Error(`(HTTP code ${statusCode})`), { statusCode, json: { message } });
}
