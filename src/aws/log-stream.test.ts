import { describe, expect, it } from "vitest";
import { newLogStreamReader } from "./log-stream.ts";

const messages = async (reader: ReturnType<typeof newLogStreamReader>) =>
  (await reader.next()).map(({ message }) => message);

describe("a stream of CloudWatch", () => {
  /** Pages as GetLogEvents gives them: the token of the last one leads to itself. */
  const streamOf = (pages: string[][]) => {
    const asked: (string | undefined)[] = [];
    const getLogEvents = async ({ nextToken }: { nextToken?: string }) => {
      asked.push(nextToken);
      const index = nextToken === undefined ? 0 : Number(nextToken);
      const events = (pages[index] ?? []).map((message) => ({ message }));
      return { events, nextForwardToken: String(Math.min(index + 1, pages.length)) };
    };
    return { asked, logs: { getLogEvents } as never };
  };

  it("gives what is new at each look", async () => {
    const pages = [["a", "b"], ["c"]];
    const { logs } = streamOf(pages);
    const reader = newLogStreamReader({ logs }, { group: "g", stream: "s" });
    expect(await messages(reader)).toEqual(["a", "b", "c"]);
    expect(await messages(reader)).toEqual([]);
    pages.push(["d"]);
    expect(await messages(reader)).toEqual(["d"]);
  });

  it("goes on behind an empty page, which is not the end", async () => {
    const { logs } = streamOf([["a"], [], ["b"]]);
    const reader = newLogStreamReader({ logs }, { group: "g", stream: "s" });
    expect(await messages(reader)).toEqual(["a"]);
    expect(await messages(reader)).toEqual(["b"]);
  });

  it("is read anew after it was rewound, for what came late", async () => {
    const pages = [["a", "c"]];
    const { logs } = streamOf(pages);
    const reader = newLogStreamReader({ logs }, { group: "g", stream: "s" });
    expect(await messages(reader)).toEqual(["a", "c"]);
    pages[0] = ["a", "b", "c"];
    expect(await messages(reader)).toEqual([]);
    reader.rewind();
    expect(await messages(reader)).toEqual(["a", "b", "c"]);
  });

  it("is empty while it does not exist", async () => {
    const getLogEvents = async () => {
      throw Object.assign(new Error("none"), { name: "ResourceNotFoundException" });
    };
    const reader = newLogStreamReader({ logs: { getLogEvents } as never }, { group: "g", stream: "s" });
    expect(await messages(reader)).toEqual([]);
  });
});
