import { describe, expect, it } from "vitest";
import { newAnswerCounts, type WorkerRows } from "./answer-counts.ts";

const WEB = "shop.production.web";
const counts = ([ok, bad, broken]: number[]) => ({
  hrsp_2xx: String(ok),
  hrsp_4xx: String(bad),
  hrsp_5xx: String(broken),
});
const row = (pxname: string, svname: string, figures: number[], rtime = 0) => ({
  pxname,
  svname,
  rtime: String(rtime),
  ...counts(figures),
});
const worker = (pid: number, ...rows: ReturnType<typeof row>[]): WorkerRows => ({ pid, rows });

describe("the answers of tasks behind HAProxy", () => {
  it("are counted from the first look on, in the serving and the open back end, and not in the proving one", () => {
    const answers = newAnswerCounts();
    answers.add([worker(1, row(WEB, "a", [100, 10, 1]), row(`open:${WEB}`, "a", [0, 0, 0]))]);
    const { tasks } = answers.add([
      worker(
        1,
        row(WEB, "a", [130, 12, 1], 7),
        row(`open:${WEB}`, "a", [5, 0, 2], 9),
        row(`proving:${WEB}`, "a", [50, 0, 0]),
        row("outside", "FRONTEND", [500, 0, 0]),
      ),
    ]);
    expect([...tasks]).toEqual([["a", { requests: 39, answers4xx: 2, answers5xx: 2, meanMs: 9 }]]);
  });

  it("go on over a reload: the old worker's last ones and all of the new worker's", () => {
    const answers = newAnswerCounts();
    answers.add([worker(1, row(WEB, "a", [100, 0, 0]))]);
    answers.add([worker(1, row(WEB, "a", [110, 0, 0]))]);
    const both = answers.add([worker(2, row(WEB, "a", [4, 1, 0])), worker(1, row(WEB, "a", [113, 0, 0]))]);
    expect(both.tasks.get("a")).toMatchObject({ requests: 18, answers4xx: 1 });
    const one = answers.add([worker(2, row(WEB, "a", [6, 1, 0]))]);
    expect(one.tasks.get("a")).toMatchObject({ requests: 20, answers4xx: 1 });
  });

  it("begin anew with a task that went and came back, and with counters that were cleared", () => {
    const answers = newAnswerCounts();
    answers.add([worker(1, row(WEB, "a", [0, 0, 0]), row(WEB, "b", [0, 0, 0]))]);
    answers.add([worker(1, row(WEB, "a", [9, 0, 0]), row(WEB, "b", [9, 0, 0]))]);
    expect(answers.add([worker(1, row(WEB, "b", [3, 0, 0]))]).tasks.get("b")).toMatchObject({ requests: 12 });
    const back = answers.add([worker(1, row(WEB, "a", [2, 0, 0]), row(WEB, "b", [3, 0, 0]))]);
    expect(back.tasks.get("a")).toMatchObject({ requests: 2 });
  });

  it("do not have what the router answered because no task did, which is counted beside", () => {
    const answers = newAnswerCounts();
    const look = (a: number[], all: number[]) =>
      answers.add([worker(1, row(WEB, "a", a), row(WEB, "BACKEND", all))]).unanswered.get(WEB);
    look([10, 0, 3], [10, 0, 5]);
    expect(look([20, 0, 4], [20, 0, 9])).toBe(3);
    // A picture between the two counts of one answer: what was told is not taken back.
    expect(look([20, 0, 6], [20, 0, 10])).toBe(3);
    expect(look([20, 0, 6], [20, 0, 11])).toBe(3);
    expect(look([20, 0, 6], [20, 0, 12])).toBe(4);
  });
});
