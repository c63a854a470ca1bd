/** Path transformations of the connection manager: RFC 3986 normalisation, slashes, escaped slashes; reference 2.4. */

export type EscapedSlashesAction = "keep" | "reject" | "unescapeAndRedirect" | "unescapeAndForward";

export interface PathOptions {
  readonly normalizes: boolean;
  readonly mergesSlashes: boolean;
  readonly escapedSlashes: EscapedSlashesAction;
}

export type PathOutcome =
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "reject"; readonly path: string }
  | { readonly kind: "redirect"; readonly path: string };

const escapedSlash = /%2f|%5c/i;
const unreserved = /^[A-Za-z0-9\-._~]$/;

/** `written` begins with `/` and may carry a query, which nothing here touches. */
export function normalizePath(written: string, options: PathOptions): PathOutcome {
  if (written.indexOf("#") >= 0) return { kind: "reject", path: written };
  const queryAt = written.indexOf("?");
  let path = queryAt < 0 ? written : written.slice(0, queryAt);
  const query = queryAt < 0 ? "" : written.slice(queryAt);
  let redirects = false;
  if (options.escapedSlashes !== "keep" && escapedSlash.test(path)) {
    path = path.replace(/%2f/gi, "/").replace(/%5c/gi, "\\");
    if (options.escapedSlashes === "reject") return { kind: "reject", path: path + query };
    redirects = options.escapedSlashes === "unescapeAndRedirect";
  }
  if (options.normalizes) {
    const normal = canonical(path);
    if (normal === null) return { kind: "reject", path: path + query };
    path = normal;
  }
  if (options.mergesSlashes && path.indexOf("//") >= 0) path = path.replace(/\/{2,}/g, "/");
  return { kind: redirects ? "redirect" : "path", path: path + query };
}

/** Decodes unreserved characters, turns `\` into `/`, and resolves `.` and `..`. */
function canonical(path: string): string | null {
  if (!/[%\\]|\/\./.test(path)) return path;
  if (path.includes("%00")) return null;
  let decoded = "";
  for (let i = 0; i < path.length; i++) {
    const character = path[i]!;
    if (character === "\\") decoded += "/";
    else if (character === "%") {
      const hex = path.slice(i + 1, i + 3);
      if (!/^[0-9a-fA-F]{2}$/.test(hex)) {
        decoded += character;
        continue;
      }
      const code = String.fromCharCode(Number.parseInt(hex, 16));
      decoded += unreserved.test(code) ? code : `%${hex}`;
      i += 2;
    } else decoded += character;
  }
  const output: string[] = [];
  const segments = decoded.split("/");
  for (let i = 1; i < segments.length; i++) {
    const segment = segments[i]!;
    const isLast = i === segments.length - 1;
    if (segment === ".") {
      if (isLast) output.push("");
    } else if (segment === "..") {
      output.pop();
      if (isLast) output.push("");
    } else output.push(segment);
  }
  return `/${output.join("/")}`;
}
