import { randomBytes } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { fail } from "../shared/errors.ts";

/** `~/.config/shipway/credentials.json`: the servers this user may talk to. Readable by the user alone. */
export const Credentials = z.strictObject({
  servers: z.record(z.string(), z.strictObject({ token: z.string() })),
  /** The server of commands that name none. */
  default: z.string().optional(),
});
export type Credentials = z.infer<typeof Credentials>;

/** The stored credentials; none when there is no file. @throws REQUEST_INVALID when the file is damaged */
export async function readCredentials(file: string): Promise<Credentials> {
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text === undefined) return { servers: {} };
  try {
    return Credentials.parse(JSON.parse(text));
  } catch (cause) {
    throw fail("REQUEST_INVALID", {
      message: `The credentials in ${file} cannot be read: the file is damaged.`,
      hint: "Remove the file, then sign in again with `shipway login URL` (or start `shipway up` on the server's machine).",
      cause,
    });
  }
}

/** Replaces the file in one move, so that a reader never meets half of it; only the user can read it. */
export async function writeCredentials(file: string, credentials: Credentials): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const beside = `${file}.${randomBytes(6).toString("hex")}`;
  try {
    await writeFile(beside, `${JSON.stringify(credentials, null, 2)}\n`, { mode: 0o600, flag: "wx" });
    await rename(beside, file);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

/** Adds a server, or its new token, and makes it the default. */
export async function rememberServer(file: string, url: string, token: string): Promise<void> {
  const known = await readCredentials(file);
  const baseUrl = normalizeServerUrl(url);
  await writeCredentials(file, { servers: { ...known.servers, [baseUrl]: { token } }, default: baseUrl });
}

/** One spelling per server, as the credentials file uses it. @throws USAGE when it is not an http(s) URL */
export function normalizeServerUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol === "http:" || parsed?.protocol === "https:") {
    return `${parsed.origin}${parsed.pathname}`.replace(/\/+$/, "");
  }
  throw fail("USAGE", {
    message: `${url} is not the address of a server.`,
    hint: "Write it with its scheme, such as http://localhost:7420 or https://shipway.example.com",
  });
}

/** Which server to talk to, and as whom. @throws USAGE, TOKEN_INVALID */
export async function chooseServer(
  wanted: { server?: string | undefined; token?: string | undefined },
  credentialsFile: string,
): Promise<{ baseUrl: string; token: string }> {
  const known = await readCredentials(credentialsFile);
  const named = wanted.server === undefined ? known.default : normalizeServerUrl(wanted.server);
  if (named === undefined) {
    throw fail("USAGE", {
      message: "No Shipway server is known here.",
      hint: "Start one on this machine with `shipway up`, or sign in to one with `shipway login URL`.",
    });
  }
  const token = wanted.token ?? known.servers[named]?.token;
  if (token !== undefined) return { baseUrl: named, token };
  throw fail("TOKEN_INVALID", {
    message: `No token is known for ${named}.`,
    hint: `Sign in with \`shipway login ${named}\`, or set SHIPWAY_TOKEN.`,
  });
}
