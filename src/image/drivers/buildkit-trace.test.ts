import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeBuildTrace } from "./buildkit-trace.ts";

/** Lines of a real build (Docker Engine 20.10): a step begins, prints, fails. */
const RECORDED = {
  began:
    "Cs4BCkdzaGEyNTY6NjNiZmFkMjAwZTdlOWNlNWViMDkxZjY1MjA3YTg5NDI1NmRhMjdjOTRiZjcwNjk0ZjgxMzYwOGVjYTczNmQ4MBJHc2hhMjU2OjllMjE0N2E0ZTg1YzA1ZDg2MzBmNzQ4OGYyZjllNWI2MDZhNDY0MjA1ZGI5ODhmYWU5MWM4N2E4MmIyMzA1MDQaLFtzdGFnZS0xIDUvNV0gUlVOIGVjaG8gb25lOyBlY2hvIHR3bzsgZXhpdCAzKgwIm6mO2AYQiJP0igE=",
  printed:
    "Gl8KR3NoYTI1NjphNTM3OGFkZDVmYWRjMjk4YzI4M2Y0OTA5ZGY5NDVkZjUzYmJiYjFiNTgxN2E3MjMyYjY1MWFiMzlmZGFjNTlmEgwImamO2AYQuMLxywIYAiIEZXJyCg==",
  failed:
    "CqsCCkdzaGEyNTY6NjNiZmFkMjAwZTdlOWNlNWViMDkxZjY1MjA3YTg5NDI1NmRhMjdjOTRiZjcwNjk0ZjgxMzYwOGVjYTczNmQ4MBJHc2hhMjU2OjllMjE0N2E0ZTg1YzA1ZDg2MzBmNzQ4OGYyZjllNWI2MDZhNDY0MjA1ZGI5ODhmYWU5MWM4N2E4MmIyMzA1MDQaLFtzdGFnZS0xIDUvNV0gUlVOIGVjaG8gb25lOyBlY2hvIHR3bzsgZXhpdCAzKgwIm6mO2AYQiJP0igEyDAibqY7YBhDk/p+nAjpNZXhlY3V0b3IgZmFpbGVkIHJ1bm5pbmcgWy9iaW4vc2ggLWMgZWNobyBvbmU7IGVjaG8gdHdvOyBleGl0IDNdOiBleGl0IGNvZGU6IDM=",
};

describe("decodeBuildTrace", () => {
  it("reads a step that began", () => {
    const { vertexes, logs } = decodeBuildTrace(RECORDED.began);
    expect(logs).toEqual([]);
    expect(vertexes).toMatchObject([{ name: "[stage-1 5/5] RUN echo one; echo two; exit 3", cached: false }]);
    expect(vertexes[0]?.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(new Date(vertexes[0]?.startedAt ?? 0).getUTCFullYear()).toBe(2026);
    expect(vertexes[0]?.completedAt).toBeUndefined();
  });

  it("reads what a step printed, with its stream", () => {
    const { logs } = decodeBuildTrace(RECORDED.printed);
    expect(logs.map(({ stream, chunk }) => [stream, chunk.toString()])).toEqual([["err", "err\n"]]);
  });

  it("reads a step that failed, with its error and how long it took", () => {
    const [vertex] = decodeBuildTrace(RECORDED.failed).vertexes;
    expect(vertex?.error).toBe("executor failed running [/bin/sh -c echo one; echo two; exit 3]: exit code: 3");
    expect((vertex?.completedAt ?? 0) - (vertex?.startedAt ?? 0)).toBeGreaterThan(10);
  });

  it("skips fields it does not know, of every wire type", () => {
    const unknown = [0x20, 0x01, 0x29, 1, 2, 3, 4, 5, 6, 7, 8, 0x32, 2, 9, 9, 0x3d, 1, 2, 3, 4];
    expect(decodeBuildTrace(Buffer.from(unknown).toString("base64"))).toEqual({ vertexes: [], logs: [] });
  });

  it("either reads any bytes or throws an Error, and always ends", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeBuildTrace(Buffer.from(bytes).toString("base64"));
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
    );
  });
});
