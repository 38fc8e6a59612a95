import type { S3 } from "@aws-sdk/client-s3";
import { isAws, toAwsError } from "./aws-errors.ts";
import { type AwsOptions, clientConfig, newAwsCalls } from "./calls.ts";

export type StoredObject = { key: string; bytes: number; modifiedAt: number };

/**
 * A bucket of S3 as a place for work. What is small is held in memory; what may be large is streamed. Errors come in public codes.
 * @throws AWS_DENIED, AWS_NOT_FOUND, AWS_CREDENTIALS, AWS_THROTTLED, AWS_UNREACHABLE, AWS_REFUSED
 */
export type Bucket = {
  name: string;
  /** Undefined where there is no such object. */
  get(key: string): Promise<string | undefined>;
  find(key: string): Promise<StoredObject | undefined>;
  put(key: string, body: string): Promise<void>;
  /** Of several who put at the same time one wins. @returns what is there then: this, or what was there before. */
  putNew(key: string, body: string): Promise<string>;
  /** Whatever its size, with a few MiB in memory. Nothing is left, or replaced, when it fails. @returns how many bytes it was */
  upload(key: string, body: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<number>;
  /** Within the bucket, without the bytes coming here; at most 5 GiB (Amazon S3 API reference, CopyObject). */
  copy(from: string, to: string): Promise<void>;
  list(prefix: string): Promise<StoredObject[]>;
  /** The names that follow `prefix`, up to the next `/`. */
  listNames(prefix: string): Promise<string[]>;
  /** What is not there is no error. */
  remove(keys: readonly string[]): Promise<void>;
  /** Whoever has the address may read the object, or write it, until it expires; or sooner, with the credentials it is signed with. */
  addressToGet(key: string, expiresS: number): Promise<string>;
  addressToPut(key: string, expiresS: number): Promise<string>;
};

/** Parts of an upload are at least 5 MiB and at most 10,000 (Amazon S3 user guide, multipart upload limits): this many bytes first, and twice as many each thousand parts. */
const PART_BYTES = 8 * 1_024 * 1_024;
const PARTS_OF_A_SIZE = 1_000;
/** A part over a slow line, or a copy of gigabytes within S3, takes minutes until it is answered. */
const ANSWER_MS = 600_000;
/** DeleteObjects takes at most 1,000 keys (Amazon S3 API reference). */
const KEYS_A_CALL = 1_000;

/** The SDK is loaded by the first call of this, not before. */
export async function openBucket(
  options: AwsOptions & {
    bucket: string /** Where whoever gets an address finds the bucket, if not where we do. */;
    reachedAt?: string | undefined;
  },
): Promise<Bucket> {
  const [{ S3, GetObjectCommand, PutObjectCommand }, { getSignedUrl }] = await Promise.all([
    import("@aws-sdk/client-s3"),
    import("@aws-sdk/s3-request-presigner"),
  ]);
  const calls = newAwsCalls({ answerMs: ANSWER_MS, ...options });
  // A checksum in a signed address would be that of an empty body, and whoever uses it would have to send the same.
  const checksums = {
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  } as const;
  const s3 = calls.open(S3, "s3", checksums);
  // Only signs, which asks nobody.
  const signing =
    options.reachedAt === undefined
      ? s3
      : new S3({ ...clientConfig({ ...options, endpoint: options.reachedAt }), ...checksums });
  const Bucket = options.bucket;

  const told = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw toAwsError(error, calls.askedOf(error));
    }
  };
  const get = (key: string) =>
    told(async () => {
      const found = await orMissing(s3.getObject({ Bucket, Key: key }));
      return found?.Body?.transformToString();
    });

  return {
    name: Bucket,
    get,
    find: (key) =>
      told(async () => {
        const found = await orMissing(s3.headObject({ Bucket, Key: key }));
        return found && { key, bytes: found.ContentLength ?? 0, modifiedAt: found.LastModified?.getTime() ?? 0 };
      }),
    put: (key, body) => told(async () => void (await s3.putObject({ Bucket, Key: key, ...sized(body) }))),
    putNew: (key, body) =>
      told(async () => {
        for (;;) {
          try {
            await s3.putObject({ Bucket, Key: key, ...sized(body), IfNoneMatch: "*" });
            return body;
          } catch (error) {
            // "Conflict": somebody else is at it in this moment.
            if (!isAws(error, "PreconditionFailed", "ConditionalRequestConflict")) throw error;
          }
          // Also what our own first attempt stored, when its answer was lost.
          const there = await get(key);
          if (there !== undefined) return there;
        }
      }),
    upload: (key, body, signal) => told(() => upload(s3, { Bucket, Key: key }, body, signal)),
    copy: (from, to) =>
      told(async () => void (await s3.copyObject({ Bucket, Key: to, CopySource: `${Bucket}/${encodeURI(from)}` }))),
    list: (prefix) => told(() => list(s3, Bucket, prefix)),
    listNames: (prefix) => told(() => listNames(s3, Bucket, prefix)),
    remove: (keys) =>
      told(async () => {
        for (let at = 0; at < keys.length; at += KEYS_A_CALL) {
          const Objects = keys.slice(at, at + KEYS_A_CALL).map((Key) => ({ Key }));
          const { Errors } = await s3.deleteObjects({ Bucket, Delete: { Objects, Quiet: true } });
          const [first] = Errors ?? [];
          if (first) throw Object.assign(new Error(first.Message ?? ""), { name: first.Code ?? "Unknown" });
        }
      }),
    addressToGet: (key, expiresIn) =>
      told(() => getSignedUrl(signing, new GetObjectCommand({ Bucket, Key: key }), { expiresIn })),
    addressToPut: (key, expiresIn) =>
      told(() => getSignedUrl(signing, new PutObjectCommand({ Bucket, Key: key }), { expiresIn })),
  };
}

