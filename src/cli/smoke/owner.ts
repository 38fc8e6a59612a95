import { createHash } from "node:crypto";
import { hostname } from "node:os";
import type { SmokeOwner } from "./trial.ts";

/** This user's process on this machine; the same machine as long as it has its name. */
export function thisOwner(): SmokeOwner {
  const machine = createHash("sha256")
    .update(`${process.getuid?.() ?? ""}@${hostname()}`)
    .digest("hex")
    .slice(0, 8);
  return { machine, pid: process.pid, isAlive };
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // It is there and somebody else's.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
