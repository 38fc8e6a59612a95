import { z } from "zod";
import { parsePayload } from "./payloads.ts";

/**
 * Whose protocol we speak: the service refuses clients below a least version, and an agent leaves out what an older client does not know
 * (AWS Systems Manager user guide, Session Manager plugin release history: 1.2.764.0 is the least, and signs as we do).
 */
export const CLIENT_VERSION = "1.2.764.0";

/** The agent tells what the session is, and asks for what it needs before it begins. */
const Request = z.object({ RequestedClientActions: z.array(z.object({ ActionType: z.string() })).nullish() });

const STATUS = { success: 1, unsupported: 3 };

/** Our answer, and what the agent asked for that we cannot do: then it ends the session. */
export function answerHandshake(request: Buffer): { response: Buffer; unsupported: string[] } {
  const asked = parsePayload(Request, request)?.RequestedClientActions ?? [];
  const unsupported = asked.map(({ ActionType }) => ActionType).filter((type) => type !== "SessionType");
  const response = {
    ClientVersion: CLIENT_VERSION,
    ProcessedClientActions: asked.map(({ ActionType }) => {
      const isKnown = !unsupported.includes(ActionType);
      return {
        ActionType,
        ActionStatus: isKnown ? STATUS.success : STATUS.unsupported,
        ActionResult: null,
        Error: isKnown ? "" : `${ActionType} is not supported`,
      };
    }),
    Errors: unsupported.map((type) => `${type} is not supported`),
  };
  return { response: Buffer.from(JSON.stringify(response)), unsupported };
}
