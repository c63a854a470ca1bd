import type { Document } from "yaml";

/** Deeper nesting than this is refused; the deepest message of Istio's has 12 levels, an EnvoyFilter's values some 30. */
const maxDepth = 128;

/** The document's value, or why it can't be had. */
export function toPlainValue(document: Document): unknown {
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    if (error instanceof RangeError) return new Error("is nested too deeply");
    if (error instanceof ReferenceError)
      return new Error(error.message.includes("alias count") ? "its aliases expand to too much" : error.message);
    throw error;
  }
  return isTooDeep(value)
    ? new Error(`is nested too deeply, or an alias stands for what holds it: at most ${maxDepth} levels are read`)
    : value;
}

/** Anchors can make a value that holds itself; then it has no end, and is too deep like any other. */
function isTooDeep(value: unknown): boolean {
  let level: unknown[] = [value];
  let visited = 0;
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maxDepth || visited > 5_000_000) return true;
    const next: unknown[] = [];
    for (const item of level) {
      if (typeof item !== "object" || item === null) continue;
      for (const child of Object.values(item)) if (typeof child === "object" && child !== null) next.push(child);
    }
    visited += next.length;
    level = next;
  }
  return false;
}
