import assert from "node:assert/strict";
import { test } from "node:test";
import { html, raw } from "../src/html.js";

test("escapes every value, in text and in attributes", () => {
  const evil = `"><script>alert('1')</script>&`;
  assert.equal(
    String(html`<p title="${evil}">${evil}</p>`),
    '<p title="&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;">&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;</p>',
  );
});

test("keeps nested templates as they are, and joins lists", () => {
  assert.equal(
    String(html`<ul>${["<", ">"].map((text) => html`<li>${text}</li>`)}</ul>`),
    "<ul><li>&lt;</li><li>&gt;</li></ul>",
  );
});

test("a list of plain texts is escaped too", () => {
  assert.equal(String(html`${["<b>"]}`), "&lt;b&gt;");
});

test("nothing is nothing, and zero is zero", () => {
  assert.equal(String(html`${undefined}${null}${false}${0}`), "0");
});

test("an object that merely looks like HTML is escaped", () => {
  assert.equal(String(html`${{ text: "<b>", toString: () => "<i>" }}`), "&lt;i&gt;");
  assert.equal(String(html`${raw("<b>")}`), "<b>");
});
