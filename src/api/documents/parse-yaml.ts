import {
  type Document,
  isCollection,
  isMap,
  isPair,
  isScalar,
  type LineCounter,
  type Node,
  parseDocument,
  type ScalarTag,
  Schema,
  YAMLParseError,
} from "yaml";

/**
 * Bounds on one document: a syntax tree takes about a kilobyte for each key, value and item, so that a few megabytes of short
 * items would take all memory there is. An object of Kubernetes' can't be larger than 1.5 MiB.
 */
const maxDocumentBytes = 4 * 1024 * 1024;
const maxMarks = 200_000;

/** YAML 1.1's other booleans, which Kubernetes' parser (go-yaml 2) still takes: a manifest must mean the same here as there. */
const yesNo: ScalarTag = {
  tag: "tag:yaml.org,2002:bool",
  default: true,
  test: /^(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$/,
  resolve: (text) => /^(?:yes|on)$/i.test(text),
};

const schema = new Schema({ schema: "core", merge: true, resolveKnownTags: true, customTags: (tags) => [yesNo, ...tags] });
const scalarTags = schema.tags.filter((tag): tag is ScalarTag => !tag.collection && tag.default === true && tag.test !== undefined);

/** What a plain scalar means: a number, true, null ... or the text itself. */
export function resolvePlainScalar(text: string): unknown {
  // Nothing but text begins otherwise.
  if (!/^[-+.\d~nNtTfFyYoO]/.test(text)) return text;
  const tag = scalarTags.find(({ test }) => test!.test(text));
  if (!tag) return text;
  const value = tag.resolve(text, () => {}, {});
  return isScalar(value) ? value.value : value;
}

/**
 * Parses one YAML or JSON document with its positions: duplicate keys are errors, `<<` merges. Syntax errors are in `errors`
 * of the document; the result is a string, the reason, when the text isn't parsed at all.
 */
export function parseYamlDocument(text: string, lineCounter: LineCounter): Document | string {
  if (text.length > maxDocumentBytes)
    return `is larger than ${maxDocumentBytes / 1024 / 1024} MiB: separate the objects of a large list by "---"`;
  if (countMarks(text) > maxMarks) return `has more than ${maxMarks} lines and items: separate the objects of a large list by "---"`;
  try {
    const document = parseDocument(text, {
      lineCounter,
      // The parser's own check compares each key with each other one.
      uniqueKeys: false,
      schema,
      prettyErrors: false,
      logLevel: "silent",
    }) as unknown as Document;
    // The parser catches part of its own overflows and makes errors of them.
    if (document.errors.some((error) => error.message.includes("call stack"))) return "is nested too deeply";
    if (document.errors.length === 0) document.errors.push(...duplicateKeys(document));
    return document;
  } catch (error) {
    if (error instanceof RangeError) return "is nested too deeply";
    throw error;
  }
}

/** Ends of lines and what opens or separates items within one; no node comes about without one of them. */
function countMarks(text: string): number {
  let marks = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    // Newline, comma, [ and {.
    if (code === 0x0a || code === 0x2c || code === 0x5b || code === 0x7b) marks++;
  }
  return marks;
}

function duplicateKeys(document: Document): YAMLParseError[] {
  const errors: YAMLParseError[] = [];
  const open: unknown[] = [document.contents];
  while (open.length > 0) {
    const node = open.pop();
    if (!isCollection(node)) continue;
    const keys = new Set<string>();
    for (const item of node.items) {
      open.push(isPair(item) ? item.value : item);
      if (!isMap(node) || !isPair(item) || !isScalar(item.key) || item.key.value === "<<") continue;
      const key = String(item.key.value);
      if (keys.has(key)) {
        const [start = 0, end = start] = (item.key as Node).range ?? [];
        errors.push(new YAMLParseError([start, end], "DUPLICATE_KEY", `key ${JSON.stringify(key)} is given twice`));
      }
      keys.add(key);
    }
  }
  return errors;
}
