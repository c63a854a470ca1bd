/**
 * Route tables, encoded. Most virtual hosts of a table are the same in the tables of other namespaces and in the next push (sidecar-routes.ts
 * sees to that), and each is encoded once.
 */
import { toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { type EncodedResource, resourceOf } from "../../ads/resource.ts";
import { type VirtualHost, VirtualHostSchema } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";
import { perObject } from "../../lib/per-object.ts";

/** With its tag and length, as a field of the table. */
const encodedHost = perObject(
  (host: VirtualHost): Uint8Array =>
    new BinaryWriter()
      .tag(RouteConfigurationSchema.field.virtualHosts.number, WireType.LengthDelimited)
      .bytes(toBinary(VirtualHostSchema, host))
      .finish(),
);

/** `table` and its virtual hosts are not changed any more. */
export function encodeRoutes(table: RouteConfiguration): EncodedResource {
  const rest = toBinary(RouteConfigurationSchema, { ...table, virtualHosts: [] });
  return resourceOf(table.name, RouteConfigurationSchema, Buffer.concat([rest, ...table.virtualHosts.map(encodedHost)]));
}
