/** The body of a request: JSON, YAML where it is announced, or the protobuf that kubectl prefers for Kubernetes' own kinds. Nothing of it is trusted. */
import type { IncomingMessage } from "node:http";
import { LineCounter } from "yaml";
import { parseYamlDocument } from "../../api/documents/parse-yaml.ts";
import { toPlainValue } from "../../api/documents/plain-value.ts";
import { decodeEnvelope, protobufMediaType } from "./protobuf/decode-envelope.ts";
import { ApiError } from "./status.ts";

/** Kubernetes' own limit. */
export const maxBodyBytes = 3 * 1024 * 1024;
/** Deeper than any object is; bounds the recursion of all that goes through one. */
const maxDepth = 100;

const yamlMediaTypes: ReadonlySet<string> = new Set(["application/yaml", "application/x-yaml", "application/apply-patch+yaml"]);

export interface Body {
  /** Without parameters, lower case; "" when there is none. */
  readonly mediaType: string;
  /** Undefined when there is no body. */
  readonly value: unknown;
}

/** Throws ApiError. */
export async function readBody(request: IncomingMessage): Promise<Body> {
  const bytes = await readBytes(request);
  const mediaType = (request.headers["content-type"] ?? "").split(";", 1)[0]!.trim().toLowerCase();
  if (bytes.length === 0) return { mediaType, value: undefined };
  const value = parse(bytes, mediaType);
  checkDepth(value);
  return { mediaType, value };
}

/** As it is. Throws ApiError when it is too large. */
export async function readBytes(request: IncomingMessage): Promise<Buffer> {
  const tooLarge = () =>
    new ApiError(413, `Request entity too large: limit is ${maxBodyBytes}`, {
      details: { causes: [{ reason: "", message: "limit exceeded" }] },
    });
  if (Number(request.headers["content-length"] ?? 0) > maxBodyBytes) throw tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBodyBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}

function parse(bytes: Buffer, mediaType: string): unknown {
  if (mediaType === protobufMediaType) return decodeEnvelope(bytes);
  const text = bytes.toString("utf8");
  if (yamlMediaTypes.has(mediaType) && !/^\s*[[{]/.test(text)) return parseYaml(text);
  if (mediaType !== "" && !/^application\/(?:.+\+)?(?:json|yaml|x-yaml)$/.test(mediaType)) {
    throw new ApiError(
      415,
      `the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, ${protobufMediaType}`,
    );
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ApiError(400, `the object provided is unrecognized: it is not JSON: ${(error as Error).message}`);
  }
}

function parseYaml(text: string): unknown {
  const document = parseYamlDocument(text, new LineCounter());
  const value = typeof document === "string" ? new Error(document) : (document.errors[0] ?? toPlainValue(document));
  if (value instanceof Error) throw new ApiError(400, `the object provided is unrecognized: it is not YAML: ${value.message}`);
  return value;
}

/** Level by level, without recursion. A key `__proto__` is no field of any kind's. */
function checkDepth(value: unknown): void {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maxDepth) throw new ApiError(400, `the object is nested deeper than ${maxDepth} levels`);
    const next: unknown[] = [];
    for (const item of level) {
      if (typeof item !== "object" || item === null) continue;
      if (Object.hasOwn(item, "__proto__")) throw new ApiError(400, 'the object has a key "__proto__"');
      for (const child of Object.values(item)) if (typeof child === "object" && child !== null) next.push(child);
    }
    level = next;
  }
}
