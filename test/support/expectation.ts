/**
 * What a request of a conformance case must lead to, in any proxy. A comparison alone is content with two proxies that are wrong in the same
 * way; this is not.
 *
 *     expect: { status: 200, from: up, headers: { x-a: "1", x-gone: null }, body: fragment }
 *     expect: { status: 504, sees: { count: 1 } }        an upstream saw it, and the proxy answered
 *     expect: { refused: ECONNRESET }                    no connection, or none that stays
 *
 * Unless `from` or `sees` says so, no upstream may have seen anything.
 */
import type { DescribedRequest, Outcome } from "./exchange.ts";

export interface Expectation {
  /** Of every response; 200 with `repeat` means all of them. */
  readonly status?: number;
  /** Name of the upstream that answered; of repeated requests, of all that did. */
  readonly from?: string | readonly string[];
  /** Of the responses, by lower-case name; null: is not there. */
  readonly headers?: Readonly<Record<string, string | null>>;
  /** Something that the body holds; "" for an empty body. */
  readonly body?: string;
  /** What upstreams saw: so many requests (default one per answer of theirs), each with this line and these headers. */
  readonly sees?: {
    readonly line?: string;
    readonly headers?: Readonly<Record<string, string | null>>;
    readonly body?: string;
    readonly count?: number;
  };
  /** Error by which a connection fails. */
  readonly refused?: string;
  /** Common name of the certificate shown, and TLS version. */
  readonly certificate?: string;
  readonly tls?: "TLSv1.2" | "TLSv1.3";
  /** Bytes that came outside HTTP. */
  readonly rest?: string;
  readonly connection?: "open" | "close";
}

/** What came of a request, or of its repetitions. */
export interface Effect {
  readonly outcomes: readonly Outcome[];
  readonly seen: readonly { readonly upstream: string; readonly request: DescribedRequest }[];
}

/** Empty when all holds. */
export function problemsOf(effect: Effect, expectation: Expectation | undefined): string[] {
  if (!expectation) return ["nothing is expected of this request"];
  const problems = effect.outcomes.flatMap((outcome) => problemsOfOutcome(outcome, expectation));
  return [...new Set([...problems, ...problemsOfUpstreams(effect, expectation)])];
}

function problemsOfOutcome(outcome: Outcome, expected: Expectation): string[] {
  const problems: string[] = [];
  const compare = (what: string, is: unknown, wanted: unknown) => {
    if (is !== wanted) problems.push(`${what}: ${JSON.stringify(is)} instead of ${JSON.stringify(wanted)}`);
  };
  compare("refused", outcome.refused, expected.refused);
  if (expected.refused !== undefined) return problems;
  if (expected.certificate !== undefined) compare("certificate", outcome.certificate, expected.certificate);
  if (expected.tls !== undefined) compare("TLS version", outcome.protocol?.split(" ")[0], expected.tls);
  if (expected.connection !== undefined) compare("connection", outcome.connection, expected.connection);
  compare("bytes outside HTTP", outcome.rest, expected.rest);
  compare("number of responses", outcome.responses.length, expected.status === undefined ? 0 : 1);
  for (const { status, headers, body } of outcome.responses) {
    compare("status", Number(status.split(" ")[1]), expected.status);
    compareHeaders("response", headers, expected.headers ?? {}, compare);
    if (expected.body === "" ? body !== "" : !body.includes(expected.body ?? ""))
      problems.push(`body: ${JSON.stringify(body.slice(0, 200))} instead of ${JSON.stringify(expected.body)}`);
  }
  return problems;
}

function problemsOfUpstreams({ outcomes, seen }: Effect, { from, sees = {} }: Expectation): string[] {
  const problems: string[] = [];
  const compare = (what: string, is: unknown, wanted: unknown) => {
    if (JSON.stringify(is) !== JSON.stringify(wanted)) problems.push(`${what}: ${JSON.stringify(is)} instead of ${JSON.stringify(wanted)}`);
  };
  const answering = outcomes.flatMap(({ responses }) => responses.map(({ headers }) => headerOf(headers, "x-upstream")));
  const names = from === undefined ? [null] : typeof from === "string" ? [from] : from;
  compare("answered by", [...new Set(answering)].sort(), answering.length === 0 ? [] : [...names].sort());
  compare("requests upstream", seen.length, sees.count ?? (from === undefined ? 0 : outcomes.length));
  for (const { request } of seen) {
    if (sees.line !== undefined) compare("line upstream", request.line, sees.line);
    if (sees.body !== undefined) compare("body upstream", request.body, sees.body);
    compareHeaders("upstream", request.headers, sees.headers ?? {}, compare);
  }
  return problems;
}

type Compare = (what: string, is: unknown, wanted: unknown) => void;

function compareHeaders(where: string, lines: readonly string[], wanted: Readonly<Record<string, string | null>>, compare: Compare): void {
  for (const [name, value] of Object.entries(wanted)) compare(`${where} header ${name}`, headerOf(lines, name), value);
}

/** Values of all lines of that name, joined as HTTP does; null when there is none. */
function headerOf(lines: readonly string[], name: string): string | null {
  const values = lines.filter((line) => line.toLowerCase().startsWith(`${name}: `)).map((line) => line.slice(name.length + 2));
  return values.length === 0 ? null : values.join(", ");
}
