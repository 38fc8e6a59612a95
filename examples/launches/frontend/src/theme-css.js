/** The theme's colours as custom properties; what stands in `theme.js` reaches the style sheet through here. */
export function themeCss({ accent, accentOnDark }) {
  for (const color of [accent, accentOnDark])
    if (!/^#[0-9a-f]{6}$/i.test(color))
      throw new Error(`theme.js: ${color} is not a colour. Write six hexadecimal digits, such as #b23a1e.`);
  return `:root{--accent:${accent};--on-accent:#fff}\n@media (prefers-color-scheme:dark){:root{--accent:${accentOnDark};--on-accent:#1a0f0a}}\n`;
}
