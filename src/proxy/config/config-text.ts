/**
 * A configuration file's text as a JSON tree that remembers where everything stood.
 *
 * YAML keeps its line numbers through the parser. JSON goes through JSON.parse, which is fast and keeps none; only when
 * somebody asks for a place is it read again as YAML, of which JSON is a subset.
 */
import { readFileSync, statSync } from "node:fs";
import type { JsonValue } from "@bufbuild/protobuf";
import { LineCounter, type Node, parseDocument } from "yaml";
import { ConfigError, type SourcePosition } from "../../api/config-error.ts";
import type { FieldPath } from "../../api/envoy/read-json.ts";

/** A bootstrap is kilobytes; a mistaken file must not eat the memory. */
const maxYamlBytes = 16 * 1024 * 1024;
const maxJsonBytes = 64 * 1024 * 1024;
/** How much an alias may multiply: enough for honest anchors, far from a bomb. */
const maxAliasCount = 100;
/** protobuf's own limit for nested messages. */
const maxDepth = 100;

export interface ConfigText {
  readonly json: JsonValue;
  /** Where a path stands, or what of it exists. */
  locate(path: FieldPath): SourcePosition | undefined;
}

/** Throws ConfigError, in Envoy's words where it has some. */
export function loadConfigFile(path: string): ConfigText {
  const isJson = path.endsWith(".json");
  let text: string;
  try {
    const stat = statSync(path);
    if (stat.isDirectory()) throw new ConfigError(`Unable to read file: ${path}: it is a directory`);
    const limit = isJson ? maxJsonBytes : maxYamlBytes;
    if (stat.size > limit) throw new ConfigError(`Unable to read file: ${path}: it has ${stat.size} bytes, more than ${limit}`);
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new ConfigError(`Invalid path: ${path}`, { cause });
  }
  return parseConfigText(text, path);
}

/** `file` names the text in messages. */
export function parseConfigText(text: string, file: string): ConfigText {
  if (Buffer.byteLength(text) > maxJsonBytes) throw new ConfigError(`${file}: more than ${maxJsonBytes} bytes`);
  if (text.includes("\0"))
    throw new ConfigError("Unable to convert YAML as JSON: it holds NUL bytes, so it is no text", { position: { file, line: 1 } });
  const asJson = file.endsWith(".json") ? tryJson(text) : undefined;
  if (asJson !== undefined) {
    let parsed: ConfigText | undefined;
    return {
      json: asJson,
      locate(path) {
        parsed ??= parseYaml(text, file);
        return parsed.locate(path);
      },
    };
  }
  return parseYaml(text, file);
}

function tryJson(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined; // the YAML parser says what is wrong, and where
  }
}

function parseYaml(text: string, file: string): ConfigText {
  const lineCounter = new LineCounter();
  // Envoy's parser lets the last of equal keys win.
  const document = parseDocument(text, { lineCounter, uniqueKeys: false, merge: true });
  const error = document.errors[0];
  if (error) {
    const { line, col } = lineCounter.linePos(error.pos[0]);
    const reason = error.message.split("\n")[0]!.replace(/ at line \d+, column \d+:?$/, "");
    throw new ConfigError(`yaml: error at line ${line}, column ${col}: ${reason}`, { position: { file, line, column: col } });
  }
  let json: JsonValue;
  try {
    json = (document.toJS({ maxAliasCount }) ?? null) as JsonValue;
  } catch (cause) {
    throw new ConfigError(`Unable to convert YAML as JSON: ${(cause as Error).message}`, { cause, position: { file, line: 1 } });
  }
  if (isTooDeep(json, 0)) {
    throw new ConfigError(
      `Unable to convert YAML as JSON: too deeply nested, more than ${maxDepth} levels, or an alias stands for what holds it`,
      {
        position: { file, line: 1 },
      },
    );
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new ConfigError(`Unable to convert YAML as JSON: ${text.slice(0, 200)}`, { position: { file, line: 1 } });
  }
  return {
    json,
    locate(path) {
      for (let length = path.length; length >= 0; length--) {
        const node = document.getIn(path.slice(0, length), true) as Node | undefined;
        if (!node?.range) continue;
        const { line, col } = lineCounter.linePos(node.range[0]);
        return { file, line, column: col };
      }
      return undefined;
    },
  };
}

/** An anchor can make a value that holds itself: it has no end, and is too deep like any other. */
function isTooDeep(value: JsonValue, depth: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return depth > maxDepth || Object.values(value).some((child) => isTooDeep(child, depth + 1));
}
