import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, type Node } from "yaml";
import type { SourcePosition } from "../config-error.ts";
import { jsonName } from "../schema/decode.ts";
import type { FieldPath } from "../schema/field-report.ts";
import { parseYamlDocument } from "./parse-yaml.ts";

interface ParsedSource {
  readonly document: Document;
  readonly lines: LineCounter;
}

/** What is known of a document when it has just been read: its tree, or only where its value starts. */
export type KnownSource = ParsedSource | { readonly start: SourcePosition };

/**
 * Finds the line on which a field of an object stands. It keeps the document's text, not its syntax tree: a tree is some
 * thirty times larger, and positions are asked for only when something is wrong.
 */
export class SourceLocator {
  readonly #file: string;
  readonly #text: string;
  /** The line of the file on which the text starts, from 1. */
  readonly #firstLine: number;
  /** Where the object stands in its document: [] or, in a List, ["items", 3]. */
  readonly #root: FieldPath;
  #known: KnownSource | undefined;

  constructor(file: string, text: string, firstLine: number, root: FieldPath = [], known?: KnownSource) {
    this.#file = file;
    this.#text = text;
    this.#firstLine = firstLine;
    this.#root = root;
    this.#known = known;
  }

  /** Lets go of the syntax tree that the constructor was given. */
  release(): this {
    this.#known = undefined;
    return this;
  }

  /** The position of the field, or of the nearest field around it that is written. */
  locate(path: FieldPath): SourcePosition {
    const known = this.#known;
    if (known && "start" in known && path.length === 0 && this.#root.length === 0) return known.start;
    const parsed = known && "document" in known ? known : this.#parse();
    if (!parsed) return { file: this.#file, line: this.#firstLine };
    const offset = offsetOf(parsed.document, [...this.#root, ...path]);
    return positionAt(this.#file, parsed.lines, offset, this.#firstLine);
  }

  #parse(): ParsedSource | undefined {
    const lines = new LineCounter();
    const document = parseYamlDocument(this.#text, lines);
    return typeof document === "string" ? undefined : { document, lines };
  }
}

export function positionAt(file: string, lines: LineCounter, offset: number, firstLine: number): SourcePosition {
  const { line, col } = lines.linePos(offset);
  return { file, line: Math.max(line, 1) + firstLine - 1, column: Math.max(col, 1) };
}

function offsetOf(document: Document, path: FieldPath): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const key of path) {
    if (isAlias(node)) node = node.resolve(document);
    let next: unknown;
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && namesField(item.key.value, key));
      if (!pair) return offset;
      offset = startOf(pair.key) ?? offset;
      next = pair.value;
    } else if (isSeq(node) && typeof key === "number") {
      next = node.items[key];
      offset = startOf(next) ?? offset;
    } else {
      return offset;
    }
    node = next;
  }
  return offset;
}

function namesField(written: unknown, key: string | number): boolean {
  const text = String(written);
  return text === String(key) || jsonName(text) === key;
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? (node as Node).range?.[0] : undefined;
}
