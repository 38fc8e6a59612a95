import { type FileHandle, open } from "node:fs/promises";
import { connect } from "node:net";
import { basename, dirname } from "node:path";

/** The longest path a Unix socket's address can hold (`sun_path` of unix(7), without its final zero). */
const LONGEST_SOCKET_PATH = 107;

/**
 * Sends one line of commands to a socket of the router and returns its answer.
 * Each call has a connection of its own: HAProxy answers a line and closes, so an answer never mixes with another's.
 */
export async function askSocket(path: string, line: string, options: { timeoutMs?: number } = {}): Promise<string> {
  if (Buffer.byteLength(path) <= LONGEST_SOCKET_PATH) return await ask(path, line, options.timeoutMs ?? 5_000);
  return await withDirectory(dirname(path), (directory) =>
    ask(`/proc/self/fd/${directory.fd}/${basename(path)}`, line, options.timeoutMs ?? 5_000),
  );
}

/** A data directory may lie deeper than a socket's address is long; through its descriptor the name is short. */
async function withDirectory<T>(path: string, use: (directory: FileHandle) => Promise<T>): Promise<T> {
  const directory = await open(path);
  try {
    return await use(directory);
  } finally {
    await directory.close();
  }
}

function ask(path: string, line: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    // The admin socket closes when it has answered, the master's when we have closed our side.
    const socket = connect({ path, allowHalfOpen: true });
    let answer = "";
    socket.setEncoding("utf8");
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer within ${timeoutMs} ms`)));
    socket.on("data", (chunk) => {
      answer += chunk;
    });
    socket.on("end", () => {
      socket.end();
      resolve(answer);
    });
    socket.on("error", reject);
    socket.end(`${line}\n`);
  });
}
