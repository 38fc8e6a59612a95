/**
 * Writes one line of `key=value` pairs to stdout. Values with spaces are quoted, so a line stays one line.
 * @param {string} event
 * @param {Record<string, unknown>} [fields]
 */
export function log(event, fields = {}) {
  const pairs = Object.entries({ event, ...fields }).map(([key, value]) => `${key}=${quote(value)}`);
  process.stdout.write(`${new Date().toISOString()} ${pairs.join(" ")}\n`);
}

function quote(value) {
  const text = value instanceof Error ? value.message : String(value);
  return /^[\w.:/@+-]+$/.test(text) ? text : JSON.stringify(text);
}
