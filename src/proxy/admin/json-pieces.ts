/**
 * JSON as `jsonText` writes it, in pieces: what may be long is made while it is written, item by item.
 */
import type { JsonValue } from "@bufbuild/protobuf";
import { jsonText } from "../../api/envoy/write-json.ts";

/** A list whose items are made when somebody wants them, once. As a field it is left out when it is empty, as a default is. */
export class LazyList<T extends LazyJson = LazyJson> {
  readonly items: Iterable<T>;

  constructor(items: Iterable<T>) {
    this.items = items;
  }
}

/** An object that has something lazy in it. */
export class LazyObject {
  readonly fields: Readonly<Record<string, LazyJson>>;

  constructor(fields: Readonly<Record<string, LazyJson>>) {
    this.fields = fields;
  }
}

export type LazyJson = JsonValue | LazyList | LazyObject;

/** What is not lazy is one piece. */
export function* jsonPieces(json: LazyJson, indent = ""): Generator<string, void> {
  if (json instanceof LazyList) yield* list(json.items, indent);
  else if (json instanceof LazyObject) yield* object(json.fields, indent);
  // Strings have no line breaks of their own.
  else yield jsonText(json).replaceAll("\n", `\n${indent}`);
}

function* list(items: Iterable<LazyJson>, indent: string): Generator<string, void> {
  let isEmpty = true;
  for (const item of items) {
    yield `${isEmpty ? "[" : ","}\n${indent} `;
    isEmpty = false;
    yield* jsonPieces(item, `${indent} `);
  }
  yield isEmpty ? "[]" : `\n${indent}]`;
}

function* object(fields: Readonly<Record<string, LazyJson>>, indent: string): Generator<string, void> {
  let isEmpty = true;
  for (const [name, value] of Object.entries(fields)) {
    let isWritten = false;
    for (const piece of jsonPieces(value, `${indent} `)) {
      // The first piece of a list says whether it has any items.
      if (!isWritten && piece === "[]" && value instanceof LazyList) break;
      if (!isWritten) yield `${isEmpty ? "{" : ","}\n${indent} ${JSON.stringify(name)}: `;
      isWritten = true;
      yield piece;
    }
    if (isWritten) isEmpty = false;
  }
  yield isEmpty ? "{}" : `\n${indent}}`;
}
