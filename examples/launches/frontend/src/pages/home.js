import { drawing, knownArt } from "../art.js";
import { formatLeft, formatPrice, formatTime, plural } from "../format.js";
import { html } from "../html.js";
import { layout } from "./layout.js";

/** @param {import("./layout.js").Site} site */
export function homePage(site, { launches, stale }) {
  const open = launches.filter(({ state }) => state === "open");
  const drawing = launches.filter(({ state }) => state === "drawing");
  const upcoming = launches
    .filter(({ state }) => state === "upcoming")
    .toSorted((a, b) => a.opensAt.localeCompare(b.opensAt));
  const drawn = launches
    .filter(({ state }) => state === "closed")
    .toSorted((a, b) => b.drawnAt.localeCompare(a.drawnAt));
  // The one that closes last has the longest life on the cover; the one that closes first gets the strip.
  const [first] = open;
  const cover = open.at(-1) ?? upcoming[0] ?? drawn[0];
  return layout(site, {
    title: "Limited launches, fairly drawn",
    stale,
    refreshSeconds: drawing.length > 0 ? 3 : undefined,
    strip:
      first &&
      html`<p class="strip"><a href="/launches/${first.slug}">${first.title} closes in <b data-until="${Date.parse(first.closesAt)}">${left(site, first.closesAt)}</b></a></p>`,
    main: html`
<section class="hero">
  <h1><span>${site.theme.headline[0]}</span> <em>${site.theme.headline[1]}</em></h1>
  <p class="hero-intro">${site.theme.intro}</p>
  ${cover && coverPanel(cover)}
</section>

<section class="block" id="open" aria-labelledby="open-title">
  <div class="block-head"><h2 id="open-title">Open now</h2><p>${plural(open.length + drawing.length, "launch", "launches")}</p></div>
  ${
    open.length + drawing.length === 0
      ? html`<p class="empty">Nothing is open at this hour. The next doors are below.</p>`
      : html`<ul class="grid">${[...drawing, ...open].map((launch) => card(site, launch))}</ul>`
  }
</section>

${
  upcoming.length > 0 &&
  html`<section class="block" aria-labelledby="next-title">
  <div class="block-head"><h2 id="next-title">Next</h2><p>Sealed, not yet open</p></div>
  <ol class="rows">${upcoming.map((launch) => row(launch))}</ol>
</section>`
}

${
  drawn.length > 0 &&
  html`<section class="block" id="drawn" aria-labelledby="drawn-title">
  <div class="block-head"><h2 id="drawn-title">Drawn</h2><p>Winners and proof</p></div>
  <ul class="grid">${drawn.map((launch) => card(site, launch))}</ul>
</section>`
}

<section class="block steps" aria-labelledby="how-title">
  <div class="block-head"><h2 id="how-title">How it works</h2><p><a href="/how">The whole story</a></p></div>
  <ol>
    <li><h3>We seal the draw</h3><p>Before a launch opens we pick a secret number and publish its fingerprint. From then on it cannot be changed unseen.</p></li>
    <li><h3>You enter once</h3><p>Choose your size, leave one address, get a ticket. Being first or fast makes no difference.</p></li>
    <li><h3>Everyone can check</h3><p>After closing we open the seal. The number and the tickets give the winners, on your machine as on ours.</p></li>
  </ol>
</section>`,
  });
}

const left = (site, iso) => formatLeft(Date.parse(iso) - site.now);

function coverPanel(launch) {
  return html`<a class="cover tone-${knownArt(launch.art)}" href="/launches/${launch.slug}">
    ${drawing(launch.art)}
    <span class="cover-caption">
      <span class="cover-title">${launch.title}</span>
      <span class="cover-text">${launch.subtitle}</span>
      <span class="cover-cta">${{ open: "Enter the draw", upcoming: "See the piece" }[launch.state] ?? "See the winners"}</span>
    </span>
  </a>`;
}

function card(site, launch) {
  return html`<li class="card">
  <a href="/launches/${launch.slug}">
    <span class="panel tone-${knownArt(launch.art)}">${drawing(launch.art)}${badge(launch)}</span>
    <span class="card-line"><span class="card-title">${launch.title}</span><span>${formatPrice(launch.price)}</span></span>
    <span class="card-sub">${launch.subtitle}</span>
    <span class="card-meta">${meta(site, launch)}</span>
  </a>
</li>`;
}

function badge({ state, pieces }) {
  if (state === "drawing") return html`<span class="badge badge-live" data-reload>Drawing</span>`;
  return html`<span class="badge">${plural(pieces, "piece")}</span>`;
}

function meta(site, launch) {
  switch (launch.state) {
    case "open":
      return html`<span>Closes in <b data-until="${Date.parse(launch.closesAt)}">${left(site, launch.closesAt)}</b></span><span>${plural(launch.entries, "entry", "entries")}</span>`;
    case "drawing":
      return html`<span>The draw is running</span><span>${plural(launch.entries, "entry", "entries")}</span>`;
    default:
      return html`<span>${plural(Math.min(launch.pieces, launch.entries), "winner")}</span><span>of ${plural(launch.entries, "entry", "entries")}</span>`;
  }
}

function row(launch) {
  return html`<li><a href="/launches/${launch.slug}">
    <span class="row-art tone-${knownArt(launch.art)}">${drawing(launch.art, { decorative: true })}</span>
    <span class="row-title">${launch.title}</span>
    <span class="row-sub">${launch.subtitle}</span>
    <span class="row-time">Opens <time data-local datetime="${launch.opensAt}">${formatTime(launch.opensAt)}</time></span>
  </a></li>`;
}
