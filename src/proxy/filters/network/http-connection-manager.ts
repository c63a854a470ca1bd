import { HttpConnectionManagerSchema } from "../../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { ConnectionManager } from "../../http/connection-manager.ts";
import { defineNetworkFilter } from "../../listener/network-filter.ts";

export const httpConnectionManager = defineNetworkFilter({
  name: "envoy.filters.network.http_connection_manager",
  schema: HttpConnectionManagerSchema,
  create: (config, context, name) => new ConnectionManager(config, context, name),
});
