/** What the shop says and shows first. Change a line, push, and see it live. */
export const theme = {
  brand: "Solvane",
  headline: ["Made once.", "Drawn fairly."],
  intro:
    "Small editions from our own workroom. Everybody gets one entry, every draw can be checked, and nobody queues.",
  accent: "#b23a1e",
  accentOnDark: "#ff8a66",
};
