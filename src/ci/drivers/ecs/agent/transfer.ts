import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { type IncomingMessage, request as overHttp } from "node:http";
import { request as overHttps } from "node:https";
import { sleep } from "../../../../shared/until.ts";

const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 500;
const IDLE_MS = 60_000;

/** A refusal that another attempt would get as well. */
class Refused extends Error {}

/**
 * Gets what is at a signed address. `consume` is called anew by each attempt, with the whole from the beginning, and must clear away what an earlier one left.
 */
export async function download<T>(address: string, consume: (body: IncomingMessage) => Promise<T>): Promise<T> {
  return insisting(async () => {
    const answer = await send(address, "GET");
    return consume(answer);
  });
}

export const downloadText = (address: string): Promise<string> => download(address, readText);

/** Puts a file at a signed address, which is asked for anew by each attempt. */
export async function upload(addressOf: () => string, file: string): Promise<void> {
  const { size } = await stat(file);
  await insisting(async () => {
    await readText(await send(addressOf(), "PUT", { size, file }));
  });
}

export async function uploadText(addressOf: () => string, text: string): Promise<void> {
  await insisting(async () => {
    await readText(await send(addressOf(), "PUT", { size: Buffer.byteLength(text), text }));
  });
}

async function insisting<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried++) {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof Refused || tried >= ATTEMPTS) throw error;
      await sleep(FIRST_PAUSE_MS * 2 ** (tried - 1));
    }
  }
}

type Body = { size: number } & ({ file: string } | { text: string });

/** S3 takes no body of unknown length at a signed address, so its length is always said. */
function send(address: string, method: "GET" | "PUT", body?: Body): Promise<IncomingMessage> {
  const request = address.startsWith("https:") ? overHttps : overHttp;
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-length": body.size };
    const sending = request(address, { method, headers, timeout: IDLE_MS }, (answer) => {
      const status = answer.statusCode ?? 0;
      if (status >= 200 && status < 300) return resolve(answer);
      answer.resume();
      // The address itself is not told: whoever has it may use it.
      const what = `${method} was answered with ${status}${status === 403 ? " (the signed address is refused, or has expired)" : ""}`;
      reject(status >= 400 && status < 500 && status !== 429 && status !== 408 ? new Refused(what) : new Error(what));
    });
    sending.once("error", reject);
    sending.once("timeout", () => sending.destroy(new Error(`no answer for ${IDLE_MS / 1_000} s`)));
    if (body === undefined) sending.end();
    else if ("text" in body) sending.end(body.text);
    else
      createReadStream(body.file)
        .once("error", (error) => sending.destroy(error))
        .pipe(sending);
  });
}

async function readText(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}
