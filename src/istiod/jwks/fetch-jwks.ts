/** The keys of a source, over HTTP: at once, or by way of the issuer's OpenID Connect document. */
import type { JwksSource } from "./jwks-source.ts";
import { problemOfJwks } from "./usable-keys.ts";

/** Resolves with the text of a document; rejects with an Error. */
export type FetchText = (url: string, timeoutMs: number) => Promise<string>;

/** A key set that proxies can use, and nothing else of what the server said. Throws an Error whose message says what was wrong. */
export async function fetchJwks(source: JwksSource, fetchText: FetchText): Promise<string> {
  const url = source.kind === "keys" ? source.url : jwksUriOf(await fetchText(source.url, source.timeoutMs));
  const text = await fetchText(url, source.timeoutMs);
  const problem = problemOfJwks(text);
  if (problem) throw new Error(`the answer ${problem}`);
  const document = JSON.parse(text) as Record<string, unknown>;
  // Beside `keys` there may be anything; a map of certificates has no such field.
  return JSON.stringify("keys" in document ? { keys: document.keys } : document);
}

function jwksUriOf(text: string): string {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new Error("the issuer's document is not JSON", { cause: error });
  }
  const uri = typeof document === "object" && document !== null && "jwks_uri" in document ? document.jwks_uri : undefined;
  if (typeof uri !== "string" || !URL.canParse(uri)) throw new Error("the issuer's document names no jwks_uri");
  return uri;
}
