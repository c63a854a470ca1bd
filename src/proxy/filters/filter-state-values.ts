/** What set_filter_state has to set: objects by name, each a formatted text. */
import { ConfigError } from "../../api/config-error.ts";
import type { FilterStateValue } from "../../api/gen/envoy/extensions/filters/common/set_filter_state/v3/value_pb.js";
import { compileSubstitutionFormat } from "../accesslog/access-log.ts";
import type { FilterState, StreamInfo } from "../stream-info.ts";

/** Kinds of objects that are plain text; others mean something to parts of Envoy that this proxy doesn't have. */
const hashableFactories = new Set(["envoy.hashable_string", "istio.hashable_string"]);
const textFactories = new Set(["envoy.string", ...hashableFactories]);

/** How much a request counts for the rate limit service. */
export const hitsAddendKey = "envoy.ratelimit.hits_addend";

export type FilterStateSetter = (info: StreamInfo, state: FilterState) => void;

export function compileFilterStateValues(values: readonly FilterStateValue[]): FilterStateSetter {
  const setters = values.map(compileValue);
  return (info, state) => {
    for (const set of setters) set(info, state);
  };
}

function compileValue({ key, factoryKey, value, skipIfEmpty }: FilterStateValue): FilterStateSetter {
  if (key.case === undefined) throw new ConfigError("FilterStateValue: key: value is required");
  if (value.case === undefined) throw new ConfigError("FilterStateValue: value: value is required");
  const factory = factoryKey || key.value;
  const isNumber = factory === hitsAddendKey;
  if (!isNumber && !textFactories.has(factory)) throw new ConfigError(`'${factory}' does not have an object factory`);
  const format = compileSubstitutionFormat(value.value);
  const name = key.value;
  const isHashable = hashableFactories.has(factory);
  return (info, state) => {
    const text = format(info);
    const isGiven = isNumber ? /^\d+$/.test(text) && Number(text) < 2 ** 32 : text !== "" || !skipIfEmpty;
    if (!isGiven) return;
    state.set(name, text);
    if (isHashable) state.hashable.add(name);
    else state.hashable.delete(name);
  };
}
