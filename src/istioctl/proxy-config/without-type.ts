import type { JsonObject } from "../output/json-fields.ts";

/** A message that stood in an Any, by itself. */
export function withoutType({ "@type": _, ...message }: JsonObject): JsonObject {
  return message;
}
