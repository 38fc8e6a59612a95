import { html } from "../html.js";

/**
 * @typedef {{ theme: typeof import("../../theme.js").theme, release: string, asset: (name: string) => string, now: number }} Site
 */

/**
 * A whole page.
 * @param {Site} site
 * @param {{ title: string, description?: string, main: unknown, stale?: boolean, refreshSeconds?: number, scripts?: string[], noindex?: boolean, strip?: unknown }} page
 */
export function layout(
  site,
  { title, description, main, stale = false, refreshSeconds, scripts = [], noindex = false, strip },
) {
  const { theme, release, asset } = site;
  return html`<!doctype html>
<html lang="en" data-now="${site.now}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} · ${theme.brand}</title>
<meta name="description" content="${description ?? theme.intro}">
<meta name="color-scheme" content="light dark">
<meta name="theme-color" media="(prefers-color-scheme: light)" content="#f6f2eb">
<meta name="theme-color" media="(prefers-color-scheme: dark)" content="#131211">
${noindex && html`<meta name="robots" content="noindex">`}
${refreshSeconds && html`<noscript><meta http-equiv="refresh" content="${refreshSeconds}"></noscript>`}
<link rel="icon" href="${asset("icon.svg")}" type="image/svg+xml">
<link rel="preload" href="/assets/fonts/instrument-serif.woff2" as="font" type="font/woff2" crossorigin>
<link rel="preload" href="/assets/fonts/instrument-sans.woff2" as="font" type="font/woff2" crossorigin>
<link rel="stylesheet" href="${asset("theme.css")}">
<link rel="stylesheet" href="${asset("styles.css")}">
<script type="module" src="${asset("page.js")}"></script>
${scripts.map((name) => html`<script type="module" src="${asset(name)}"></script>`)}
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
${stale ? html`<p class="strip strip-quiet" role="status">We are catching up: entries and times may be a few minutes old.</p>` : strip}
<header class="top">
  <nav aria-label="Main"><a href="/#open">Launches</a><a href="/how">How it works</a></nav>
  <a class="wordmark" href="/" aria-label="${theme.brand}, home">${theme.brand}</a>
  <nav class="top-end" aria-label="Your entry"><a href="/tickets">My ticket</a></nav>
</header>
<main id="main">
${main}
</main>
<footer class="foot">
  <div class="foot-grid">
    <p class="foot-word">${theme.brand}</p>
    <p>One entry per person and launch. The seed of every draw is sealed before the first entry and shown after the last.</p>
    <ul>
      <li><a href="/#drawn">Past draws</a></li>
      <li><a href="/how">How the draw works</a></li>
      <li><a href="/tickets">Check a ticket</a></li>
    </ul>
  </div>
  <p class="foot-line"><span>A demonstration shop. Nothing here is for sale.</span><span>Release ${release}</span></p>
</footer>
</body>
</html>`;
}
