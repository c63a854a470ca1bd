/**
 * Tags: the parts of a statistic's dotted name that vary, taken out of it and kept beside it.
 *
 *     cluster.reviews.upstream_rq_503  ->  cluster.upstream_rq  {envoy.response_code: 503, envoy.cluster_name: reviews}
 *
 * Rules see the name as it was, so their order only decides the order of the labels. Envoy's own rules can be turned off, replaced and
 * added to by the bootstrap's stats_config; its matcher can leave statistics out.
 */
import type { StatsConfig } from "../../api/gen/envoy/config/metrics/v3/stats_pb.js";
import { compileStringMatcher } from "../router/string-matcher.ts";
import type { TaggedStatName } from "./named-stat.ts";
import { PrefixTagger, type Tag, type TaggedPrefix, withoutCuts } from "./prefix-tags.ts";
import type { StatRows } from "./stat-rows.ts";
import { defaultRules, defaultRulesOf, type Found, type Rule, regexRule } from "./tag-rules.ts";

export interface TaggedName {
  /** The name without the tags. */
  readonly base: string;
  readonly tags: readonly Tag[];
}

export class TagExtractor {
  /** Of every statistic; they stand before those of its name, and behind those that it came with. */
  readonly fixed: readonly Tag[];
  #rules: readonly Rule[];
  #isIncluded: ((name: string) => boolean) | undefined;
  /** Names don't change, so each is taken apart once; dropped when there are too many. */
  #known = new Map<string, TaggedName>();
  #prefixes: PrefixTagger;
  /** What the matcher lets through of names with a prefix, worked out once for each. */
  #shown = new Map<string, { readonly of: StatRows; readonly rows: StatRows }>();
  #selections = new Map<string, StatRows>();

  /** Throws ConfigError. */
  constructor(config: StatsConfig | undefined, fixedTags: readonly Tag[] = []) {
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
          rules.push(...defaultRulesOf(tagName));
          break;
        default:
          rules.push(...defaultRulesOf(tagName));
      }
    }
    if (config?.useAllDefaultTags ?? true) rules.push(...defaultRules());
    this.#rules = rules;
    this.#prefixes = new PrefixTagger(rules);
    this.fixed = fixed;
    this.#isIncluded = compileMatcher(config);
  }

  /** Whether the bootstrap's stats_matcher lets a statistic be seen. */
  includes(name: string): boolean {
    return this.#isIncluded?.(name) ?? true;
  }

  /** Those of a prefix that may be seen. */
  shown(prefix: string, rows: StatRows): StatRows {
    if (!this.#isIncluded) return rows;
    const known = this.#shown.get(prefix);
    if (known?.of === rows) return known.rows;
    const included = rows.all.map(({ name }) => this.includes(prefix + name));
    // There are few different ones.
    const key = `${rows.id} ${included.map(Number).join("")}`;
    let selected = this.#selections.get(key);
    if (!selected) {
      selected = rows.filter((_row, index) => included[index]!);
      this.#selections.set(key, selected);
    }
    this.#shown.set(prefix, { of: rows, rows: selected });
    return selected;
  }

  /** Of names that begin with it: without the tags that each has. */
  prefixed(prefix: string): TaggedPrefix {
    return this.#prefixes.of(prefix);
  }

  /** Of a statistic that says itself what its tags are. */
  withFixed({ base, tags }: TaggedStatName): TaggedName {
    const own: { name: string; value: string }[] = [];
    for (let i = 0; i < tags.length; i += 2) own.push({ name: tags[i]!, value: tags[i + 1]! });
    return { base, tags: [...own, ...this.fixed] };
  }

  extract(name: string): TaggedName {
    let tagged = this.#known.get(name);
    if (!tagged) {
      if (this.#known.size > 100_000) this.#known.clear();
      tagged = this.takeApart(name);
      this.#known.set(name, tagged);
    }
    return tagged;
  }

  /** The same, which is not remembered. */
  takeApart(name: string): TaggedName {
    const tags: { name: string; value: string }[] = [];
    const cuts: Found[] = [];
    for (const { tag, find } of this.#rules) {
      if (tags.some((known) => known.name === tag)) continue; // the first rule of a tag that fits
      const found = find(name);
      if (!found || cuts.some((cut) => found.start < cut.end && cut.start < found.end)) continue;
      tags.push({ name: tag, value: found.value });
      cuts.push(found);
    }
    return { base: withoutCuts(name, cuts), tags: [...this.fixed, ...tags] };
  }
}

/** Undefined where all may be seen. */
function compileMatcher(config: StatsConfig | undefined): ((name: string) => boolean) | undefined {
  const matcher = config?.statsMatcher?.statsMatcher;
  switch (matcher?.case) {
    case undefined:
      return undefined;
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
