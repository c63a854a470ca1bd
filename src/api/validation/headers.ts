import type { Headers } from "../kinds/virtual-service.ts";
import type { FieldReport } from "../schema/field-report.ts";

/** RFC 9110 section 5.6.2. */
const token = /^[!#$%&'*+\-.^_`|~A-Za-z0-9]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: a header's value is defined by the ones it can't have
const forbiddenInValue = /[\0-\x08\x0a-\x1f\x7f]/;
const pseudoHeaders = new Set([":method", ":scheme", ":authority", ":path", ":status"]);

export function isHeaderName(name: string): boolean {
  return token.test(name);
}

/** The prefix of header names that stand for claims of the request's token: `@request.auth.claims.sub`. */
export const claimPrefix = "@request.auth.claims";

/** A name to match by: a header, a pseudo header or a claim. */
export function checkMatchedHeader(name: string, report: FieldReport): void {
  if (name.startsWith(claimPrefix) || pseudoHeaders.has(name) || isHeaderName(name)) return;
  report.error(`${JSON.stringify(name)} is not a header's name`);
}

export function checkHeaderOperations(headers: Headers | undefined, report: FieldReport): void {
  const { request, response } = headers ?? {};
  for (const operation of ["set", "add"] as const) {
    for (const [name, value] of Object.entries(request?.[operation] ?? {})) {
      const place = report.at("request", operation, name);
      checkChangedHeader(name, place, { mayBeAuthority: true });
      checkHeaderValue(value, place);
    }
    for (const [name, value] of Object.entries(response?.[operation] ?? {})) {
      const place = report.at("response", operation, name);
      checkChangedHeader(name, place, { mayBeAuthority: false });
      checkHeaderValue(value, place);
    }
  }
  for (const side of ["request", "response"] as const) {
    for (const [index, name] of (headers?.[side]?.remove ?? []).entries()) {
      checkChangedHeader(name, report.at(side, "remove", index), { mayBeAuthority: false });
    }
  }
}

/** Names of the request's authority among those that are set or added. */
export function isAuthorityHeader(name: string): boolean {
  return /^(:authority|host)$/i.test(name);
}

function checkChangedHeader(name: string, report: FieldReport, options: { readonly mayBeAuthority: boolean }): void {
  if (name === "") report.error("a header's name can't be empty");
  else if (isAuthorityHeader(name)) {
    if (!options.mayBeAuthority) report.error(`${JSON.stringify(name)} can't be changed here`);
  } else if (name.startsWith(":")) report.error(`${JSON.stringify(name)} is a pseudo header and can't be changed`);
}

/** Envoy's format: text with %COMMAND%, %COMMAND(arguments)% and %% for a percent sign. */
function checkHeaderValue(value: string, report: FieldReport): void {
  if (forbiddenInValue.test(value)) report.error("a header's value can't hold control characters");
  const problem = commandProblem(value);
  if (problem) report.error(`${JSON.stringify(value)} is not a header's value: ${problem}`);
}

function commandProblem(value: string): string | undefined {
  for (let at = value.indexOf("%"); at >= 0; at = value.indexOf("%", at)) {
    if (value[at + 1] === "%") {
      at += 2;
      continue;
    }
    const end = endOfCommand(value, at + 1);
    if (end === undefined) return `the "%" at position ${at + 1} begins no complete command; a percent sign itself is "%%"`;
    at = end;
  }
  return undefined;
}

/** The position after the command's closing `%`; `start` is after its opening one. */
function endOfCommand(value: string, start: number): number | undefined {
  const name = /^[^%(]*/.exec(value.slice(start)) as RegExpExecArray;
  let at = start + name[0].length;
  if (value[at] === "(") {
    const argument = /^\((?:\\.|[^)\\])*\) */.exec(value.slice(at));
    if (!argument) return undefined;
    at += argument[0].length;
  }
  return value[at] === "%" ? at + 1 : undefined;
}
