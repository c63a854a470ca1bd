/**
 * JSON as `jsonText` writes it, in pieces: lists that may be long are made while they are written, item by item.
 */
import type { JsonValue } from "@bufbuild/protobuf";
import { jsonText } from "../../api/envoy/write-json.ts";

/** A list whose items are made when somebody wants them. As a field it is left out when it is empty, as a default is. */
export class LazyList<T extends LazyJson = LazyJson> {
  readonly items: Iterable<T>;

  constructor(items: Iterable<T>) {
    this.items = items;
  }
}

export type LazyJson = JsonValue | LazyList | LazyObject | readonly LazyObject[];

export interface LazyObject {
  readonly [field: string]: LazyJson;
}

/** @param levels how deep to look for what has to be written in pieces; what lies deeper is written whole. */
export function* jsonPieces(json: LazyJson, levels: number, indent = ""): Generator<string, void> {
  if (json instanceof LazyList) yield* list(json.items, levels, indent);
  else if (levels === 0 || typeof json !== "object" || json === null) {
    // Strings have no line breaks of their own.
    yield jsonText(json as JsonValue).replaceAll("\n", `\n${indent}`);
  } else if (Array.isArray(json)) yield* list(json as readonly LazyJson[], levels, indent);
  else yield* object(json as LazyObject, levels, indent);
}

function* list(items: Iterable<LazyJson>, levels: number, indent: string): Generator<string, void> {
  let isEmpty = true;
  for (const item of items) {
    yield `${isEmpty ? "[" : ","}\n${indent} `;
    isEmpty = false;
    yield* jsonPieces(item, levels - 1, `${indent} `);
  }
  yield isEmpty ? "[]" : `\n${indent}]`;
}

function* object(fields: LazyObject, levels: number, indent: string): Generator<string, void> {
  let isEmpty = true;
  for (const [name, value] of Object.entries(fields)) {
    const start = `${isEmpty ? "{" : ","}\n${indent} ${JSON.stringify(name)}: `;
    let isWritten = false;
    for (const piece of jsonPieces(value, levels - 1, `${indent} `)) {
      // The first piece of a list says whether it has any items.
      if (!isWritten && piece === "[]" && value instanceof LazyList) break;
      if (!isWritten) yield start;
      isWritten = true;
      yield piece;
    }
    if (isWritten) isEmpty = false;
  }
  yield isEmpty ? "{}" : `\n${indent}}`;
}
