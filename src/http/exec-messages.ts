import { z } from "zod";
import { CommandWords, ProblemBody } from "./schemas.ts";

/**
 * What goes over the WebSocket of `shipway exec`, in the subprotocol `shipway.exec.v1`. Texts are JSON, as below. Binary messages from the client are stdin; those from the server begin
 * with a byte that says which output they are.
 */
export const EXEC_PROTOCOL = "shipway.exec.v1";
export const STDOUT = 1;
export const STDERR = 2;

const Size = z.int().min(1).max(10_000);

/** The client's first message. Not in the address: addresses are written into logs, and a command may hold a secret. */
export const ExecStart = z.strictObject({
  type: z.literal("start"),
  service: z.string(),
  task: z.string().optional(),
  command: CommandWords,
  terminal: z
    .strictObject({
      columns: Size,
      rows: Size,
      type: z
        .string()
        .regex(/^[\w.+-]{1,50}$/)
        .optional(),
    })
    .optional(),
});

export const FromClient = z.discriminatedUnion("type", [
  ExecStart,
  z.strictObject({ type: z.literal("resize"), columns: Size, rows: Size }),
  z.strictObject({ type: z.literal("stdin-end") }),
]);

export const FromServer = z.discriminatedUnion("type", [
  z.object({ type: z.literal("started"), task: z.string() }),
  z.object({ type: z.literal("exit"), exitCode: z.int() }),
  z.object({ type: z.literal("error"), problem: ProblemBody }),
]);

export type ExecStartMessage = z.infer<typeof ExecStart>;
export type FromClientMessage = z.infer<typeof FromClient>;
export type FromServerMessage = z.infer<typeof FromServer>;
