import type { Secret } from "../shared/secret.ts";

/** Shorter values would blank out ordinary words; `shipway secret set` refuses them. */
export const SHORTEST_MASKED = 4;

/**
 * Tokens of our API and of infra runs are known by their shape: a process that outlived a restart of Shipway may print one whose value nobody has any more,
 * since only hashes are kept.
 */
const OUR_TOKENS = ["shw_[\\w-]{32}", "shr_i_[a-z0-9]{12}\\.[\\w-]{32}"];

/**
 * The one filter between output and the log store: every secret's value, its lines, and its base64, URL-encoded, JSON and shell-quoted forms become `****`.
 */
export function newMask(secrets: Secret[]): (text: string) => string {
  const forms = [...new Set(secrets.flatMap((secret) => formsOf(secret.reveal())))].sort((a, b) => b.length - a.length);
  const pattern = new RegExp([...forms.map(escapeForRegExp), ...OUR_TOKENS].join("|"), "g");
  return (text) => text.replace(pattern, "****");
}

/** Fields of events, outcomes and evidence whose words come from a user's program, or quote it. All others (ids, states, names) are ours. */
const QUOTING_FIELDS = new Set([
  "command",
  "detail",
  "failedCommand",
  "hint",
  "lastLines",
  "message",
  "probes",
  "reason",
  "summary",
  "text",
]);

/** The same data with secrets masked in every field that may quote a program, at any depth. */
export function maskQuotes<T>(data: T, mask: (text: string) => string): T {
  return walk(data, false, mask) as T;
}

function walk(data: unknown, isQuote: boolean, mask: (text: string) => string): unknown {
  if (typeof data === "string") return isQuote ? mask(data) : data;
  if (Array.isArray(data)) return data.map((one) => walk(one, isQuote, mask));
  if (typeof data !== "object" || data === null) return data;
  return Object.fromEntries(Object.entries(data).map(([key, one]) => [key, walk(one, QUOTING_FIELDS.has(key), mask)]));
}

function formsOf(value: string): string[] {
  const lines = value.includes("\n") ? value.split("\n").map((line) => line.trim()) : [];
  const forms = [
    value,
    ...lines,
    encodeURIComponent(value),
    ...base64Forms(value),
    JSON.stringify(value).slice(1, -1),
    // As `set -x` shows them.
    ...[value, ...lines].map((text) => text.replaceAll("'", "'\\''")),
  ];
  return forms.filter((form) => form.length >= SHORTEST_MASKED);
}

/** What programs break base64 at (base64(1), `--wrap`; RFC 1421). */
const WRAPS = [76, 64];
/** Less of the encoded value would blank out other things as well. */
const SHORTEST_PART = 12;

/** By itself, broken into lines, and behind something else, as in `user:password`: of that what depends on the value alone. */
function base64Forms(value: string): string[] {
  const bytes = Buffer.from(value);
  const whole = bytes.toString("base64").replace(/=+$/, "");
  const parts = WRAPS.flatMap((width) => whole.match(new RegExp(`.{${width}}|.+$`, "g")) ?? []);
  const shifted = [1, 2].map((before) => {
    const encoded = Buffer.concat([Buffer.alloc(before), bytes]).toString("base64");
    const own = Math.floor(((before + bytes.length) * 8) / 6);
    return encoded.slice(Math.ceil((before * 8) / 6), own);
  });
  return [whole, ...[...parts, ...shifted].filter((part) => part.length >= SHORTEST_PART)];
}

function escapeForRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
