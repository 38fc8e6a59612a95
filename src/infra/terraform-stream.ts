import { z } from "zod";

const Resource = z.object({ addr: z.string() });
const Hook = z.object({
  resource: Resource,
  action: z.string().optional(),
  id_key: z.string().optional(),
  id_value: z.string().optional(),
  elapsed_seconds: z.number().optional(),
});
const Diagnostic = z.object({
  severity: z.string(),
  summary: z.string(),
  detail: z.string().default(""),
  address: z.string().optional(),
  range: z.object({ filename: z.string(), start: z.object({ line: z.number() }) }).optional(),
  snippet: z.object({ code: z.string() }).optional(),
});
const Line = z.object({
  "@message": z.string().default(""),
  "@timestamp": z.string().optional(),
  type: z.string().default("log"),
  hook: Hook.optional(),
  diagnostic: Diagnostic.optional(),
  changes: z.object({ operation: z.string() }).optional(),
});

export type Diagnostic = z.infer<typeof Diagnostic>;

/** One line of `terraform -json`, as far as it matters to us. */
export type StreamEvent =
  /** `at` in milliseconds since 1970. */
  | { type: "started"; address: string; action: string; at?: number }
  | { type: "done"; address: string; action: string; id: string | undefined; seconds: number }
  /** Told every 10 s of one that takes its time. */
  | { type: "progress"; address: string; action: string; seconds: number }
  | { type: "failed"; address: string; action: string }
  | { type: "diagnostic"; diagnostic: Diagnostic }
  /** The operation came to its own end. */
  | { type: "summary"; operation: string }
  /** It finishes what it is at, then it ends. */
  | { type: "interrupted" }
  /** Interrupted for a second time: it ends at once, whatever it is at. */
  | { type: "forced" }
  | { type: "other" };

export type StreamLine = { event: StreamEvent; text: string };

/** Between JSON lines Terraform prints plain ones, too (`init` does): they are kept as text. */
export function parseStreamLine(line: string): StreamLine {
  const parsed = Line.safeParse(parseJson(line));
  if (!parsed.success) return { event: { type: "other" }, text: line };
  const { data } = parsed;
  return { event: eventOf(data), text: textOf(data) };
}

function eventOf({
  type,
  hook,
  diagnostic,
  changes,
  "@message": message,
  "@timestamp": timestamp = "",
}: z.infer<typeof Line>): StreamEvent {
  if (type === "diagnostic" && diagnostic) return { type: "diagnostic", diagnostic };
  if (type === "change_summary" && changes) return { type: "summary", operation: changes.operation };
  if (type === "log" && /two interrupts/i.test(message)) return { type: "forced" };
  if (type === "log" && /interrupt/i.test(message)) return { type: "interrupted" };
  // Data sources are read during a plan and say so in the same words.
  if (hook === undefined || hook.resource.addr.split(".").includes("data")) return { type: "other" };
  const [address, action] = [hook.resource.addr, hook.action ?? "update"];
  const at = Date.parse(timestamp);
  if (type === "apply_start") return { type: "started", address, action, ...(Number.isFinite(at) && { at }) };
  if (type === "apply_progress") return { type: "progress", address, action, seconds: hook.elapsed_seconds ?? 0 };
  if (type === "apply_errored") return { type: "failed", address, action };
  if (type !== "apply_complete") return { type: "other" };
  return { type: "done", address, action, id: hook.id_value, seconds: hook.elapsed_seconds ?? 0 };
}

function textOf({ "@message": message, diagnostic }: z.infer<typeof Line>): string {
  return diagnostic === undefined ? message : describeDiagnostic(diagnostic);
}

/** As a person reads it: `main.tf:12 (aws_vpc.main): summary. Detail`. */
export function describeDiagnostic({ severity, summary, detail, address, range, snippet }: Diagnostic): string {
  const place = [
    range === undefined ? undefined : `${range.filename}:${range.start.line}`,
    address === undefined ? undefined : `(${address})`,
  ].filter((part) => part !== undefined);
  const head = `${severity === "error" ? "Error" : "Warning"}: ${place.length === 0 ? "" : `${place.join(" ")}: `}${summary}`;
  const code = snippet === undefined ? [] : snippet.code.split("\n").map((line) => `  | ${line}`);
  return [head, ...code, ...(detail === "" ? [] : [detail])].join("\n");
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
