/** envoy.config.core.v3.ProxyProtocolPassThroughTLVs: which extensions of a client's header go on to endpoints. */
import { ConfigError } from "../../api/config-error.ts";
import {
  type ProxyProtocolPassThroughTLVs,
  ProxyProtocolPassThroughTLVs_PassTLVsMatchType,
} from "../../api/gen/envoy/config/core/v3/proxy_protocol_pb.js";

export type TlvSelection = (type: number) => boolean;

export function compileTlvSelection(config: ProxyProtocolPassThroughTLVs | undefined): TlvSelection {
  if (config === undefined) return () => false;
  if (config.tlvType.some((type) => type > 255)) {
    throw new ConfigError("ProxyProtocolPassThroughTLVs: tlv_type: value must be less than 256");
  }
  if (config.matchType === ProxyProtocolPassThroughTLVs_PassTLVsMatchType.INCLUDE_ALL) return () => true;
  const types = new Set(config.tlvType);
  return (type) => types.has(type);
}
