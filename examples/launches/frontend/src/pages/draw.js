import { formatTime, plural } from "../format.js";
import { html } from "../html.js";
import { layout } from "./layout.js";

/**
 * "Verify the draw": what was published, our own repetition of it, and how to repeat it elsewhere.
 * @param {import("./layout.js").Site} site
 * @param {{ launch: any, draw: any, check: Awaited<ReturnType<typeof import("../../public/draw-check.js").checkDraw>>, origin: string, stale: boolean }} page
 */
export function drawPage(site, { launch, draw, check, origin, stale }) {
  const holds = check.commitmentHolds && check.ticketsComplete && check.winnersHold;
  return layout(site, {
    title: `The draw of ${launch.title}`,
    stale,
    scripts: ["verify.js"],
    main: html`
<article class="paper">
  <p class="crumb"><a href="/launches/${launch.slug}">${launch.title}</a> <span aria-hidden="true">/</span> Draw</p>
  <h1>${holds ? html`This draw <em>holds.</em>` : html`This draw <em>does not hold.</em>`}</h1>
  <p class="lead">Drawn <time data-local datetime="${draw.drawnAt}">${formatTime(draw.drawnAt)}</time>: ${plural(draw.winners.length, "winner")} of ${plural(draw.entries, "ticket")}. This page was computed just now from the published numbers, by code that shares nothing with the code that drew.</p>
  <ul class="checks">
    ${checkLine(check.commitmentHolds, "The seed is the one that was sealed", "SHA-256 of the seed equals the commitment shown since before the first entry.")}
    ${checkLine(check.ticketsComplete, `All ${plural(draw.entries, "ticket")} took part, each once`, "The published list is as long as the recorded number of entries.")}
    ${checkLine(check.winnersHold, "The winners follow from seed and tickets", "HMAC-SHA256 of every ticket, lowest first, gives the announced places.")}
  </ul>
  <p class="button-row"><button type="button" hidden data-check="/launches/${launch.slug}/draw.json" data-tickets="/launches/${launch.slug}/tickets.json">Repeat it in my browser</button><span class="check-result" role="status" data-check-result></span></p>

  <h2>The numbers</h2>
  <dl class="numbers">
    <div><dt>Commitment, before</dt><dd><code>${draw.commitment}</code></dd></div>
    <div><dt>Seed, after</dt><dd><code>${draw.seed}</code></dd></div>
    <div><dt>Tickets</dt><dd><a href="/launches/${launch.slug}/tickets.txt">${plural(draw.entries, "ticket")}, one a line</a></dd></div>
  </dl>

  <h2>On your own machine</h2>
  <p>Nothing but a shell and OpenSSL. The first lines it prints are the winners, in order.</p>
  <pre tabindex="0"><code>SEED=${draw.seed}
echo -n $SEED | xxd -r -p | sha256sum     # the commitment
curl -s ${origin}/launches/${launch.slug}/tickets.txt | while read -r TICKET; do
  echo "$(echo -n $TICKET | openssl dgst -sha256 -mac HMAC -macopt hexkey:$SEED -r | cut -c1-64) $TICKET"
done | sort | head -n ${draw.pieces}</code></pre>

  <h2>Every place</h2>
  <div class="table-wrap" tabindex="0" role="region" aria-label="Winners">
  <table>
    <thead><tr><th scope="col">Place</th><th scope="col">Ticket</th><th scope="col">Number drawn</th><th scope="col">Winner</th><th scope="col">Size</th></tr></thead>
    <tbody>${draw.winners.map(
      ({ place, ticket, email, size }) =>
        html`<tr><td>${place}</td><td><code>${ticket}</code></td><td><code>${lotOf(check, ticket)}…</code></td><td>${email}</td><td>${size}</td></tr>`,
    )}</tbody>
  </table>
  </div>
</article>`,
  });
}

function checkLine(holds, title, text) {
  return html`<li class="${holds ? "holds" : "fails"}"><span class="mark" aria-hidden="true">${holds ? "✓" : "✕"}</span><div><strong>${title}</strong>${!holds && html` <strong>: no</strong>`}<p>${text}</p></div></li>`;
}

const lotOf = (check, ticket) => check.lots.find((entry) => entry.ticket === ticket)?.lot.slice(0, 16) ?? "";
