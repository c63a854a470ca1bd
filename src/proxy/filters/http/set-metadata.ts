/** envoy.filters.http.set_metadata: dynamic metadata that is the same for all requests. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { ConfigError } from "../../../api/config-error.ts";
import { type Config, ConfigSchema } from "../../../api/gen/envoy/extensions/filters/http/set_metadata/v3/set_metadata_pb.js";
import { defineHttpFilter, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import type { StatIndex, StatsStore } from "../../stats/store.ts";

interface Entry {
  readonly namespace: string;
  readonly value: JsonObject;
  readonly mayOverwrite: boolean;
}

class SetMetadataFilter implements HttpFilter {
  readonly name: string;
  readonly #entries: readonly Entry[];
  readonly #stats: StatsStore;
  readonly #overwriteDenied: StatIndex;

  constructor(name: string, config: Config, stats: StatsStore, statPrefix: string) {
    this.name = name;
    this.#entries = compileEntries(config);
    this.#stats = stats;
    this.#overwriteDenied = stats.counter(`${statPrefix}set_metadata.overwrite_denied`);
  }

  onRequestHeaders({ info }: HttpStream): FilterStatus {
    info.dynamicMetadata ??= new Map();
    for (const { namespace, value, mayOverwrite } of this.#entries) {
      const present = info.dynamicMetadata.get(namespace);
      if (present !== undefined && !mayOverwrite) this.#stats.add(this.#overwriteDenied, 1);
      else info.dynamicMetadata.set(namespace, merged((present ?? {}) as JsonObject, value));
    }
    return "continue";
  }
}

/** The namespace and value beside the list are what there was before it, and merge always. */
function compileEntries({ metadataNamespace, value: oldValue, metadata }: Config): Entry[] {
  const entries = metadata.map(({ metadataNamespace: namespace, value, typedValue, allowOverwrite }): Entry => {
    if (typedValue !== undefined) throw new ConfigError("Metadata: typed_value is not supported by this proxy");
    return { namespace, value: value ?? {}, mayOverwrite: allowOverwrite };
  });
  if (metadataNamespace === "") return entries;
  return [{ namespace: metadataNamespace, value: oldValue ?? {}, mayOverwrite: true }, ...entries];
}

/** Objects merge field by field, lists are joined, other values and those of another kind take the old one's place. A new object. */
function merged(old: JsonObject, added: JsonObject): JsonObject {
  const result = { ...old };
  for (const [key, value] of Object.entries(added)) {
    const before = result[key];
    if (Array.isArray(before) && Array.isArray(value)) result[key] = [...before, ...value];
    else if (isObject(before) && isObject(value)) result[key] = merged(before, value);
    else result[key] = value;
  }
  return result;
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export const setMetadata = defineHttpFilter({
  name: "envoy.filters.http.set_metadata",
  schema: ConfigSchema,
  create: (config, context, name) => new SetMetadataFilter(name, config, context.stats, context.statPrefix),
});
