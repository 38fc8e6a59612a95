/** `2026-05-14T18:00:00.000Z` → `Thu 14 May, 18:00 UTC`. The browser replaces it by the visitor's own time. */
export function formatTime(iso) {
  const date = new Date(iso);
  const day = date.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });
  return `${day.replace(",", "")}, ${iso.slice(11, 16)} UTC`;
}

/** `28 000` cents → `€280`. */
export function formatPrice({ cents, currency }) {
  return new Intl.NumberFormat("en-IE", {
    style: "currency",
    currency,
    minimumFractionDigits: cents % 100 === 0 ? 0 : 2,
  }).format(cents / 100);
}

/** `2 d 04 h`, `04 h 12 min`, `01:27`: two units, the ones that matter. Written the same way in `public/page.js`. */
export function formatLeft(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3_600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  const two = (number) => String(number).padStart(2, "0");
  if (days > 0) return `${days} d ${two(hours)} h`;
  if (hours > 0) return `${hours} h ${two(minutes)} min`;
  return `${two(minutes)}:${two(seconds % 60)}`;
}

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
