import { setImmediate as nextTurn } from "node:timers/promises";
import type { ConfigError } from "../api/config-error.ts";
import { type DecodedDocuments, decodeDocument, mergeDecoded } from "../api/documents/decode-documents.ts";
import { type DocumentText, splitDocuments } from "../api/documents/split-documents.ts";
import { type ConfigObject, keyOf } from "../api/kinds/object.ts";
import { validate } from "../api/validate.ts";

/** What a file says: objects that are valid, and what is wrong with the others. */
export interface FileContent extends DecodedDocuments {
  readonly warnings: readonly ConfigError[];
}

/** A document's result by its place and text, so that a change of one document in a large file costs one document's parsing. */
type DocumentCache = Map<string, FileContent>;

export interface ReadContent {
  readonly content: FileContent;
  readonly cache: DocumentCache;
}

/** Decodes and validates a file's text. Gives other work a turn now and then, for a large file takes seconds. */
export async function readContent(text: string, file: string, known: DocumentCache = new Map()): Promise<ReadContent> {
  const cache: DocumentCache = new Map();
  let turnStartedMs = performance.now();
  for (const document of splitDocuments(text)) {
    const key = `${document.firstLine}:${document.text}`;
    cache.set(key, known.get(key) ?? readDocument(document, file));
    if (performance.now() - turnStartedMs > 10) {
      await nextTurn();
      turnStartedMs = performance.now();
    }
  }
  const parts = [...cache.values()];
  return { content: { ...mergeDecoded(parts), warnings: parts.flatMap((part) => part.warnings) }, cache };
}

function readDocument(document: DocumentText, file: string): FileContent {
  const decoded = decodeDocument(document, file);
  const warnings: ConfigError[] = [];
  const errors = [...decoded.errors];
  const brokenKeys = [...decoded.brokenKeys];
  const objects: ConfigObject[] = [];
  for (const object of decoded.objects) {
    const result = validate(object);
    warnings.push(...result.warnings);
    errors.push(...result.errors);
    if (result.errors.length === 0) objects.push(object);
    else brokenKeys.push(keyOf(object));
  }
  return { ...decoded, objects, errors, brokenKeys, warnings };
}
