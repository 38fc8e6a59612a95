import { drawing, knownArt } from "../art.js";
import { formatLeft, formatPrice, formatTime, plural } from "../format.js";
import { html } from "../html.js";
import { layout } from "./layout.js";

/**
 * @typedef {{ email: string, size: string, requestKey: string, problem?: { field?: "email" | "size", message: string } }} EntryForm
 */

/**
 * One launch: its story and, by its state, the form, the opening time or the winners.
 * @param {import("./layout.js").Site} site
 * @param {{ launch: any, draw?: any, form: EntryForm, stale: boolean }} page
 */
export function launchPage(site, { launch, draw, form, stale }) {
  return layout(site, {
    title: launch.title,
    description: `${launch.subtitle}. ${launch.story}`,
    stale,
    refreshSeconds: launch.state === "drawing" ? 3 : undefined,
    main: html`
<article class="product">
  <div class="product-art tone-${knownArt(launch.art)}">${drawing(launch.art)}</div>
  <div class="product-side">
    <p class="crumb"><a href="/">Launches</a> <span aria-hidden="true">/</span> ${stateLabel(launch)}</p>
    <h1>${launch.title}</h1>
    <p class="product-sub">${launch.subtitle}</p>
    <dl class="facts">
      <div><dt>Price</dt><dd>${formatPrice(launch.price)}</dd></div>
      <div><dt>Edition</dt><dd>${plural(launch.pieces, "piece")}</dd></div>
      <div><dt>Entries</dt><dd>${launch.entries.toLocaleString("en")}</dd></div>
    </dl>
    ${action(site, launch, form, draw)}
  </div>
</article>
<section class="story">
  <p class="story-text">${launch.story}</p>
  <div class="seal">
    <h2>The seal of this draw</h2>
    <p>SHA-256 of the secret number that will decide, published before the first entry:</p>
    <p class="hash"><code>${launch.commitment}</code></p>
    <p>${launch.state === "closed" ? html`<a href="/launches/${launch.slug}/draw">The seal is open: check the draw</a>` : html`<a href="/how">What this proves</a>`}</p>
  </div>
</section>`,
  });
}

function stateLabel({ state }) {
  return { upcoming: "Opens soon", open: "Open", drawing: "Drawing", closed: "Drawn" }[state];
}

function action(site, launch, form, draw) {
  switch (launch.state) {
    case "upcoming":
      return html`<div class="waiting">
      <p class="clock"><span class="clock-label">Opens in</span> <span class="clock-time" data-until="${Date.parse(launch.opensAt)}">${formatLeft(Date.parse(launch.opensAt) - site.now)}</span></p>
      <p>Doors open <time data-local datetime="${launch.opensAt}">${formatTime(launch.opensAt)}</time> and close <time data-local datetime="${launch.closesAt}">${formatTime(launch.closesAt)}</time>. There is no rush: every entry in between has the same chance.</p>
    </div>`;
    case "open":
      return html`<p class="clock"><span class="clock-label">Closes in</span> <span class="clock-time" data-until="${Date.parse(launch.closesAt)}">${formatLeft(Date.parse(launch.closesAt) - site.now)}</span></p>
    ${entryForm(launch, form)}`;
    case "drawing":
      return html`<div class="waiting" role="status"><p class="clock"><span class="clock-label">Closed</span> <span class="clock-time" data-reload>Drawing …</span></p>
      <p>The doors are closed and the draw is running. This page shows the winners in a moment.</p>${problem(form)}</div>`;
    default:
      return html`${problem(form)}${winners(launch, draw)}`;
  }
}

function entryForm(launch, form) {
  const fault = form.problem;
  return html`<form class="entry" method="post" action="/launches/${launch.slug}" data-once novalidate>
      ${fault && html`<p class="problem" id="problem" role="alert">${fault.message}</p>`}
      <input type="hidden" name="requestKey" value="${form.requestKey}">
      <fieldset${fault?.field === "size" && html` aria-describedby="problem"`}>
        <legend>Size</legend>
        <div class="sizes">${launch.sizes.map(
          (size, index) =>
            html`<label class="size"><input type="radio" name="size" value="${size}"${(form.size === size || launch.sizes.length === 1) && html` checked`}${index === 0 && html` required`}><span>${size}</span></label>`,
        )}</div>
      </fieldset>
      <div class="field">
        <label for="email">E-mail</label>
        <input id="email" name="email" type="email" autocomplete="email" inputmode="email" autocapitalize="none" spellcheck="false" maxlength="254" required value="${form.email}"${fault?.field === "email" && html` aria-invalid="true" aria-describedby="problem"`}>
      </div>
      <button type="submit">Enter the draw</button>
      <p class="small">One entry per person. We use the address for this draw only, and write whatever the outcome.</p>
    </form>`;
}

function problem({ problem: fault }) {
  return fault && html`<p class="problem" role="alert">${fault.message}</p>`;
}

const SHOWN = 8;

function winners(launch, draw) {
  if (!draw?.winners) return html`<p>The winners are being written down. Look again in a moment.</p>`;
  const rest = draw.winners.length - SHOWN;
  return html`<div class="winners">
      <h2>${draw.winners.length === 0 ? "Nobody entered" : plural(draw.winners.length, "winner")}</h2>
      <p class="small">Drawn <time data-local datetime="${draw.drawnAt}">${formatTime(draw.drawnAt)}</time> from ${plural(draw.entries, "entry", "entries")}.</p>
      <ol class="winner-list">${draw.winners.slice(0, SHOWN).map(winnerRow)}</ol>
      ${rest > 0 && html`<details><summary>${plural(rest, "more winner")}</summary><ol class="winner-list" start="${SHOWN + 1}">${draw.winners.slice(SHOWN).map(winnerRow)}</ol></details>`}
      <p class="button-row"><a class="button" href="/launches/${launch.slug}/draw">Verify the draw</a><a href="/tickets">Check my ticket</a></p>
    </div>`;
}

function winnerRow({ place, ticket, email, size }) {
  return html`<li><span class="place">${place}</span><code>${ticket}</code><span>${email}</span><span class="winner-size">${size}</span></li>`;
}
