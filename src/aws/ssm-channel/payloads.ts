import { z } from "zod";

/** Kinds of stream messages. Source: `agent/session/contracts/model.go` in github.com/aws/amazon-ssm-agent. */
export const PAYLOAD = {
  output: 1,
  size: 3,
  handshakeRequest: 5,
  handshakeResponse: 6,
  handshakeComplete: 7,
} as const;

export const Acknowledgement = z.object({
  AcknowledgedMessageType: z.string(),
  AcknowledgedMessageSequenceNumber: z.int(),
});

/** `Output` says why when a session could not begin, or was ended. */
export const ChannelClosed = z.object({ Output: z.string().nullish() });

export function parsePayload<T extends z.ZodType>(schema: T, payload: Buffer): z.infer<T> | undefined {
  try {
    return schema.safeParse(JSON.parse(payload.toString("utf8"))).data;
  } catch {
    return undefined;
  }
}
