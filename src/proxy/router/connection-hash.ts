/** TcpProxy.hash_policy: what of a connection decides on the endpoint, in clusters that choose by hash. Source: Envoy network/hash_policy.cc. */
import { ConfigError } from "../../api/config-error.ts";
import type { HashPolicy } from "../../api/gen/envoy/type/v3/hash_policy_pb.js";
import type { Hash64 } from "../../lib/hash64.ts";
import { xxHash64 } from "../../lib/xx-hash64.ts";
import { hashableStateOf, type StreamInfo } from "../stream-info.ts";
import { hashAddress } from "./address-hash.ts";

/** False: the connection has nothing of the kind. */
export type ConnectionHash = (info: StreamInfo, into: Hash64) => boolean;

/** null: clusters that choose by hash choose at random. There is at most one. */
export function compileConnectionHash([policy]: readonly HashPolicy[]): ConnectionHash | null {
  if (policy === undefined) return null;
  const { policySpecifier } = policy;
  switch (policySpecifier.case) {
    case "sourceIp":
      return (info, into) => hashAddress(info.connection.remoteAddress, into);
    case "filterState": {
      const { key } = policySpecifier.value;
      return (info, into) => {
        const text = hashableStateOf(info, key);
        if (text === undefined) return false;
        xxHash64(text, into);
        return true;
      };
    }
    case undefined:
      throw new ConfigError("HashPolicy: policy_specifier: value is required");
    default:
      return policySpecifier satisfies never;
  }
}
