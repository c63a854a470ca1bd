/** Hash of a client's address without its port. */
import type { Hash64 } from "../../lib/hash64.ts";
import { xxHash64 } from "../../lib/xx-hash64.ts";

/** `address` is `1.2.3.4:80`, `[::1]:80`, an IP address alone, or the path of a socket, which has no hash: false. Hot. */
export function hashAddress(address: string, into: Hash64): boolean {
  const ip = ipOf(address);
  if (ip === "") return false;
  xxHash64(ip, into);
  return true;
}

function ipOf(address: string): string {
  const first = address.charCodeAt(0);
  if (first === slash || first === at) return "";
  if (first === bracket) return address.slice(1, address.indexOf("]"));
  const colon = address.indexOf(":");
  return colon >= 0 && colon === address.lastIndexOf(":") ? address.slice(0, colon) : address;
}

const slash = 47;
const at = 64;
const bracket = 91;
