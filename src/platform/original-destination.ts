/**
 * Where a connection wanted to go before the kernel's redirect rules (iptables REDIRECT) sent it to this process: SO_ORIGINAL_DST.
 *
 * Node has no call for it, so libc's getsockopt is asked. Connection tracking answers for every connection of a network namespace that
 * has such rules, also for those that nobody redirected; without rules there is no answer.
 */
import { SocketAddress } from "node:net";

export interface OriginalDestination {
  readonly ip: string;
  readonly port: number;
}

// <linux/netfilter_ipv4.h>, <linux/netfilter_ipv6/ip6_tables.h>, <netinet/in.h>; the same on all architectures.
const solIp = 0;
const solIpv6 = 41;
const soOriginalDst = 80;
const [familyIpv4, familyIpv6] = [2, 10];

type GetSockOpt = (fd: number, level: number, option: number, value: bigint, length: bigint) => number;

interface Call {
  readonly getsockopt: GetSockOpt;
  /** A sockaddr_in or sockaddr_in6, and its size. Reused: calls are synchronous. */
  readonly address: Buffer;
  readonly length: Buffer;
  readonly addressAt: bigint;
  readonly lengthAt: bigint;
}

/** null: foreign calls are not to be had in this process. */
let call: Call | null | undefined;

export interface ConnectedDescriptor {
  /** -1: closed. */
  readonly fd: number;
  /** Of the connection; its socket may be a dual-stack one. */
  readonly isIpv4: boolean;
}

/** null when the connection was not redirected, or nobody can tell. Costs some microseconds. */
export function originalDestination({ fd, isIpv4 }: ConnectedDescriptor): OriginalDestination | null {
  if (call === undefined) call = prepare();
  if (call === null || fd < 0) return null;
  const { getsockopt, address, length, addressAt, lengthAt } = call;
  length.writeUInt32LE(address.length);
  if (getsockopt(fd, isIpv4 ? solIp : solIpv6, soOriginalDst, addressAt, lengthAt) !== 0) return null;
  return readSocketAddress(address);
}

function prepare(): Call | null {
  try {
    // Loaded here: it is experimental, and what does not use it need not hear so.
    const { dlopen, getRawPointer } = process.getBuiltinModule("node:ffi");
    const { functions } = dlopen("libc.so.6", {
      getsockopt: { return: "int32", arguments: ["int32", "int32", "int32", "pointer", "pointer"] },
    });
    const address = Buffer.allocUnsafeSlow(28);
    const length = Buffer.allocUnsafeSlow(4);
    const getsockopt = functions.getsockopt as GetSockOpt;
    return { getsockopt, address, length, addressAt: getRawPointer(address), lengthAt: getRawPointer(length) };
  } catch {
    return null;
  }
}

/** Of a struct sockaddr as the kernel lays it out: family in the machine's byte order, port and address in the network's. */
export function readSocketAddress(bytes: Buffer): OriginalDestination | null {
  const port = bytes.readUInt16BE(2);
  switch (bytes.readUInt16LE(0)) {
    case familyIpv4:
      return { ip: [...bytes.subarray(4, 8)].join("."), port };
    case familyIpv6: {
      const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(8 + 2 * index).toString(16));
      // Shortened as Node does it, so that texts can be compared.
      return { ip: new SocketAddress({ address: groups.join(":"), family: "ipv6" }).address, port };
    }
    default:
      return null;
  }
}
