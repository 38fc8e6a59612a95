import { checkDraw } from "./draw-check.js";

const button = document.querySelector("[data-check]");
const output = document.querySelector("[data-check-result]");
// Browsers offer cryptography only on https and localhost; elsewhere the server's own check on the page stands.
if (button && output && globalThis.crypto?.subtle) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    output.textContent = "Reading the tickets …";
    try {
      const [draw, tickets] = await Promise.all([read(button.dataset.check), read(button.dataset.tickets)]);
      const startedAt = performance.now();
      const result = await checkDraw(draw, tickets);
      const ms = Math.max(1, Math.round(performance.now() - startedAt));
      const holds = result.commitmentHolds && result.ticketsComplete && result.winnersHold;
      output.textContent = holds
        ? `Your browser repeated the draw of ${tickets.length} tickets in ${ms} ms and got the same winners.`
        : "Your browser got another result than the one announced. Please write to us.";
      output.dataset.holds = String(holds);
    } catch {
      output.textContent = "The tickets could not be read just now. Try again in a moment.";
    }
  });
}

async function read(url) {
  const response = await fetch(url, { headers: { accept: "application/json" } });
  if (!response.ok) throw new Error(String(response.status));
  return response.json();
}
