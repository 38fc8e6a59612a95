import { html } from "../html.js";
import { layout } from "./layout.js";

const TEXTS = {
  404: ["Nothing hangs here.", "The page has moved on, or the address has a slip in it."],
  403: ["Not from here.", "This form was sent from another site. Open the launch and enter there."],
  409: ["Not drawn yet.", "This launch has not been drawn. Its proof is published with its winners."],
  429: ["One moment.", "That was a lot of requests. Wait a little and try again."],
  503: [
    "Back in a moment.",
    "We are changing something behind the curtain. Your entry, if you made one, is safe. Try again in a few seconds.",
  ],
};

/**
 * @param {import("./layout.js").Site} site
 * @param {number} status
 */
export function problemPage(site, status) {
  const [title, text] = TEXTS[status] ?? ["That did not work.", "Please go back and try again."];
  return layout(site, {
    title,
    noindex: true,
    refreshSeconds: status === 503 ? 5 : undefined,
    main: html`<article class="paper narrow"><h1>${title}</h1><p class="lead">${text}</p><p class="button-row"><a class="button" href="/">To the launches</a></p></article>`,
  });
}
