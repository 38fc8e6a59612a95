import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Order, TASK_DIRS } from "../order.ts";
import { collect } from "./collect.ts";
import { setUp } from "./set-up.ts";

/**
 * The program in the first container of a step's task, and in the last. Both have the same image and the same order. The first is started by the few lines of
 * `BOOTSTRAP` (task-definition.ts), which bring this program and the order here.
 */
const remarksFile = join(TASK_DIRS.own, "remarks.json");
const order = JSON.parse(await readFile(join(TASK_DIRS.own, "order.json"), "utf8")) as Order;
if (process.argv[2] === "collect") {
  await collect(order, JSON.parse(await readFile(remarksFile, "utf8")) as string[]);
  // Pipes and timers that wait for what will not come any more must not keep the task.
  process.exit(0);
}
await writeFile(remarksFile, JSON.stringify(await setUp(order)));
