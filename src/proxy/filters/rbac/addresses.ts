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

// Many policies ask about one client after the other: the same string, so that comparing is a pointer's work.
let lastAddress = "";
let lastWords: IpWords | null = null;

/** Of `1.2.3.4:80`, `[::1]:80` or a bare IP address, as X-Forwarded-For has it; null for a path. Hot. */
function ipOf(address: string): IpWords | null {
  if (address === lastAddress) return lastWords;
  lastAddress = address;
  lastWords = parseIp(address) ?? parseIp(address.replace(/^\[?(.*?)\]?:\d+$/, "$1"));
  return lastWords;
}
