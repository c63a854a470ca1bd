/** Objects as rows of text, which is what `kubectl get` prints: it knows no kinds, the server does. */
import type { Kind, PrinterColumn } from "../../../api/kinds/kind.ts";
import { fieldAt, type RawObject } from "../../../api/kinds/raw-fields.ts";
import { ageSince } from "./age.ts";

/** What of each object stands beside its row; clients ask by `includeObject`. */
export type RowObject = "None" | "Metadata" | "Object";

const nameColumn: PrinterColumn = { name: "Name", type: "string", jsonPath: ".metadata.name", description: "Name of the object" };

/** The name comes first, unless the kind has it elsewhere. */
function columnsOf({ columns }: Kind): readonly PrinterColumn[] {
  return columns.some(({ name }) => name === nameColumn.name) ? columns : [nameColumn, ...columns];
}

export function columnDefinitions(kind: Kind): unknown[] {
  return columnsOf(kind).map(({ name, type, description, priority = 0 }) => {
    return { name, type, format: name === nameColumn.name ? "name" : "", description, priority };
  });
}

export function tableOf(
  rows: readonly unknown[],
  kind: Kind,
  metadata: Record<string, unknown>,
  withColumns = true,
): Record<string, unknown> {
  return { kind: "Table", apiVersion: "meta.k8s.io/v1", metadata, columnDefinitions: withColumns ? columnDefinitions(kind) : null, rows };
}

export function rowOf(raw: RawObject, kind: Kind, include: RowObject, nowMs: number): Record<string, unknown> {
  const cells = columnsOf(kind).map((column) => cellOf(column, raw, nowMs));
  if (include === "None") return { cells };
  return { cells, object: include === "Object" ? raw : partialMetadata(raw) };
}

export function partialMetadata(raw: RawObject): Record<string, unknown> {
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: raw.metadata };
}

/** What is not there is an empty cell; lists and objects are JSON. */
function cellOf(column: PrinterColumn, raw: RawObject, nowMs: number): unknown {
  const value = column.jsonPath === undefined ? column.cell(raw) : fieldAt(raw, ...column.jsonPath.split(".").slice(1));
  if (column.type === "date") return ageSince(value, nowMs);
  if (value === undefined || value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : value;
}
