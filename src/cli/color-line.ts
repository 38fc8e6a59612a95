import type { Colors } from "picocolors/types.js";

/** Gives a narrated line its colour by its sign: the text is the same as in a `git push`. */
export function colorLine(line: string, colors: Colors): string {
  const indent = line.length - line.trimStart().length;
  const [sign = "", rest] = [[...line.trimStart()][0], line.slice(indent + 1)];
  const before = line.slice(0, indent);
  switch (sign) {
    case "✓":
      return `${before}${colors.green(sign)}${rest}`;
    case "✗":
      return `${before}${colors.red(sign)}${rest}`;
    case "!":
      return `${before}${colors.yellow(sign)}${rest}`;
    case "→":
      return `${before}${colors.cyan(sign)}${rest}`;
    case "…":
      return colors.dim(line);
    default:
      return line.startsWith("    ") ? colors.dim(line) : line;
  }
}
