/**
 * Rules that find a tag in a statistic's name: Envoy's own, and those of a bootstrap's stats_config. A rule is a regular expression whose
 * first group is what is cut out of the name and whose second is the value (the first, where there is no second), or tokens.
 */
import { RE2JS } from "re2js";
import { ConfigError } from "../../api/config-error.ts";
import { type PatternFacts, patternFacts, posixClasses } from "./pattern-facts.ts";

/** Where in the name a tag was found: what goes, and what it says. */
export interface Found {
  readonly start: number;
  readonly end: number;
  readonly value: string;
}

export interface Rule {
  readonly tag: string;
  readonly find: (name: string) => Found | undefined;
  /** What the rule looks at: the words that these tokens name, and how many there are; or what its regular expression says. */
  readonly looksAt: { readonly tokens: readonly string[] } | PatternFacts;
}

const word = "[^\\.]+";
const address = "(?:\\d+\\.\\d+\\.\\d+\\.\\d+|\\[[_a-fA-F\\d]*\\])_\\d+";
const cipher = "[0-9A-Za-z_-]+";
const routeName = "[\\w-\\.]+";
const ssl = "(?:listener|cluster)\\..*?";

/** Envoy 1.40's default rules: a regular expression, or tokens (`*` one, `$` the value, `**` the rest). */
const defaultPatterns: readonly (readonly [tag: string, pattern: string])[] = [
  ["envoy.response_code", "_rq(_(\\d{3}))$"],
  ["envoy.response_code_class", "_rq_((\\d))xx$"],
  ["envoy.grpc_bridge_method", "cluster.*.grpc.*.$.**"],
  ["envoy.http_user_agent", "http.*.user_agent.$.**"],
  ["envoy.virtual_cluster", "vhost.*.vcluster.$.**"],
  ["envoy.fault_downstream_cluster", "http.*.fault.$.**"],
  ["envoy.ssl_cipher", `^listener\\..*?\\.ssl\\.ciphers(\\.(${cipher}))$`],
  ["envoy.ssl_curve", `^${ssl}\\.ssl\\.curves(\\.(${cipher}))$`],
  ["envoy.ssl_sigalg", `^${ssl}\\.ssl\\.sigalgs(\\.(${cipher}))$`],
  ["envoy.ssl_version", `^${ssl}\\.ssl\\.versions(\\.(${cipher}))$`],
  ["envoy.tls_certificate", `^${ssl}\\.ssl\\.certificate\\.((${word})\\.).*$`],
  ["cipher_suite", `^cluster\\.${word}\\.ssl\\.ciphers(\\.(${cipher}))$`],
  ["envoy.grpc_bridge_service", "cluster.*.grpc.$.**"],
  ["envoy.tcp_prefix", "tcp.$.**"],
  ["envoy.udp_prefix", "udp.$.**"],
  ["envoy.clientssl_prefix", "auth.clientssl.$.**"],
  ["envoy.ratelimit_prefix", "ratelimit.$.**"],
  ["envoy.cluster_name", "cluster.$.**"],
  [
    "envoy.rbac_policy_name",
    `^http\\.${word}\\.rbac\\.(?:${word}\\.)?policy\\.((${word})\\.)(allowed|shadow_allowed|denied|shadow_denied)$`,
  ],
  // A name without a prefix goes on with the policies.
  ["envoy.rbac_http_prefix", `^http\\.${word}\\.rbac\\.(?!policy\\.)((${word})\\.)`],
  ["envoy.rbac_prefix", "$.rbac.**"],
  ["envoy.http_conn_manager_prefix", "http.$.**"],
  ["envoy.http_conn_manager_prefix", `^listener\\..*?\\.http\\.((${word})\\.)`],
  ["envoy.listener_address", `^listener\\.((${address})\\.)`],
  ["envoy.virtual_host", "vhost.$.**"],
  ["envoy.rds_route_config", `^http\\.${word}\\.rds\\.((${routeName})\\.)\\w+?$`],
  ["envoy.scoped_rds_config", `^http\\.${word}\\.scoped_rds\\.((${routeName})\\.)\\w+?$`],
  ["envoy.route", "vhost.*.route.$.**"],
  ["envoy.worker_id", `^(?:listener\\.(?:${address}|${word})|server|listener_manager|thread_local_cluster_manager)\\.worker_((\\d+)\\.)`],
  ["envoy.ext_authz_prefix", "http.*.ext_authz.$.**"],
  ["envoy.ext_authz_prefix", "cluster.*.ext_authz.$.**"],
  ["envoy.local_http_ratelimit_prefix", "**.$.http_local_rate_limit.*"],
  ["envoy.local_network_ratelimit_prefix", "local_rate_limit.$.**"],
  ["envoy.local_listener_ratelimit_prefix", "listener_local_ratelimit.$.**"],
  ["envoy.connection_limit_prefix", "connection_limit.$.**"],
  ["envoy.proxy_protocol_version", `^proxy_proto\\.((?:${word}\\.)?versions\\.v([12])\\.)\\w+$`],
  ["envoy.xds_resource_name", `^sds\\.((${word})\\.).+`],
];

