/** Text that is HTML already. Only `html` and `raw` make it. */
class Html {
  constructor(text) {
    this.text = text;
  }
  toString() {
    return this.text;
  }
}

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

export const escapeHtml = (text) => String(text).replace(/[&<>"']/g, (letter) => ESCAPES[letter]);

/**
 * A template whose values are escaped, whatever they are, unless they come from `html` or `raw`. Lists are joined;
 * `undefined`, `null` and `false` are nothing. Attribute values belong in double quotes.
 */
export function html(strings, ...values) {
  return new Html(strings.reduce((text, part, index) => text + render(values[index - 1]) + part));
}

/** Marks our own text (generated SVG) as HTML. Never for anything that came from outside. */
export const raw = (text) => new Html(text);

function render(value) {
  if (value === undefined || value === null || value === false) return "";
  if (Array.isArray(value)) return value.map(render).join("");
  return value instanceof Html ? value.text : escapeHtml(value);
}
