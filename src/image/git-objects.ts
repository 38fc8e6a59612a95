import type { Readable } from "node:stream";
import { fail } from "../shared/errors.ts";

/** One object of `git cat-file --batch`. Its content must be read, by `read` or `chunks`, before the next object is asked for. */
export type GitObject = {
  type: string;
  /** Bytes. */
  size: number;
  read(): Promise<Buffer>;
  chunks(): AsyncGenerator<Buffer>;
};

/**
 * Reads the output of `git cat-file --batch` (`ID TYPE SIZE\n`, content, `\n`) object by object, never holding more than one chunk of a large one.
 * @throws GIT_FAILED when git does not have an object or ends early
 */
export async function* readGitObjects(stdout: Readable): AsyncGenerator<GitObject> {
  const source: AsyncIterator<Buffer> = stdout[Symbol.asyncIterator]();
  let buffer: Buffer = Buffer.alloc(0);
  /** Puts more bytes behind `buffer`; false at the end. */
  const more = async (): Promise<boolean> => {
    const next = await source.next();
    if (next.done) return false;
    buffer = buffer.length === 0 ? next.value : Buffer.concat([buffer, next.value]);
    return true;
  };
  const take = async (most: number): Promise<Buffer> => {
    while (buffer.length === 0) if (!(await more())) throw endedEarly();
    const taken = buffer.subarray(0, most);
    buffer = buffer.subarray(taken.length);
    return taken;
  };
  for (;;) {
    while (!buffer.includes(10)) if (!(await more())) return;
    const end = buffer.indexOf(10);
    const { type, size } = parseHeader(buffer.toString("latin1", 0, end));
    buffer = buffer.subarray(end + 1);
    async function* chunks() {
      for (let left = size; left > 0; ) {
        const chunk = await take(left);
        left -= chunk.length;
        yield chunk;
      }
      await take(1);
    }
    const read = async () => {
      const parts: Buffer[] = [];
      for await (const chunk of chunks()) parts.push(chunk);
      return Buffer.concat(parts);
    };
    yield { type, size, read, chunks };
  }
}

function parseHeader(line: string): { type: string; size: number } {
  const [, type, size] = /^[0-9a-f]{40,64} (\w+) (\d+)$/.exec(line) ?? [];
  if (type === undefined)
    throw fail("GIT_FAILED", { message: `git does not have an object of the build context: ${line}` });
  return { type, size: Number(size) };
}

function endedEarly() {
  return fail("GIT_FAILED", { message: "git ended in the middle of an object of the build context." });
}
