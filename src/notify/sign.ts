import { createHmac } from "node:crypto";

/**
 * `t=SECONDS,v1=HEX`: HMAC-SHA256 under the hook's secret over `SECONDS.BODY`. The time is signed with the body, so that a receiver can refuse
 * an old request that somebody sends again.
 */
export function signatureOf(secret: string, body: string, atMs: number): string {
  const seconds = Math.floor(atMs / 1_000);
  return `t=${seconds},v1=${createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex")}`;
}
