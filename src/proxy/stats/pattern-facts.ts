/**
 * What can be said of a regular expression's matches without trying it: how they begin, what they certainly contain, by which characters
 * they end. A million names are told apart by some ten thousand beginnings and a hundred endings; a rule of which it is known that it
 * can't fit an ending is not tried with each name that has it.
 *
 * The expression is read as a row of elements that takes all that the expression takes, and perhaps more. So what is said to be
 * impossible is; of what is beyond this reader nothing is said but how it begins.
 */

export interface PatternFacts {
  /** All that match begin with it; "" where they may begin within the text. */
  readonly head: string;
  /** The rest is known only where the whole expression could be read. */
  readonly rest: {
    readonly isAnchoredAtStart: boolean;
    readonly isAnchoredAtEnd: boolean;
    /** Whether a match may have a dot in it. */
    readonly takesDots: boolean;
    /** Every match has one of these texts in it, perhaps "". */
    readonly literals: readonly string[];
    /** Whether a match may end with this character. */
    readonly mayEndWith: (character: string) => boolean;
  } | null;
}

interface Element {
  readonly has: (character: string) => boolean;
  /** Exactly this, once. */
  readonly literal?: string;
  readonly isOptional: boolean;
}

class Unreadable extends Error {}

export function patternFacts(pattern: string): PatternFacts {
  const alternatives = alternativesOf(pattern).map(factsOf);
  if (alternatives.length === 1) return alternatives[0]!;
  const rests = alternatives.map(({ rest }) => rest);
  if (!rests.every((rest) => rest !== null)) return { head: "", rest: null };
  const isAnchoredAtStart = rests.every((rest) => rest.isAnchoredAtStart);
  const isAnchoredAtEnd = rests.some((rest) => rest.isAnchoredAtEnd);
  // Where a match lies follows from having no dots only if all of them are anchored alike.
  const isAlike = rests.every((rest) => rest.isAnchoredAtStart === isAnchoredAtStart && rest.isAnchoredAtEnd === isAnchoredAtEnd);
  return {
    head: "",
    rest: {
      isAnchoredAtStart,
      isAnchoredAtEnd,
      takesDots: !isAlike || rests.some(({ takesDots }) => takesDots),
      literals: rests.flatMap(({ literals }) => literals),
      mayEndWith: (character) => rests.some(({ mayEndWith }) => mayEndWith(character)),
    },
  };
}

/** Of an expression without alternatives, except in groups. */
function factsOf(pattern: string): PatternFacts {
  const isAnchoredAtStart = pattern.startsWith("^");
  const reader = new Reader(pattern, isAnchoredAtStart ? 1 : 0);
  let isReadable = true;
  try {
    reader.readWhole();
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    isReadable = false;
  }
  const { elements, isAnchoredAtEnd } = reader;
  return {
    head: isAnchoredAtStart ? literalFrom(elements, 0) : "",
    rest: isReadable
      ? {
          isAnchoredAtStart,
          isAnchoredAtEnd,
          takesDots: elements.some(({ has }) => has(".")),
          literals: [elements.map((_, index) => literalFrom(elements, index)).reduce((a, b) => (b.length > a.length ? b : a), "")],
          mayEndWith: lastCharacters(elements),
        }
      : null,
  };
}

function literalFrom(elements: readonly Element[], start: number): string {
  let text = "";
  for (let index = start; elements[index]?.literal !== undefined; index++) text += elements[index]!.literal;
  return text;
}

/** One that may match nothing at all may end anywhere. */
function lastCharacters(elements: readonly Element[]): (character: string) => boolean {
  const last = elements.findLastIndex(({ isOptional }) => !isOptional);
  if (last < 0) return () => true;
  const candidates = elements.slice(last);
  return (character) => candidates.some(({ has }) => has(character));
}

/** Of a sequence; what was read before something unreadable stays in `elements`, and is true of every match. */
class Reader {
  elements: Element[] = [];
  isAnchoredAtEnd = false;
  readonly #pattern: string;
  #at: number;

  constructor(pattern: string, at: number) {
    this.#pattern = pattern;
    this.#at = at;
  }

