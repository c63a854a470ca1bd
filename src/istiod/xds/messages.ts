/** Small conversions between configuration and Envoy messages that every generator needs. */
import { create, type DescMessage, type JsonObject, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema, type Duration, durationFromMs } from "@bufbuild/protobuf/wkt";
import { type Address, AddressSchema } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import { type Metadata, MetadataSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { AdditionalAddressSchema } from "../../api/gen/envoy/config/listener/v3/listener_pb.js";
import {
  type HttpFilter,
  HttpFilterSchema,
} from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { StringMatcher } from "../../api/gen/envoy/type/matcher/v3/string_pb.js";
import { StringMatcherSchema } from "../../api/gen/envoy/type/matcher/v3/string_pb.js";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { StringMatch } from "../../api/kinds/virtual-service.ts";

export function any<Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>): Any {
  return create(AnySchema, { typeUrl: `type.googleapis.com/${schema.typeName}`, value: toBinary(schema, create(schema, init)) });
}

export function httpFilter<Desc extends DescMessage>(name: string, schema: Desc, init: MessageInitShape<Desc>): HttpFilter {
  return create(HttpFilterSchema, { name, configType: { case: "typedConfig", value: any(schema, init) } });
}

export function duration(milliseconds: number): Duration {
  return durationFromMs(milliseconds);
}

export function socketAddress(address: string, port: number): Address {
  return create(AddressSchema, {
    address: { case: "socketAddress", value: { address, portSpecifier: { case: "portValue", value: port } } },
  });
}

/** Where a listener listens: the fields of its message. */
export function listensOn([first, ...others]: readonly [string, ...string[]], port: number) {
  return {
    address: endpointAddress(first, port),
    additionalAddresses: others.map((address) => create(AdditionalAddressSchema, { address: socketAddress(address, port) })),
  };
}

/** An endpoint's address: `unix:///path` or an IP with its port. */
export function endpointAddress(address: string, port: number): Address {
  if (!address.startsWith("unix://")) return socketAddress(address, port);
  return create(AddressSchema, { address: { case: "pipe", value: { path: address.slice("unix://".length) } } });
}

/** Undefined for a match of nothing in particular: empty, or the regex `*` that old configurations use for "present". */
export function stringMatcher(match: StringMatch | undefined): StringMatcher | undefined {
  if (!match || match.regex === "*") return undefined;
  if (match.exact !== undefined) return create(StringMatcherSchema, { matchPattern: { case: "exact", value: match.exact } });
  if (match.prefix !== undefined) return create(StringMatcherSchema, { matchPattern: { case: "prefix", value: match.prefix } });
  if (match.regex !== undefined) return create(StringMatcherSchema, { matchPattern: { case: "safeRegex", value: { regex: match.regex } } });
  return undefined;
}

/** `istio.config` metadata: by what object this part of the configuration was made. */
export function configMetadata(object: ConfigObject): Metadata {
  return istioMetadata({ config: configPath(object.apiVersion, object.kind, object.metadata.namespace, object.metadata.name) });
}

export function configPath(apiVersion: string, kind: string, namespace: string, name: string): string {
  const kebab = kind.replace(/(?<!^)([A-Z])/g, "-$1").toLowerCase();
  return `/apis/${apiVersion}/namespaces/${namespace}/${kebab}/${name}`;
}

export function istioMetadata(fields: JsonObject): Metadata {
  return create(MetadataSchema, { filterMetadata: { istio: fields } });
}

/** A name for statistics: the `;` ends it, so that the tag regexes of Istio's bootstrap can tell names that hold dots. */
export function statName(name: string): string {
  return `${name};`;
}
