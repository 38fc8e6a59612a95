import { describe, expect, it } from "vitest";
import { judgeAttempt, MOST_ATTEMPTS } from "./attempts.ts";

const answered = (status: number, retryAfterMs?: number) => ({
  answer: { status, text: "", ...(retryAfterMs !== undefined && { retryAfterMs }) },
});
const NO_ANSWER = { noAnswer: "the connection was refused" };

describe("judgeAttempt", () => {
  it.each([200, 201, 204])("takes %d for delivered", (status) => {
    expect(judgeAttempt(answered(status), 1, 0.5)).toEqual({ is: "delivered" });
  });

  it.each([301, 400, 401, 403, 404, 410])("does not repeat what %d says will never be taken", (status) => {
    expect(judgeAttempt(answered(status), 1, 0.5)).toEqual({ is: "failed" });
  });

  it.each([408, 409, 425, 429, 500, 502, 503])("tries again after %d", (status) => {
    expect(judgeAttempt(answered(status), 1, 0.5)).toMatchObject({ is: "again" });
  });

  it("waits longer each time, up to ten minutes, and gives up after the last", () => {
    const delays = Array.from({ length: MOST_ATTEMPTS }, (_, index) => judgeAttempt(NO_ANSWER, index + 1, 0.5));
    expect(delays.map((one) => (one.is === "again" ? one.inMs / 1_000 : one.is))).toEqual([
      ...[2, 8, 32, 128, 512, 600, 600],
      "failed",
    ]);
  });

  it("spreads the waiting by a quarter to both sides", () => {
    expect(judgeAttempt(NO_ANSWER, 1, 0)).toEqual({ is: "again", inMs: 1_500 });
    expect(judgeAttempt(NO_ANSWER, 1, 0.999_99)).toEqual({ is: "again", inMs: 2_500 });
  });

  it("waits as long as the receiver asks for, within the limit", () => {
    expect(judgeAttempt(answered(429, 30_000), 1, 0.5)).toEqual({ is: "again", inMs: 30_000 });
    expect(judgeAttempt(answered(429, 86_400_000), 1, 0.5)).toEqual({ is: "again", inMs: 600_000 });
  });
});
