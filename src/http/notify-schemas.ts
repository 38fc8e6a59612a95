import { z } from "zod";
import { Name } from "../source/name.ts";

const Timestamp = z.iso.datetime().describe("ISO 8601, UTC");
const FormatBody = z.enum(["json", "slack"]);

export const HookBody = z
  .object({
    id: z.string(),
    app: z.string().nullable().describe("Null: of every app"),
    url: z.string().describe("Shortened: the rest may be a password"),
    format: FormatBody,
    on: z.array(z.string()).describe("What it is told"),
    failingSince: Timestamp.nullable().describe("Since when events were given up; null while they arrive"),
    actor: z.string(),
    createdAt: Timestamp,
  })
  .meta({ title: "NotifyHook" });

export const NotifyDeliveryBody = z
  .object({
    id: z.string().describe("The same in every attempt; receivers see it as Shipway-Delivery"),
    kind: z.string(),
    eventId: z.int().nullable().describe("Null for a test"),
    status: z.enum(["retrying", "delivered", "failed"]),
    attempts: z.int(),
    httpStatus: z.int().nullable(),
    answer: z.string().nullable().describe("The beginning of what the receiver answered"),
    problem: z.string().nullable().describe("Why there was no answer"),
    nextAt: Timestamp.nullable(),
    createdAt: Timestamp,
    endedAt: Timestamp.nullable(),
  })
  .meta({ title: "NotifyDelivery" });

export const AddHookRequest = z.strictObject({
  url: z.string().min(1).max(2_000).describe("https or http; stored sealed"),
  app: Name.optional().describe("Events of this app only; default: of every app the token is good for"),
  format: FormatBody.default("json"),
  on: z
    .array(z.string().min(1).max(100))
    .min(1)
    .max(50)
    .optional()
    .describe(
      "Kinds of events, each with an outcome where it has one: infra.waiting, deployment.ended:failed, infra.*",
    ),
});

export type HookView = z.infer<typeof HookBody>;
export type NotifyDeliveryView = z.infer<typeof NotifyDeliveryBody>;
