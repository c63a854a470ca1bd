/** Conditions on addresses. */
import { ConfigError } from "../../../api/config-error.ts";
import type { CidrRange } from "../../../api/gen/envoy/config/core/v3/address_pb.js";
import { IpRange, type IpWords, parseIp } from "../../../lib/ip-range.ts";
import { type Condition, ofConnection, ofRequest } from "./condition.ts";

/** Where the address is from: the client's as the request tells it, as its connection has it, as its socket has it; the local one. */
export type AddressSource = "remote" | "source" | "directRemote" | "local";

export function compileAddress(range: CidrRange, source: AddressSource): Condition {
  const base = parseIp(range.addressPrefix);
  if (base === null) throw new ConfigError(`Failed to create CIDR range: malformed IP address: ${range.addressPrefix}`);
  const wanted = new IpRange(base, range.prefixLen ?? 0);
  const contains = (address: string) => {
    const words = ipOf(address);
    return words !== null && wanted.contains(words);
  };
  switch (source) {
    case "remote":
      return ofRequest(({ info }) => contains(info.downstreamRemoteAddress));
    case "source":
      return ofConnection(({ connection }) => contains(connection.info.remoteAddress));
    case "directRemote":
      return ofConnection(({ connection }) => contains(connection.info.directRemoteAddress));
    case "local":
      return ofConnection(({ connection }) => contains(connection.info.localAddress));
    default:
      return source satisfies never;
  }
}

const parsed = new Map<string, IpWords | null>();
const maxParsed = 4096;

/** Of `1.2.3.4:80`, `[::1]:80` or a bare IP address, as X-Forwarded-For has it; null for a path. The last ones are remembered. Hot. */
function ipOf(address: string): IpWords | null {
  let words = parsed.get(address);
  if (words === undefined) {
    words = parseIp(address) ?? parseIp(address.replace(/^\[?(.*?)\]?:\d+$/, "$1"));
    if (parsed.size >= maxParsed) parsed.clear();
    parsed.set(address, words);
  }
  return words;
}
