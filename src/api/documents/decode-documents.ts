/**
 * From a file's text to objects: multi-document YAML or JSON, `kind: List` taken apart. Each document stands on its own: what
 * is wrong with one is told with its line, and the others come through. The text is not trusted: size, nesting and aliases
 * are bounded.
 */
import { type Document, LineCounter } from "yaml";
import { ConfigError, type SourcePosition } from "../config-error.ts";
import type { ConfigObject, ObjectKey } from "../kinds/object.ts";
import { isPlainObject } from "../schema/decode.ts";
import { type DecodeOptions, decodeObject, type ForeignObject, unknownKindError } from "./decode-object.ts";
import { parseYamlDocument, resolvePlainScalar } from "./parse-yaml.ts";
import { toPlainValue } from "./plain-value.ts";
import { type PlainDocument, readPlainYaml } from "./read-plain-yaml.ts";
import { type KnownSource, positionAt, SourceLocator } from "./source-locator.ts";
import { type DocumentText, splitDocuments } from "./split-documents.ts";

export interface DecodeDocumentsOptions extends DecodeOptions {
  /** What to do with kinds that aren't ours: an error each (default), or `pass` to list them in `foreign`. */
  readonly unknownKinds?: "refuse" | "pass";
}

export interface DecodedDocuments {
  readonly objects: ConfigObject[];
  readonly errors: ConfigError[];
  readonly foreign: ForeignObject[];
  /** Objects that were recognised but have errors. */
  readonly brokenKeys: ObjectKey[];
  /** Whether there is a document of which not even the identity could be made out. */
  readonly hasUnidentified: boolean;
}

const locators = new WeakMap<ConfigObject, SourceLocator>();

/** Finds the lines of an object that was read from text; undefined for others. */
export function locatorOf(object: ConfigObject): SourceLocator | undefined {
  return locators.get(object);
}

export function decodeDocuments(text: string, file: string, options: DecodeDocumentsOptions = {}): DecodedDocuments {
  return mergeDecoded(splitDocuments(text).map((document) => decodeDocument(document, file, options)));
}

export function mergeDecoded(parts: readonly DecodedDocuments[]): DecodedDocuments {
  return {
    objects: parts.flatMap((part) => part.objects),
    errors: parts.flatMap((part) => part.errors),
    foreign: parts.flatMap((part) => part.foreign),
    brokenKeys: parts.flatMap((part) => part.brokenKeys),
    hasUnidentified: parts.some((part) => part.hasUnidentified),
  };
}

export function decodeDocument(source: DocumentText, file: string, options: DecodeDocumentsOptions = {}): DecodedDocuments {
  const plain = readPlainYaml(source.text, resolvePlainScalar);
  // Of a list each item has a place of its own, which only the whole parser tells.
  if (plain && !isList(plain.value)) return decodeValue(plain.value, source, file, { start: startOf(plain, source, file) }, options);

  const lines = new LineCounter();
  const document = parseYamlDocument(source.text, lines);
  if (typeof document === "string") return refused([atStart(document, source, file)]);
  if (document.errors.length > 0) {
    const errors = document.errors.slice(0, 10).map(
      (error) =>
        new ConfigError(syntaxMessage(error.code, error.message), {
          ...guessIdentity(document),
          position: positionAt(file, lines, error.pos[0], source.firstLine),
          cause: error,
        }),
    );
    return refused(errors);
  }
  const value = toPlainValue(document);
  if (value instanceof Error) return refused([atStart(value.message, source, file)]);
  return decodeValue(value, source, file, { document, lines }, options);
}

function refused(errors: ConfigError[]): DecodedDocuments {
  return { objects: [], errors, foreign: [], brokenKeys: [], hasUnidentified: true };
}

function startOf({ offset }: PlainDocument, { text, firstLine }: DocumentText, file: string): SourcePosition {
  let line = firstLine;
  for (let at = text.indexOf("\n"); at >= 0 && at < offset; at = text.indexOf("\n", at + 1)) line++;
  return { file, line, column: 1 };
}

function decodeValue(
  value: unknown,
  source: DocumentText,
  file: string,
  known: KnownSource,
  options: DecodeDocumentsOptions,
): DecodedDocuments {
  const result = {
    objects: [] as ConfigObject[],
    errors: [] as ConfigError[],
    foreign: [] as ForeignObject[],
    brokenKeys: [] as ObjectKey[],
  };
  // A document may hold nothing at all (`---` and a comment).
  if (value === null || value === undefined) return { ...result, hasUnidentified: false };

  let hasUnidentified = false;
  for (const { item, root } of itemsOf(value)) {
    const locator = new SourceLocator(file, source.text, source.firstLine, root, known);
    const decoded = decodeObject(item, options, locator);
    if (decoded.object) {
      locators.set(decoded.object, locator);
      result.objects.push(decoded.object);
    } else if (decoded.foreign && options.unknownKinds === "pass") {
      result.foreign.push(decoded.foreign);
    } else {
      result.errors.push(...(decoded.foreign ? [unknownKindError(decoded.foreign)] : decoded.errors));
      if (decoded.key && decoded.key.name !== "") result.brokenKeys.push(decoded.key);
      else hasUnidentified = true;
    }
    locator.release();
  }
  return { ...result, hasUnidentified };
}

/** `kind: List`, or `VirtualServiceList`. */
function isList(value: unknown): value is { readonly kind: string; readonly apiVersion?: unknown; readonly items: unknown[] } {
  return isPlainObject(value) && typeof value.kind === "string" && value.kind.endsWith("List") && Array.isArray(value.items);
}

/** A list holds objects in `items`; anything else is one object. */
function itemsOf(value: unknown): { item: unknown; root: (string | number)[] }[] {
  if (isList(value)) {
    const apiVersion = value.apiVersion;
    const itemKind = value.kind.slice(0, -"List".length);
    return value.items.map((item, index) => ({
      // Items of a typed list may leave out what the list says for all of them.
      item: isPlainObject(item) && itemKind !== "" ? { apiVersion, kind: itemKind, ...item } : item,
      root: ["items", index],
    }));
  }
  return [{ item: value, root: [] }];
}

function syntaxMessage(code: string, message: string): string {
  if (code === "DUPLICATE_KEY") return message;
  return `is not YAML: ${message.charAt(0).toLowerCase()}${message.slice(1)}`;
}

function atStart(message: string, source: DocumentText, file: string): ConfigError {
  return new ConfigError(message, { position: { file, line: source.firstLine } });
}

/** Broken text often still shows whose text it is. Good enough for a message, not for a decision. */
function guessIdentity(document: Document): { kind?: string; namespace?: string; name?: string } {
  const read = (path: string[]) => {
    try {
      const value = document.getIn(path);
      return typeof value === "string" ? value : undefined;
    } catch {
      return undefined;
    }
  };
  const [kind, namespace, name] = [read(["kind"]), read(["metadata", "namespace"]), read(["metadata", "name"])];
  return { ...(kind ? { kind } : {}), ...(namespace ? { namespace } : {}), ...(name ? { name } : {}) };
}
