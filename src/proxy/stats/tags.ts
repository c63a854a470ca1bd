/**
 * Tags: the parts of a statistic's dotted name that vary, taken out of it and kept beside it.
 *
 *     cluster.reviews.upstream_rq_503  ->  cluster.upstream_rq  {envoy.response_code: 503, envoy.cluster_name: reviews}
 *
 * A rule is a regular expression whose first group is what is cut out of the name and whose second is the value (the first,
 * where there is no second). Rules see the name as it was, so their order only decides the order of the labels. Envoy's own
 * rules can be turned off, replaced and added to by the bootstrap's stats_config; its matcher can leave statistics out.
 */
import { RE2JS } from "re2js";
import { ConfigError } from "../../api/config-error.ts";
import type { StatsConfig } from "../../api/gen/envoy/config/metrics/v3/stats_pb.js";
import { compileStringMatcher } from "../router/string-matcher.ts";
import type { TaggedStatName } from "./stats-reader.ts";

export interface TaggedName {
  /** The name without the tags. */
  readonly base: string;
  readonly tags: readonly { readonly name: string; readonly value: string }[];
}

/** Where in the name a tag was found: what goes, and what it says. */
interface Found {
  readonly start: number;
  readonly end: number;
  readonly value: string;
}

interface Rule {
  readonly tag: string;
  readonly find: (name: string) => Found | undefined;
}

const word = "[^\\.]+";
const address = "(?:\\d+\\.\\d+\\.\\d+\\.\\d+|\\[[_a-fA-F\\d]*\\])_\\d+";
const cipher = "[0-9A-Za-z_-]+";
const routeName = "[\\w-\\.]+";
const ssl = "(?:listener|cluster)\\..*?";

/** Envoy 1.40's default rules: a regular expression, or tokens (`*` one, `$` the value, `**` the rest). */
const defaultRules: readonly (readonly [tag: string, pattern: string])[] = [
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

export class TagExtractor {
  #rules: readonly Rule[];
  #fixed: TaggedName["tags"];
  #isIncluded: (name: string) => boolean;
  /** Names don't change, so each is taken apart once; dropped when there are too many. */
  #known = new Map<string, TaggedName>();

  /** Throws ConfigError. */
  constructor(config: StatsConfig | undefined, fixedTags: TaggedName["tags"] = []) {
    const rules: Rule[] = [];
    const fixed = [...fixedTags];
    for (const { tagName, tagValue } of config?.statsTags ?? []) {
      switch (tagValue.case) {
        case "fixedValue":
          fixed.push({ name: tagName, value: tagValue.value });
          break;
        case "regex":
          if (tagValue.value !== "") {
            rules.push(regexRule(tagName, tagValue.value));
            break;
          }
          rules.push(...defaultsOf(tagName));
          break;
        default:
          rules.push(...defaultsOf(tagName));
      }
    }
    if (config?.useAllDefaultTags ?? true) {
      for (const [tag, pattern] of defaultRules) rules.push(defaultRule(tag, pattern));
    }
    this.#rules = rules;
    this.#fixed = fixed;
    this.#isIncluded = compileMatcher(config);
  }

  /** Whether the bootstrap's stats_matcher lets a statistic be seen. */
  includes(name: string): boolean {
    return this.#isIncluded(name);
  }

  /** Of a statistic that says itself what its tags are. */
  withFixed({ base, tags }: TaggedStatName): TaggedName {
    const own: { name: string; value: string }[] = [];
    for (let i = 0; i < tags.length; i += 2) own.push({ name: tags[i]!, value: tags[i + 1]! });
    return { base, tags: [...own, ...this.#fixed] };
  }

  extract(name: string): TaggedName {
    let tagged = this.#known.get(name);
    if (!tagged) {
      if (this.#known.size > 100_000) this.#known.clear();
      tagged = this.#extract(name);
      this.#known.set(name, tagged);
    }
    return tagged;
  }

  #extract(name: string): TaggedName {
    const tags: { name: string; value: string }[] = [];
    const cuts: Found[] = [];
    for (const { tag, find } of this.#rules) {
      if (tags.some((known) => known.name === tag)) continue; // the first rule of a tag that fits
      const found = find(name);
      if (!found || cuts.some((cut) => found.start < cut.end && cut.start < found.end)) continue;
      tags.push({ name: tag, value: found.value });
      cuts.push(found);
    }
    let base = name;
    for (const { start, end } of cuts.sort((a, b) => b.start - a.start)) base = base.slice(0, start) + base.slice(end);
    return { base, tags: [...this.#fixed, ...tags] };
  }
}

function defaultsOf(tag: string): Rule[] {
  const rules = defaultRules.filter(([name]) => name === tag).map(([name, pattern]) => defaultRule(name, pattern));
  if (rules.length === 0) throw new ConfigError(`No regex specified for tag specifier and no default regex for name: '${tag}'`);
  return rules;
}

function defaultRule(tag: string, pattern: string): Rule {
  // These are known not to backtrack far, and a scrape asks them a million times.
  if (!pattern.includes("$.") && !pattern.includes(".$")) return backtrackingRule(tag, pattern);
  return { tag, find: compileTokens(pattern) };
}

function regexRule(tag: string, pattern: string): Rule {
  let regex: RE2JS;
  try {
    regex = RE2JS.compile(pattern);
  } catch {
    return backtrackingRule(tag, pattern);
  }
  if (regex.groupCount() < 1) return { tag, find: () => undefined };
  return {
    tag,
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
    const classes: Record<string, string> = { digit: "0-9", alpha: "A-Za-z", alnum: "A-Za-z0-9", space: "\\s" };
    regex = new RegExp(
      pattern.replaceAll(/\[:(\w+):\]/g, (whole, name: string) => classes[name] ?? whole),
      "d",
    );
  } catch (cause) {
    throw new ConfigError(`Invalid regex '${pattern}': ${(cause as Error).message}`, { cause });
  }
  return {
    tag,
    find(name) {
      const match = regex.exec(name);
      const place = match?.indices?.[1];
      if (!match || !place) return undefined;
      return { start: place[0], end: place[1], value: match[2] ?? match[1] ?? "" };
    },
  };
}

/** `cluster.$.**` and the like, without a regular expression. */
function compileTokens(pattern: string): Rule["find"] {
  const tokens = pattern.split(".");
  const first = /^\w+$/.test(tokens[0]!) ? `${tokens[0]!}.` : "";
  return (name) => {
    if (!name.startsWith(first)) return undefined;
    const words = name.split(".");
    const capture = matchTokens(tokens, words, 0, 0);
    if (capture === undefined) return undefined;
    let start = 0;
    for (let index = 0; index < capture; index++) start += words[index]!.length + 1;
    const value = words[capture]!;
    return { start, end: start + value.length + 1, value };
  };
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

function compileMatcher(config: StatsConfig | undefined): (name: string) => boolean {
  const matcher = config?.statsMatcher?.statsMatcher;
  switch (matcher?.case) {
    case undefined:
      return () => true;
    case "rejectAll": {
      const all = !matcher.value;
      return () => all;
    }
    case "inclusionList": {
      const patterns = matcher.value.patterns.map(compileStringMatcher);
      return (name) => patterns.some((matches) => matches(name));
    }
    case "exclusionList": {
      const patterns = matcher.value.patterns.map(compileStringMatcher);
      return (name) => !patterns.some((matches) => matches(name));
    }
    default:
      return matcher satisfies never;
  }
}
