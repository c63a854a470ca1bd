/** Where an endpoint is: an IP address and port, or the path of a Unix domain socket with port -1. */
import type { Address } from "../../api/gen/envoy/config/core/v3/address_pb.js";
import type { LbEndpoint } from "../../api/gen/envoy/config/endpoint/v3/endpoint_components_pb.js";

export interface EndpointAddress {
  readonly address: string;
  readonly port: number;
}

/** undefined for one that has none. */
export function endpointAddress({ hostIdentifier }: Pick<LbEndpoint, "hostIdentifier">): EndpointAddress | undefined {
  return hostIdentifier.case === "endpoint" ? addressOf(hostIdentifier.value.address) : undefined;
}

export function addressOf(message: Address | undefined): EndpointAddress | undefined {
  const address = message?.address;
  if (address?.case === "pipe") return { address: address.value.path, port: -1 };
  if (address?.case !== "socketAddress") return undefined;
  const { portSpecifier } = address.value;
  return { address: address.value.address, port: portSpecifier.case === "portValue" ? portSpecifier.value : 0 };
}
