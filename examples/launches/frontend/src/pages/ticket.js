import { drawing, knownArt } from "../art.js";
import { formatLeft, formatTime } from "../format.js";
import { html } from "../html.js";
import { layout } from "./layout.js";

/**
 * One ticket. `fresh`: its holder has just entered.
 * @param {import("./layout.js").Site} site
 */
export function ticketPage(site, { ticket, launch, fresh, stale }) {
  const { title, text } = message(ticket, launch, fresh);
  return layout(site, {
    title,
    stale,
    noindex: true,
    main: html`
<article class="ticket-page">
  <div class="ticket">
    <div class="ticket-art tone-${knownArt(launch.art)}">${drawing(launch.art)}</div>
    <div class="ticket-body">
      <p class="crumb"><a href="/launches/${launch.slug}">${launch.title}</a></p>
      <h1>${title}</h1>
      <p>${text}</p>
      <p class="ticket-number"><span>Ticket</span><strong>${ticket.ticket}</strong></p>
      <dl class="facts">
        <div><dt>Size</dt><dd>${ticket.size}</dd></div>
        <div><dt>Entered</dt><dd><time data-local datetime="${ticket.enteredAt}">${formatTime(ticket.enteredAt)}</time></dd></div>
        ${ticket.outcome === "waiting" && html`<div><dt>Draw in</dt><dd data-until="${Date.parse(launch.closesAt)}">${formatLeft(Date.parse(launch.closesAt) - site.now)}</dd></div>`}
        ${ticket.place && html`<div><dt>Place</dt><dd>${ticket.place} of ${launch.pieces}</dd></div>`}
      </dl>
      <p class="button-row">${
        ticket.outcome === "waiting"
          ? html`<a class="button" href="/">See the other launches</a>`
          : html`<a class="button" href="/launches/${launch.slug}/draw">Verify the draw</a>`
      }</p>
    </div>
  </div>
</article>`,
  });
}

function message(ticket, launch, fresh) {
  switch (ticket.outcome) {
    case "won":
      return { title: "It is yours.", text: `Your ticket was drawn. We will write to you about your ${launch.title}.` };
    case "lost":
      return { title: "Not this time.", text: "Your ticket took part and was not drawn. The proof is a click away." };
    default:
      return fresh
        ? {
            title: "You are in.",
            text: "Your ticket is how you follow the draw. Keep this page's address, or write the number down.",
          }
        : { title: "Still in the draw.", text: "The draw has not happened yet. This page will show how it ended." };
  }
}

/** @param {import("./layout.js").Site} site */
export function findTicketPage(site, { typed = "", missing = false }) {
  return layout(site, {
    title: "Check a ticket",
    noindex: true,
    main: html`
<article class="paper narrow">
  <h1>Check a <em>ticket</em></h1>
  <p class="lead">Three groups of four, as you got them when you entered.</p>
  <form class="entry" method="get" action="/tickets">
    ${missing && html`<p class="problem" id="problem" role="alert">We know no ticket ${typed}. Look for mistaken letters: tickets have no I, L, O or U.</p>`}
    <div class="field"><label for="ticket">Ticket</label><input id="ticket" name="ticket" class="mono" autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="20" required placeholder="4K7Q-M2XD-9PTB" value="${typed}"${missing && html` aria-invalid="true" aria-describedby="problem"`}></div>
    <button type="submit">Look it up</button>
  </form>
</article>`,
  });
}
