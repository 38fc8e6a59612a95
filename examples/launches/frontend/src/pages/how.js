import { html } from "../html.js";
import { layout } from "./layout.js";

/** @param {import("./layout.js").Site} site */
export function howPage(site) {
  return layout(site, {
    title: "How the draw works",
    main: html`
<article class="paper">
  <h1>A draw you need <em>not believe</em></h1>
  <p class="lead">Most raffles ask for trust. Ours can be repeated, by anyone, from numbers that were public before the result was.</p>
  <h2>Before: the seal</h2>
  <p>When a launch is prepared, 32 random bytes are made: the seed. We publish its SHA-256 fingerprint, the commitment, on the launch's page. Nobody can find the seed from it, and we cannot exchange the seed without the fingerprint changing.</p>
  <h2>During: one ticket each</h2>
  <p>An entry is an e-mail address and a size. Addresses are compared in a normalised form (capitals, dots at Gmail and +tags make no second person), and the database accepts each of them once per launch, however many requests arrive at the same moment. In return you get a random ticket. It is public and tells nothing about you.</p>
  <h2>After: the order</h2>
  <p>At closing time the doors shut and the tickets are fixed. Each draws a number: HMAC-SHA256 with the seed as key and the ticket as message. The lowest numbers win. Then the seed and all tickets are published, and the page of every draw repeats it in front of you, in your browser too.</p>
  <h2>What this does not prove</h2>
  <p>That each address belongs to another person, or that we did not enter ourselves. It does prove that the result was not picked: with the seed sealed and the tickets random, nobody could choose who wins.</p>
  <p class="button-row"><a class="button" href="/#drawn">See past draws</a></p>
</article>`,
  });
}
