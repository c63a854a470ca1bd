import { type Document, type LineCounter, parseDocument, type ScalarTag } from "yaml";

/** YAML 1.1's other booleans, which Kubernetes' parser (go-yaml 2) still takes: a manifest must mean the same here as there. */
const yesNo: ScalarTag = {
  tag: "tag:yaml.org,2002:bool",
  default: true,
  test: /^(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$/,
  resolve: (text) => /^(?:yes|on)$/i.test(text),
};

/**
 * Parses one YAML or JSON document with its positions: duplicate keys are errors, `<<` merges. Undefined when the text is
 * nested so deeply that the parser runs out of stack. Syntax errors are in `errors` of the document.
 */
export function parseYamlDocument(text: string, lineCounter: LineCounter): Document | undefined {
  try {
    const document = parseDocument(text, {
      lineCounter,
      uniqueKeys: true,
      merge: true,
      prettyErrors: false,
      logLevel: "silent",
      customTags: (tags) => [yesNo, ...tags],
    }) as unknown as Document;
    // The parser catches part of its own overflows and makes errors of them.
    return document.errors.some((error) => error.message.includes("call stack")) ? undefined : document;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
