import type { HTTPMatchRequest, HTTPRoute, VirtualService } from "../kinds/virtual-service.ts";
import type { FieldReport } from "../schema/field-report.ts";

/** Warns of rules and matches that never get a request because earlier ones take it. istioctl analyze: IST0130, IST0131. */
export function warnUnreachableRoutes(spec: VirtualService, report: FieldReport): void {
  warnUnreachable(spec.http, report.at("http"));
  warnUnreachable(spec.tls, report.at("tls"));
  warnUnreachable(spec.tcp, report.at("tcp"));
  warnCoveredPrefixes(spec.http, report.at("http"));
}

function warnUnreachable(routes: readonly { readonly match: readonly object[] }[], report: FieldReport): void {
  /** By match without its name, the first rule that has it. */
  const seen = new Map<string, number>();
  let catchAll: number | undefined;
  for (const [index, route] of routes.entries()) {
    if (catchAll !== undefined) {
      report.at(index).warn(`the rule is never used: rule ${catchAll} before it has no match and takes everything`);
      continue;
    }
    if (route.match.length === 0) {
      catchAll = index;
      continue;
    }
    let duplicates = 0;
    for (const [at, match] of route.match.entries()) {
      const key = matchKey(match);
      const earlier = seen.get(key);
      if (earlier === undefined) {
        seen.set(key, index);
        continue;
      }
      duplicates++;
      report.at(index, "match", at).warn(`the match is never used: rule ${earlier} has the same one`);
    }
    if (duplicates === route.match.length) report.at(index).warn("the rule is never used: earlier rules have all its matches");
  }
}

/** Equal for matches that take the same requests as they are written; the order of keys in maps doesn't count. */
function matchKey(match: object): string {
  return JSON.stringify({ ...match, name: undefined }, (_, value: unknown) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

interface PrefixMatch {
  readonly match: HTTPMatchRequest;
  readonly prefix: string;
  readonly route: number;
  readonly at: number;
}

/** A longer prefix behind a shorter one with the same other conditions. Bounded, for it compares each with each. */
function warnCoveredPrefixes(routes: readonly HTTPRoute[], report: FieldReport): void {
  const matches: PrefixMatch[] = routes.flatMap((route, index) =>
    route.match.flatMap((match, at) => (match.uri?.prefix ? [{ match, prefix: match.uri.prefix, route: index, at }] : [])),
  );
  if (matches.length > 1000) return;
  for (const [index, later] of matches.entries()) {
    const earlier = matches.slice(0, index).find((candidate) => covers(candidate, later));
    if (!earlier) continue;
    report
      .at(later.route, "match", later.at)
      .warn(`the match is never used: rule ${earlier.route} takes the shorter prefix ${JSON.stringify(earlier.prefix)} before it`);
  }
}

function covers(earlier: PrefixMatch, later: PrefixMatch): boolean {
  if (earlier.prefix === later.prefix || !later.prefix.startsWith(earlier.prefix)) return false;
  const rest = ({ match }: PrefixMatch) => matchKey({ ...match, uri: undefined });
  return rest(earlier) === rest(later);
}
