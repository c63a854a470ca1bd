/**
 * JSON of tokens and key sets, read as strictly as something must be that two parties judge: protobuf's Struct, which is what Envoy
 * reads them into, refuses names given twice, text that is no Unicode, numbers beyond a double and nesting without end, all of which
 * JSON.parse lets pass. (Envoy also takes single quotes and commas before a closing bracket; that is no JSON and is refused here.)
 */
import { isUtf8 } from "node:buffer";

export type JsonObject = { readonly [name: string]: unknown };

/** protobuf's limit for nested messages. */
const maxDepth = 100;

/** null for what is no JSON object; `null` stands for an empty one. */
export function parseStrictObject(bytes: Buffer): JsonObject | null {
  if (!isUtf8(bytes)) return null;
  const text = bytes.toString("utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) return null;
  // Each member has one colon in the text; where there are more of them than names, a name was given twice.
  return countMembers(value, 1) === countColons(text) ? (value as JsonObject) : null;
}

/** NaN, which equals nothing, for values that Struct has no room for. */
function countMembers(value: unknown, depth: number): number {
  switch (typeof value) {
    case "string":
      return value.isWellFormed() ? 0 : Number.NaN;
    case "number":
      return Number.isFinite(value) ? 0 : Number.NaN;
    case "object": {
      if (value === null) return 0;
      if (depth > maxDepth) return Number.NaN;
      let members = 0;
      if (Array.isArray(value)) for (const item of value) members += countMembers(item, depth + 1);
      else {
        for (const name of Object.keys(value)) {
          if (!name.isWellFormed()) return Number.NaN;
          members += 1 + countMembers((value as JsonObject)[name], depth + 1);
        }
      }
      return members;
    }
    default:
      return 0;
  }
}

/** Colons outside of strings; `text` is valid JSON. */
function countColons(text: string): number {
  let colons = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 58 /* : */) colons++;
    else if (code === 34 /* " */) {
      for (at++; text.charCodeAt(at) !== 34; at++) if (text.charCodeAt(at) === 92 /* \ */) at++;
    }
  }
  return colons;
}

/** Base64url with its padding or without, whitespace passed over and stray bits behind the last byte ignored, as in Envoy. null for other text. */
export function decodeBase64Url(text: string): Buffer | null {
  const plain = /\s/.test(text) ? text.replace(/\s+/g, "") : text;
  const match = /^([A-Za-z0-9_-]*)(={0,2})$/.exec(plain);
  if (match === null) return null;
  const [, digits, padding] = match as unknown as [string, string, string];
  const left = digits.length % 4;
  if (left === 1 || (padding !== "" && padding.length !== (4 - left) % 4)) return null;
  return Buffer.from(digits, "base64url");
}