/** All of Envoy's. */
export function defaultRules(): Rule[] {
  return defaultPatterns.map(([tag, pattern]) => defaultRule(tag, pattern));
}

/** Those of one tag. Throws ConfigError when there are none. */
export function defaultRulesOf(tag: string): Rule[] {
  const rules = defaultPatterns.filter(([name]) => name === tag).map(([name, pattern]) => defaultRule(name, pattern));
  if (rules.length === 0) throw new ConfigError(`No regex specified for tag specifier and no default regex for name: '${tag}'`);
  return rules;
}

function defaultRule(tag: string, pattern: string): Rule {
  // These are known not to backtrack far, and a scrape asks them a million times.
  if (!pattern.includes("$.") && !pattern.includes(".$")) return backtrackingRule(tag, pattern);
  return { tag, ...compileTokens(pattern) };
}

/** Throws ConfigError. */
export function regexRule(tag: string, pattern: string): Rule {
  let regex: RE2JS;
  try {
    regex = RE2JS.compile(pattern);
  } catch {
    return backtrackingRule(tag, pattern);
  }
  const looksAt = patternFacts(pattern);
  if (regex.groupCount() < 1) return { tag, looksAt, find: () => undefined };
  return {
    tag,
    looksAt,
    find(name) {
      const matcher = regex.matcher(name);
      if (!matcher.find()) return undefined;
      const start = matcher.start(1);
      const end = matcher.end(1);
      if (start < 0) return undefined;
      const value = regex.groupCount() >= 2 ? matcher.group(2) : matcher.group(1);
      return { start, end, value: value ?? "" };
    },
  };
}

/**
 * Envoy reads these rules as ECMAScript, and Istio's older bootstraps use that: lookahead, which RE2 has not. They come from
 * the bootstrap alone and see names of our own making, so JavaScript's engine may have them.
 */
function backtrackingRule(tag: string, pattern: string): Rule {
  let regex: RegExp;
  try {
    regex = new RegExp(posixClasses(pattern), "d");
  } catch (cause) {
    throw new ConfigError(`Invalid regex '${pattern}': ${(cause as Error).message}`, { cause });
  }
  return {
    tag,
    looksAt: patternFacts(pattern),
    find(name) {
      const match = regex.exec(name);
      const place = match?.indices?.[1];
      if (!match || !place) return undefined;
      return { start: place[0], end: place[1], value: match[2] ?? match[1] ?? "" };
    },
  };
}

/** `cluster.$.**` and the like, without a regular expression. */
function compileTokens(pattern: string): Pick<Rule, "find" | "looksAt"> {
  const tokens = pattern.split(".");
  const first = /^\w+$/.test(tokens[0]!) ? `${tokens[0]!}.` : "";
  const find = (name: string) => {
    if (!name.startsWith(first)) return undefined;
    const words = name.split(".");
    const capture = matchTokens(tokens, words, 0, 0);
    if (capture === undefined) return undefined;
    let start = 0;
    for (let index = 0; index < capture; index++) start += words[index]!.length + 1;
    const value = words[capture]!;
    return { start, end: start + value.length + 1, value };
  };
  return { find, looksAt: { tokens: tokens.filter((token) => /^\w+$/.test(token)) } };
}

/** Index of the word that `$` stands for; undefined when the pattern doesn't fit. `**` takes one word or more. */
function matchTokens(tokens: readonly string[], words: readonly string[], token: number, word: number): number | undefined {
  if (token === tokens.length) return word === words.length ? -1 : undefined;
  const current = tokens[token]!;
  if (current === "**") {
    for (let next = word + 1; next <= words.length; next++) {
      const rest = matchTokens(tokens, words, token + 1, next);
      if (rest !== undefined) return rest;
    }
    return undefined;
  }
  if (word === words.length) return undefined;
  if (current !== "*" && current !== "$" && current !== words[word]) return undefined;
  const rest = matchTokens(tokens, words, token + 1, word + 1);
  return rest === undefined ? undefined : current === "$" ? word : rest;
}