/** The SDK takes an empty body for one of unknown length. */
function sized(body: string | Buffer) {
  const Body = Buffer.from(body);
  return { Body, ContentLength: Body.length };
}

async function orMissing<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    // HeadObject has no body that could name it otherwise, for a bucket that is missing neither.
    if (isAws(error, "NoSuchKey", "NotFound")) return undefined;
    throw error;
  }
}

async function upload(
  s3: S3,
  to: { Bucket: string; Key: string },
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<number> {
  const parts = inParts(body);
  const first = await parts.next();
  const head = first.done ? Buffer.alloc(0) : first.value;
  signal?.throwIfAborted();
  if (head.length < PART_BYTES) {
    await s3.putObject({ ...to, ...sized(head) });
    return head.length;
  }
  const { UploadId } = await s3.createMultipartUpload(to);
  try {
    const done: { ETag: string | undefined; PartNumber: number }[] = [];
    let bytes = 0;
    for (let part: Buffer | undefined = head; part !== undefined; ) {
      signal?.throwIfAborted();
      const PartNumber = done.length + 1;
      const sending = s3.uploadPart({ ...to, UploadId, PartNumber, Body: part });
      sending.catch(() => undefined);
      bytes += part.length;
      // The next part is read while this one is sent.
      const next: IteratorResult<Buffer, void> = await parts.next();
      done.push({ ETag: (await sending).ETag, PartNumber });
      part = next.done ? undefined : next.value;
    }
    await s3.completeMultipartUpload({ ...to, UploadId, MultipartUpload: { Parts: done } });
    return bytes;
  } catch (error) {
    // Parts that are kept cost money; what this does not remove the bucket's own rule does.
    await s3.abortMultipartUpload({ ...to, UploadId }).catch(() => undefined);
    await parts.return?.();
    throw error;
  }
}

/** Every part but the last has the whole size. */
async function* inParts(body: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void> {
  let chunks: Uint8Array[] = [];
  let bytes = 0;
  let made = 0;
  const sizeNow = () => PART_BYTES * 2 ** Math.floor(made / PARTS_OF_A_SIZE);
  for await (const chunk of body) {
    chunks.push(chunk);
    bytes += chunk.length;
    while (bytes >= sizeNow()) {
      const whole = Buffer.concat(chunks);
      const part = whole.subarray(0, sizeNow());
      const rest = whole.subarray(part.length);
      [chunks, bytes] = [rest.length > 0 ? [rest] : [], rest.length];
      made++;
      yield part;
    }
  }
  if (bytes > 0) yield Buffer.concat(chunks);
}

async function list(s3: S3, Bucket: string, Prefix: string): Promise<StoredObject[]> {
  const found: StoredObject[] = [];
  let ContinuationToken: string | undefined;
  do {
    const page = await s3.listObjectsV2({ Bucket, Prefix, ...(ContinuationToken && { ContinuationToken }) });
    for (const { Key = "", Size = 0, LastModified } of page.Contents ?? [])
      found.push({ key: Key, bytes: Size, modifiedAt: LastModified?.getTime() ?? 0 });
    ContinuationToken = page.IsTruncated ? page.NextContinuationToken : undefined;
  } while (ContinuationToken !== undefined);
  return found;
}

async function listNames(s3: S3, Bucket: string, Prefix: string): Promise<string[]> {
  const names: string[] = [];
  let ContinuationToken: string | undefined;
  do {
    const more = ContinuationToken === undefined ? {} : { ContinuationToken };
    const page = await s3.listObjectsV2({ Bucket, Prefix, Delimiter: "/", ...more });
    for (const one of page.CommonPrefixes ?? []) names.push((one.Prefix ?? "").slice(Prefix.length).replace(/\/$/, ""));
    ContinuationToken = page.IsTruncated ? page.NextContinuationToken : undefined;
  } while (ContinuationToken !== undefined);
  return names;
}
