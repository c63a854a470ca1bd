/** What a prefix says of a rule: whether it has what the rule looks for, or where a match can still lie. */
import type { Found, Rule } from "./tag-rules.ts";

/** What a prefix leaves open of a rule. */
export type Verdict =
  /** The same with every ending: what was found in the prefix, if anything. */
  | { readonly kind: "settled"; readonly found: Found | undefined }
  /** It is looked for in the ending, which is as good as the whole name. */
  | { readonly kind: "ending" }
  /** It is looked for in the words of both, of which only these matter. */
  | { readonly kind: "words" }
  /**
   * As settled, unless the ending has in it what a match may end with; and then only if it has the texts that a match must have, one of
   * them, or completes it. Of each is said how much of it the prefix has at its end, in all the ways in which it does.
   */
  | {
      readonly kind: "open";
      readonly found: Found | undefined;
      readonly isEndKnown: boolean;
      readonly begun: readonly (readonly number[] | "whole")[];
    };

export function verdictOf({ find, looksAt }: Rule, prefix: string): Verdict {
  if ("tokens" in looksAt) return { kind: "words" };
  const { head, rest } = looksAt;
  if (!prefix.startsWith(head) && prefix.length >= head.length) return never;
  if (!rest) return unknown;
  const { isAnchoredAtStart, isAnchoredAtEnd, takesDots, literals } = rest;
  if (!takesDots) {
    // A match lies between two dots: within the prefix, or behind its last one.
    if (isAnchoredAtStart && isAnchoredAtEnd) return never;
    if (isAnchoredAtEnd) return inEnding;
    const found = find(prefix);
    return found || isAnchoredAtStart ? { kind: "settled", found } : inEnding;
  }
  const begun = literals.map((literal) => (prefix.includes(literal) ? ("whole" as const) : begunAtEnd(literal, prefix)));
  return isAnchoredAtEnd
    ? { kind: "open", found: undefined, isEndKnown: false, begun }
    : { kind: "open", found: find(prefix), isEndKnown: true, begun };
}

const never: Verdict = { kind: "settled", found: undefined };
const inEnding: Verdict = { kind: "ending" };
const unknown: Verdict = { kind: "open", found: undefined, isEndKnown: false, begun: ["whole"] };

/** How much of a text a prefix ends with, which is up to a dot. */
function begunAtEnd(literal: string, prefix: string): readonly number[] {
  const lengths: number[] = [];
  for (let dot = literal.indexOf("."); dot >= 0; dot = literal.indexOf(".", dot + 1)) {
    if (dot + 1 < literal.length && prefix.endsWith(literal.slice(0, dot + 1))) lengths.push(dot + 1);
  }
  return lengths;
}

/** The same for verdicts that leave the same open. */
export function keyOf(verdict: Verdict): string {
  switch (verdict.kind) {
    case "settled":
      return verdict.found ? "s" : "n";
    case "ending":
      return "e";
    case "words":
      return "w";
    case "open":
      return `${verdict.found ? "f" : "o"}${verdict.isEndKnown ? "k" : ""}${verdict.begun.join(":")}`;
    default:
      return verdict satisfies never;
  }
}
