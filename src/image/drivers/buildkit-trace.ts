/** A step of a build, as BuildKit reports it again and again while it changes. Times are milliseconds since 1970. */
export type Vertex = {
  digest: string;
  /** `[stage 2/5] RUN npm ci`, `[internal] load metadata for …`, `exporting to image` */
  name: string;
  cached: boolean;
  startedAt?: number;
  completedAt?: number;
  error?: string;
};
/** A piece of output of a step; not necessarily whole lines. */
export type VertexLog = { vertex: string; at: number; stream: "out" | "err"; chunk: Buffer };
export type BuildTrace = { vertexes: Vertex[]; logs: VertexLog[] };

type Field = { number: number; value: bigint | Buffer };

/**
 * Reads the `aux` of a `moby.buildkit.trace` line: a protobuf `moby.buildkit.v1.StatusResponse` in base64. Only the fields we show are read, the rest is skipped,
 * as protobuf asks of an old reader. (BuildKit, api/services/control/control.proto.)
 * @throws an Error when the bytes are not protobuf
 */
export function decodeBuildTrace(aux: string): BuildTrace {
  const trace: BuildTrace = { vertexes: [], logs: [] };
  for (const { number, value } of fieldsOf(Buffer.from(aux, "base64"))) {
    if (!Buffer.isBuffer(value)) continue;
    if (number === 1) trace.vertexes.push(decodeVertex(value));
    if (number === 3) trace.logs.push(decodeLog(value));
  }
  return trace;
}

function decodeVertex(bytes: Buffer): Vertex {
  const vertex: Vertex = { digest: "", name: "", cached: false };
  for (const { number, value } of fieldsOf(bytes)) {
    if (number === 4) vertex.cached = value === 1n;
    if (!Buffer.isBuffer(value)) continue;
    if (number === 1) vertex.digest = value.toString("utf8");
    if (number === 3) vertex.name = value.toString("utf8");
    if (number === 5) vertex.startedAt = decodeTime(value);
    if (number === 6) vertex.completedAt = decodeTime(value);
    if (number === 7) vertex.error = value.toString("utf8");
  }
  return vertex;
}

function decodeLog(bytes: Buffer): VertexLog {
  const log: VertexLog = { vertex: "", at: 0, stream: "out", chunk: Buffer.alloc(0) };
  for (const { number, value } of fieldsOf(bytes)) {
    if (number === 3) log.stream = value === 2n ? "err" : "out";
    if (!Buffer.isBuffer(value)) continue;
    if (number === 1) log.vertex = value.toString("utf8");
    if (number === 2) log.at = decodeTime(value);
    if (number === 4) log.chunk = value;
  }
  return log;
}

/** `google.protobuf.Timestamp` */
function decodeTime(bytes: Buffer): number {
  let ms = 0;
  for (const { number, value } of fieldsOf(bytes)) {
    if (Buffer.isBuffer(value)) continue;
    if (number === 1) ms += Number(BigInt.asIntN(64, value)) * 1_000;
    if (number === 2) ms += Number(value) / 1e6;
  }
  return ms;
}

/** The fields of one protobuf message (protobuf.dev, "Encoding"): a key `number << 3 | wire type`, then the value. */
function* fieldsOf(bytes: Buffer): Generator<Field> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) break;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new Error("a protobuf number does not end");
  };
  const slice = (length: number): Buffer => {
    if (at + length > bytes.length) throw new Error("a protobuf field is longer than its message");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const number = key >>> 3;
    if ((key & 7) === 0) yield { number, value: varint() };
    else if ((key & 7) === 1) slice(8);
    else if ((key & 7) === 2) yield { number, value: slice(Number(varint())) };
    else if ((key & 7) === 5) slice(4);
    else throw new Error(`protobuf wire type ${key & 7} is not known`);
  }
}
