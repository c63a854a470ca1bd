import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  type ListenerFilterChainMatchPredicate,
  ListenerFilterChainMatchPredicateSchema,
  ListenerFilterSchema,
} from "../../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { StatsStore } from "../../stats/store.ts";
import { compileListenerFilters, filterApplies } from "./index.ts";

type Rule = ListenerFilterChainMatchPredicate["rule"];
const predicate = (rule: Rule) => create(ListenerFilterChainMatchPredicateSchema, { rule });
const port = (start: number) =>
  predicate({ case: "destinationPortRange", value: { $typeName: "envoy.type.v3.Int32Range", start, end: start + 1 } });
const set = (...rules: ListenerFilterChainMatchPredicate[]) => ({
  $typeName: "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet" as const,
  rules,
});

describe("filter_disabled", () => {
  it.each<[string, ListenerFilterChainMatchPredicate | undefined, boolean, boolean]>([
    ["nothing", undefined, true, true],
    ["everything", predicate({ case: "anyMatch", value: true }), false, false],
    ["a port", port(80), false, true],
    ["several ports", predicate({ case: "orMatch", value: set(port(79), port(80)) }), false, true],
    ["all but a port", predicate({ case: "notMatch", value: port(80) }), true, false],
    [
      "what is in both",
      predicate({ case: "andMatch", value: set(port(80), predicate({ case: "notMatch", value: port(81) })) }),
      false,
      true,
    ],
  ])("leaves out %s", (_, filterDisabled, at80, at81) => {
    const filter = create(ListenerFilterSchema, {
      name: "envoy.filters.listener.tls_inspector",
      ...(filterDisabled && { filterDisabled }),
    });
    const filters = compileListenerFilters([filter], new StatsStore());
    expect([80, 81].map((number) => filterApplies(filters, "tlsInspector", number))).toEqual([at80, at81]);
    expect(filterApplies(filters, "httpInspector", 80)).toBe(false);
  });
});