  readWhole(): void {
    this.#sequence();
    if (this.#at < this.#pattern.length) throw new Unreadable();
  }

  #sequence(): void {
    for (let next = this.#peek(); next !== "" && next !== ")" && next !== "|"; next = this.#peek()) {
      if (next === "$" && this.#at === this.#pattern.length - 1) {
        this.isAnchoredAtEnd = true;
        this.#at++;
        return;
      }
      const read = next === "(" ? this.#group() : [this.#atom()];
      const count = this.#quantifier();
      if (count === "once") this.elements.push(...read);
      else this.elements.push(...read.map(({ has, isOptional }) => ({ has, isOptional: isOptional || count === "perhaps" })));
    }
  }

  /** A group of one alternative is its elements; of several, what any of them has, as often as it likes. */
  #group(): readonly Element[] {
    this.#at++;
    const kind = /^\?(?::|P?<[A-Za-z_]\w*>)/.exec(this.#pattern.slice(this.#at));
    if (kind) this.#at += kind[0].length;
    else if (this.#peek() === "?") throw new Unreadable();
    const outer = this.elements;
    const alternatives: Element[][] = [];
    try {
      do {
        if (this.#peek() === "|") this.#at++;
        this.elements = [];
        this.#sequence();
        alternatives.push(this.elements);
      } while (this.#peek() === "|");
    } finally {
      this.elements = outer;
    }
    if (this.#peek() !== ")") throw new Unreadable();
    this.#at++;
    if (alternatives.length === 1) return alternatives[0]!;
    const all = alternatives.flat();
    return [{ has: (character) => all.some(({ has }) => has(character)), isOptional: true }];
  }

  #atom(): Element {
    const character = this.#take();
    switch (character) {
      case ".":
        return { has: () => true, isOptional: false };
      case "[":
        return { has: this.#characterClass(), isOptional: false };
      case "\\":
        return this.#escape(this.#take());
      case "*":
      case "+":
      case "?":
      case "{":
      case "^":
      case "$":
        throw new Unreadable();
      default:
        return literally(character);
    }
  }

  #escape(character: string): Element {
    if (/[dws]/i.test(character)) return { has: tester(`\\${character}`), isOptional: false };
    if (character === "" || /[A-Za-z0-9]/.test(character)) throw new Unreadable();
    return literally(character);
  }

  #characterClass(): (character: string) => boolean {
    const found = /^\^?(?:\[:\w+:\]|\\[^A-Za-z0-9]|\\[dwsDWS]|[^\\\]])+\]/.exec(this.#pattern.slice(this.#at));
    if (!found || /^\^?\]/.test(found[0])) throw new Unreadable();
    this.#at += found[0].length;
    const known = posixClasses(found[0]);
    if (known.includes("[:")) throw new Unreadable();
    return tester(`[${known}`);
  }

  #quantifier(): "once" | "perhaps" | "repeated" {
    const found = /^(?:[*+?]|\{(\d+)(?:,\d*)?\})\??/.exec(this.#pattern.slice(this.#at));
    if (!found) return "once";
    this.#at += found[0].length;
    return found[0].startsWith("*") || found[0].startsWith("?") || Number(found[1] ?? 1) === 0 ? "perhaps" : "repeated";
  }

  #peek(): string {
    return this.#pattern.charAt(this.#at);
  }

  #take(): string {
    return this.#pattern.charAt(this.#at++);
  }
}

/** Outside of groups. */
function alternativesOf(pattern: string): string[] {
  const alternatives: string[] = [];
  let depth = 0;
  let start = 0;
  for (const { 0: token, index } of pattern.matchAll(/\\.|\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\]|[()|]/gs)) {
    if (token === "(") depth++;
    else if (token === ")") depth--;
    else if (token === "|" && depth === 0) {
      alternatives.push(pattern.slice(start, index));
      start = index + 1;
    }
  }
  return [...alternatives, pattern.slice(start)];
}

function literally(character: string): Element {
  return { has: (other) => other === character, literal: character, isOptional: false };
}

function tester(source: string): (character: string) => boolean {
  let regex: RegExp;
  try {
    regex = new RegExp(`^${source}$`, "s");
  } catch {
    throw new Unreadable();
  }
  return (character) => regex.test(character);
}

const classes: Readonly<Record<string, string>> = { digit: "0-9", alpha: "A-Za-z", alnum: "A-Za-z0-9", space: "\\s" };

/** `[:digit:]` and the like, which JavaScript lacks, in its words. */
export function posixClasses(pattern: string): string {
  return pattern.replaceAll(/\[:(\w+):\]/g, (whole, name: string) => classes[name] ?? whole);
}
