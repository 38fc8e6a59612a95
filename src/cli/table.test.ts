import { describe, expect, it } from "vitest";
import { type Column, renderTable } from "./table.ts";

type Row = { id: string; text: string; count: number };
const columns: Column<Row>[] = [
  { title: "ID", value: ({ id }) => id },
  { title: "TEXT", value: ({ text }) => text, flexible: true },
  { title: "N", value: ({ count }) => String(count), align: "right" },
];
const rows: Row[] = [
  { id: "a", text: "short", count: 1 },
  { id: "bb", text: "a text that is rather long", count: 100 },
];

describe("renderTable", () => {
  it("aligns columns under their titles, without spaces at the end", () => {
    expect(renderTable(rows, columns)).toEqual([
      "ID  TEXT                          N",
      "a   short                         1",
      "bb  a text that is rather long  100",
    ]);
  });

  it("cuts only flexible columns, and only as far as it must", () => {
    expect(renderTable(rows, columns, 25)).toEqual([
      "ID  TEXT                N",
      "a   short               1",
      "bb  a text that is …  100",
    ]);
  });

  it("keeps a readable rest of flexible columns when nothing fits", () => {
    expect(renderTable(rows, columns, 5)[2]).toBe("bb  a text …  100");
  });

  it("keeps a row on its line, whatever users wrote", () => {
    expect(renderTable([{ id: "x", text: "a\nb\u001b[2J\tc", count: 1 }], columns)[1]).toBe("x   a b [2J c  1");
  });
});
