/** Query parameters as rate limits see them: percent-decoded, which routes don't see them as. Of a repeated name the first counts. */

export function decodedQueryParameter(path: string, name: string): string | undefined {
  for (const [key, value] of parametersOf(path)) if (decode(key) === name) return decode(value);
  return undefined;
}

function* parametersOf(path: string): Generator<readonly [key: string, value: string]> {
  const query = path.indexOf("?");
  if (query < 0) return;
  const fragment = path.indexOf("#", query);
  for (const part of path.slice(query + 1, fragment < 0 ? undefined : fragment).split("&")) {
    const equals = part.indexOf("=");
    yield equals < 0 ? [part, ""] : [part.slice(0, equals), part.slice(equals + 1)];
  }
}

/** Bytes by latin1 characters, as headers are. What is no encoding stays, and so does a plus. */
function decode(text: string): string {
  return text.includes("%") ? text.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))) : text;
}
