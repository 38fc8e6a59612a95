/* Countdowns and local times. Without this script the pages show the same, as of when they were made. */
const two = (number) => String(number).padStart(2, "0");

function formatLeft(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const [days, hours, minutes] = [
    Math.floor(seconds / 86400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  if (days > 0) return `${days} d ${two(hours)} h`;
  if (hours > 0) return `${hours} h ${two(minutes)} min`;
  return `${two(minutes)}:${two(seconds % 60)}`;
}

/** The server's clock decides; the visitor's may be wrong by hours. */
const serverNow = Number(document.documentElement.dataset.now);
const startedAt = performance.now();
const now = () => serverNow + performance.now() - startedAt;

for (const time of document.querySelectorAll("time[data-local]")) {
  time.title = time.textContent;
  time.textContent = new Intl.DateTimeFormat(undefined, {
    weekday: "short",
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
  }).format(new Date(time.dateTime));
}

/** The worker draws within about a second of the end. Each visitor waits a little longer than the other. */
let reloading = false;
function reloadSoon() {
  // Never under somebody's fingers: what they send after the end gets an honest answer.
  if (reloading || document.querySelector("form:focus-within")) return;
  reloading = true;
  setTimeout(() => location.reload(), 2000 + Math.random() * 1500);
}

const countdowns = [...document.querySelectorAll("[data-until]")];
function tick() {
  for (const element of countdowns) {
    const leftMs = Number(element.dataset.until) - now();
    const text = formatLeft(leftMs);
    if (element.textContent !== text) element.textContent = text;
    if (leftMs < 0) reloadSoon();
  }
}
if (countdowns.length > 0) {
  tick();
  setInterval(tick, 1000);
}
if (document.querySelector("[data-reload]")) reloadSoon();

/* One click is one entry: the button says that it was heard. The server would not count it twice anyway. */
for (const form of document.querySelectorAll("form[data-once]"))
  form.addEventListener("submit", () => {
    const button = form.querySelector("button[type=submit]");
    button.textContent = "Entering …";
    button.setAttribute("aria-disabled", "true");
    form.addEventListener("submit", (event) => event.preventDefault());
  });
