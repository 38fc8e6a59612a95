/** A column of a table. `flexible` columns give way when the terminal is narrow. */
export type Column<Row> = {
  title: string;
  value(row: Row): string;
  align?: "left" | "right";
  flexible?: boolean;
};

const GAP = "  ";
const NARROWEST = 8;

/** Lines of a table with a header. With `width`, flexible columns are cut (with `…`) until the lines fit; without, nothing is cut. */
export function renderTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[], width?: number): string[] {
  const cells = [
    columns.map(({ title }) => title),
    ...rows.map((row) => columns.map(({ value }) => oneLine(value(row)))),
  ];
  const natural = columns.map((_, index) => Math.max(...cells.map((line) => lengthOf(line[index] ?? ""))));
  const widths = width === undefined ? natural : fitWidths(natural, columns, width);
  return cells.map((line) =>
    line
      .map((cell, index) => pad(cut(cell, widths[index] ?? 0), widths[index] ?? 0, columns[index]?.align))
      .join(GAP)
      .trimEnd(),
  );
}

/** Takes the missing width from the widest flexible column, again and again. */
function fitWidths<Row>(natural: readonly number[], columns: readonly Column<Row>[], width: number): number[] {
  const widths = [...natural];
  const total = () => widths.reduce((sum, one) => sum + one, 0) + GAP.length * (widths.length - 1);
  for (;;) {
    const over = total() - width;
    const widest = widths.reduce((best, one, index) => {
      const mayShrink = columns[index]?.flexible === true && one > NARROWEST;
      return mayShrink && one > (widths[best] ?? 0) ? index : best;
    }, -1);
    if (over <= 0 || widest < 0) return widths;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
}

/** The text in at most `width` characters. */
export function cut(text: string, width: number): string {
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, Math.max(0, width - 1)).join("")}…`;
}

function pad(text: string, width: number, align: "left" | "right" = "left"): string {
  const space = " ".repeat(Math.max(0, width - lengthOf(text)));
  return align === "right" ? `${space}${text}` : `${text}${space}`;
}

const lengthOf = (text: string) => [...text].length;

/** What users wrote (a commit's subject) must not move the cursor or break the row. */
function oneLine(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
}
