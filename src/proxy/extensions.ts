/** What this proxy can be configured with, as it tells its control plane: `node.extensions`. */
import { create } from "@bufbuild/protobuf";
import { type Extension, ExtensionSchema } from "../api/gen/envoy/config/core/v3/base_pb.js";
import { httpFilters } from "./filters/http/index.ts";
import { networkFilters } from "./filters/network/index.ts";
import { metadataExchange } from "./filters/network/metadata-exchange.ts";

export function nodeExtensions(): Extension[] {
  const extension = (category: string, name: string, typeUrls: string[]) => create(ExtensionSchema, { category, name, typeUrls });
  return [
    ...httpFilters.map(({ name, schema, perRoute }) =>
      extension("envoy.filters.http", name, [...new Set([schema.typeName, ...(perRoute ? [perRoute.schema.typeName] : [])])]),
    ),
    ...networkFilters.map(({ name, schema }) => extension("envoy.filters.network", name, [schema.typeName])),
    extension("envoy.filters.upstream_network", metadataExchange.name, [metadataExchange.schema.typeName]),
  ];
}
