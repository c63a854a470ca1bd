/** YAML as Istio's commands print it: keys in the order that people count in, nothing folded. */
import { stringify } from "yaml";
import { isPlainObject } from "../schema/decode.ts";

export function yamlText(value: unknown): string {
  return stringify(sorted(value), { lineWidth: 0, indentSeq: false });
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isPlainObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => compareNaturally(a, b))
      .map(([key, one]) => [key, sorted(one)]),
  );
}

/** Punctuation before letters, and numbers by their value: `ISTIO_META_X` before `ISTIO_METAJSON`, `a9` before `a10`. */
export function compareNaturally(a: string, b: string): number {
  const [left, right] = [partsOf(a), partsOf(b)];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const [x, y] = [left[i]!, right[i]!];
    if (x === y) continue;
    const [isNumberX, isNumberY] = [/^\d/.test(x), /^\d/.test(y)];
    if (isNumberX && isNumberY && Number(x) !== Number(y)) return Number(x) - Number(y);
    const [isLetterX, isLetterY] = [/^\p{L}/u.test(x), /^\p{L}/u.test(y)];
    if (isLetterX !== isLetterY) return isLetterX ? 1 : -1;
    return x < y ? -1 : 1;
  }
  return left.length - right.length;
}

function partsOf(text: string): string[] {
  return text.match(/\d+|./gsu) ?? [];
}
