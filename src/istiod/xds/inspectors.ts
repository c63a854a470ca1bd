/**
 * The listener filters that look at the first bytes of a connection, where its port's filter chains ask for what they find. A port
 * that does not is left out: its server may be the one that speaks first, and would be waited for in vain.
 * Source: Istio pilot/pkg/networking/core/listener_inbound.go (populateListenerFilters).
 */
import { create } from "@bufbuild/protobuf";
import {
  type FilterChain,
  type ListenerFilter,
  type ListenerFilterChainMatchPredicate,
  ListenerFilterChainMatchPredicateSchema,
} from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { httpInspector, tlsInspector } from "./listener-filters.ts";

interface Needs {
  tls: boolean;
  http: boolean;
}

/** Port 0 stands for the chains of no port in particular. */
export function inspectorsFor(chains: readonly FilterChain[]): ListenerFilter[] {
  const byPort = new Map<number, Needs>();
  for (const { filterChainMatch: match } of chains) {
    const port = match?.destinationPort ?? 0;
    const needs = byPort.get(port) ?? { tls: false, http: false };
    needs.tls ||= match?.transportProtocol === "tls";
    needs.http ||= match?.applicationProtocols.some((protocol) => protocol === "http/1.1" || protocol === "h2c") ?? false;
    byPort.set(port, needs);
  }
  return [...limited(tlsInspector(), byPort, "tls"), ...limited(httpInspector(), byPort, "http")];
}

function limited(filter: ListenerFilter, byPort: ReadonlyMap<number, Needs>, need: keyof Needs): ListenerFilter[] {
  const needing = [...byPort].filter(([, needs]) => needs[need]).map(([port]) => port);
  if (needing.length === 0) return [];
  // The chains of no port either need it, then the other ports are excepted, or they don't, then the ports that do are listed.
  const isDefault = needing.includes(0);
  const listed = (isDefault ? [...byPort.keys()].filter((port) => !needing.includes(port)) : needing).sort((a, b) => a - b);
  if (listed.length > 0) filter.filterDisabled = isDefault ? anyOf(listed) : predicate({ case: "notMatch", value: anyOf(listed) });
  return [filter];
}

function anyOf(ports: readonly number[]): ListenerFilterChainMatchPredicate {
  const rules = ports.map((port) =>
    predicate({ case: "destinationPortRange", value: { $typeName: "envoy.type.v3.Int32Range", start: port, end: port + 1 } }),
  );
  return rules.length === 1
    ? rules[0]!
    : predicate({
        case: "orMatch",
        value: { $typeName: "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet", rules },
      });
}

function predicate(rule: ListenerFilterChainMatchPredicate["rule"]): ListenerFilterChainMatchPredicate {
  return create(ListenerFilterChainMatchPredicateSchema, { rule });
}
