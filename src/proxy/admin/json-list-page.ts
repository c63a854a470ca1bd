/** An object that is one list, which may be long: as `jsonText` would write it, item by item. An empty list is left out, as a default is. */
import type { JsonValue } from "@bufbuild/protobuf";
import { jsonText } from "../../api/envoy/write-json.ts";

export function* jsonListPage(name: string, items: Iterable<JsonValue>): Generator<string, void> {
  let isEmpty = true;
  for (const item of items) {
    const start = isEmpty ? `{\n ${JSON.stringify(name)}: [\n  ` : ",\n  ";
    isEmpty = false;
    // Strings have no line breaks of their own.
    yield start + jsonText(item).replaceAll("\n", "\n  ");
  }
  yield isEmpty ? "{}" : "\n ]\n}";
}
