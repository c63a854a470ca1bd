/** Tables as Go's tabwriter sets them: columns as wide as their widest cell, counted in characters, plus padding; the last cell is never padded. */
export function formatTable(rows: readonly (readonly string[])[], padding: number): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.slice(0, -1).entries()) widths[column] = Math.max(widths[column] ?? 0, [...cell].length + padding);
  }
  const lines = rows.map((row) =>
    row.map((cell, column) => (column === row.length - 1 ? cell : cell + " ".repeat(widths[column]! - [...cell].length))).join(""),
  );
  return lines.map((line) => `${line}\n`).join("");
}
