/**
 * The YAML that most manifests are: block mappings and sequences of single-line scalars. It is read here some ten times faster than by
 * the whole parser, which takes most of the time until a control plane with thousands of objects serves.
 *
 * Whatever is not surely understood is left to the whole parser, as is everything that is wrong: so errors and their places are its, and
 * this file only has to be right about what it takes. That both agree is tested with mutated manifests (read-plain-yaml.test.ts).
 *
 * Left out: flow collections but `[]` and `{}`, block scalars, continued lines, anchors, tags, escapes, comments behind a value, quoted
 * keys, tabs, CR, all but ASCII, and a sequence item that begins another one.
 */

export interface PlainDocument {
  readonly value: Record<string, unknown>;
  /** Of the first key, from 0. */
  readonly offset: number;
}

/** What a plain scalar means, by the whole parser's own rules. */
export type ResolveScalar = (text: string) => unknown;

/** Larger ones have limits that the whole parser's caller checks. */
const maxBytes = 128 * 1024;
const maxDepth = 64;
/** The whole parser's limit for a key is 1024. */
const maxKeyLength = 512;

/** A key that needs no quotes, and what follows it on its line. */
const keyed = /^([A-Za-z][\w./-]*):(?: +(\S.*))?$/;
/** Single-line plain scalars that can't be anything else, colons aside. */
const plain = /^[\w./~+-](?:[\w ./~+:@%=,()*<>?!;$^&|-]*[\w./~+@%=,()*<>?!;$^&|-])?$/;
const quoted = /^(?:"([^"\\]*)"|'([^']*)')$/;

/** Undefined: to be read by the whole parser, which may find it wrong. */
export function readPlainYaml(text: string, resolve: ResolveScalar): PlainDocument | undefined {
  if (text.length > maxBytes || /[^\x20-\x7e\n]/.test(text)) return undefined;
  const reader = new PlainReader(text, resolve);
  try {
    return reader.read();
  } catch (error) {
    if (error === notPlain) return undefined;
    throw error;
  }
}

/** Thrown where the text leaves the subset. */
const notPlain = Symbol("not plain");

class PlainReader {
  readonly #text: string;
  readonly #resolve: ResolveScalar;
  /** Start of the line behind the current one. */
  #next = 0;
  /** Column and rest of the current line, -1 behind the last one; an item's key counts as a line that begins at the key. */
  #indent = -1;
  #rest = "";
  #offset = 0;

  constructor(text: string, resolve: ResolveScalar) {
    this.#text = text;
    this.#resolve = resolve;
  }

  read(): PlainDocument | undefined {
    this.#advance();
    // The rest of a `---` line has rules of its own.
    if (this.#indent !== 0) return undefined;
    const offset = this.#offset;
    const value = this.#mapping(0, 0);
    return this.#indent < 0 ? { value, offset } : undefined;
  }

  /** To the next line that is neither empty nor a comment. */
  #advance(): void {
    const text = this.#text;
    while (this.#next < text.length) {
      const start = this.#next;
      const newline = text.indexOf("\n", start);
      const end = newline < 0 ? text.length : newline;
      this.#next = end + 1;
      let at = start;
      while (at < end && text.charCodeAt(at) === 0x20) at++;
      if (at === end || text.charCodeAt(at) === 0x23) continue;
      this.#indent = at - start;
      this.#offset = at;
      this.#rest = text.slice(at, end).trimEnd();
      return;
    }
    this.#indent = -1;
    this.#rest = "";
  }

  #mapping(indent: number, depth: number): Record<string, unknown> {
    if (depth > maxDepth) throw notPlain;
    const value: Record<string, unknown> = {};
    while (this.#indent === indent && !this.#beginsItem()) {
      const match = keyed.exec(this.#rest);
      if (!match) throw notPlain;
      const key = match[1]!;
      // Twice the same is an error; `on` and its like are no text.
      if (key.length > maxKeyLength || Object.hasOwn(value, key) || this.#resolve(key) !== key) throw notPlain;
      const written = match[2];
      this.#advance();
      value[key] = written === undefined ? this.#nested(indent, depth + 1) : this.#scalar(written);
    }
    if (this.#indent > indent) throw notPlain;
    return value;
  }

  /** What stands below a key: deeper, a sequence also at the key's own column, or nothing. */
  #nested(indent: number, depth: number): unknown {
    if (this.#indent >= indent && this.#beginsItem()) return this.#sequence(this.#indent, depth);
    return this.#indent > indent ? this.#mapping(this.#indent, depth) : null;
  }

  #sequence(indent: number, depth: number): unknown[] {
    if (depth > maxDepth) throw notPlain;
    const items: unknown[] = [];
    while (this.#indent === indent && this.#beginsItem()) {
      const item = this.#rest.slice(1).trimStart();
      if (item === "" || item === "-" || item.startsWith("- ")) throw notPlain;
      if (keyed.test(item)) {
        // The keys of an item stand in the column of its first.
        this.#indent += this.#rest.length - item.length;
        this.#rest = item;
        items.push(this.#mapping(this.#indent, depth + 1));
      } else {
        this.#advance();
        items.push(this.#scalar(item));
      }
    }
    // Deeper would continue the item; further out it is the mapping's around it.
    if (this.#indent > indent) throw notPlain;
    return items;
  }

  #beginsItem(): boolean {
    return this.#rest === "-" || this.#rest.startsWith("- ");
  }

  #scalar(text: string): unknown {
    const match = quoted.exec(text);
    if (match) return match[1] ?? match[2];
    if (text === "[]") return [];
    if (text === "{}") return {};
    // `: ` would be a key, and `- ` an item.
    if (!plain.test(text) || text.includes(": ") || text === "-" || text.startsWith("- ")) throw notPlain;
    return this.#resolve(text);
  }
}
