import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { endWithReader } from "./terminal.ts";

describe("a reader of the output that has gone", () => {
  const exitsOf = (command: string, code: string): number[] => {
    const exits: number[] = [];
    const [stdout, stderr] = [new EventEmitter(), new EventEmitter()];
    const exit = (status: number) => exits.push(status);
    endWithReader({ argv: ["node", "shipway", command], stdout, stderr, exit } as unknown as NodeJS.Process);
    stdout.emit("error", Object.assign(new Error(`write ${code}`), { code }));
    return exits;
  };

  it("ends a command as it ends any program, and no server", () => {
    expect(exitsOf("logs", "EPIPE")).toEqual([141]);
    expect(exitsOf("up", "EPIPE")).toEqual([]);
  });

  it("hides no other error", () => {
    expect(() => exitsOf("logs", "ENOSPC")).toThrow("ENOSPC");
  });
});
