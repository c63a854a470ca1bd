/**
 * Sockets with addresses of others (IP_TRANSPARENT): a listener that is handed packets for any address, by TPROXY rules, and a connection
 * in the name of a client. Node has no call for either, so libc is asked. Both take CAP_NET_ADMIN.
 */
import { type IpWords, parseIp } from "../lib/ip-range.ts";

// <bits/socket.h>, <netinet/in.h>, <linux/in6.h>; the same on x64 and arm64.
const [familyIpv4, familyIpv6] = [2, 10];
const [stream, nonBlocking, closeOnExec] = [1, 0o4000, 0o2000000];
const [solSocket, soMark] = [1, 36];
const [solIp, ipTransparent, ipBindAddressNoPort] = [0, 19, 24];
const [solIpv6, ipv6Transparent] = [41, 75];

interface Calls {
  socket(family: number, type: number, protocol: number): number;
  bind(fd: number, address: bigint, length: number): number;
  close(fd: number): number;
  setsockopt(fd: number, level: number, option: number, value: bigint, length: number): number;
  getRawPointer(bytes: Buffer): bigint;
}

/** null: foreign calls are not to be had in this process. */
let prepared: Calls | null | undefined;

/** A socket that listens already; the kernel looks when a packet comes. Whether it could be done. */
export function makeTransparent(fd: number, family: 4 | 6): boolean {
  const calls = libc();
  return calls !== null && setTransparent(calls, fd, family);
}

/** Descriptor of a TCP socket that connects from `ip`, whosever that is, and whose packets carry the mark unless it is 0; null: can't be done. */
export function openTransparent(ip: string, mark: number): number | null {
  const calls = libc();
  const words = parseIp(ip);
  if (calls === null || words === null) return null;
  const family = words.length === 1 ? 4 : 6;
  const fd = calls.socket(family === 4 ? familyIpv4 : familyIpv6, stream | nonBlocking | closeOnExec, 0);
  if (fd < 0) return null;
  const address = socketAddress(words);
  const isReady =
    setTransparent(calls, fd, family) &&
    (mark === 0 || setOption(calls, fd, solSocket, soMark, mark)) &&
    // The port is chosen when the other end is known: connections of one client to several ends may share it.
    setOption(calls, fd, solIp, ipBindAddressNoPort, 1) &&
    calls.bind(fd, calls.getRawPointer(address), address.length) === 0;
  if (isReady) return fd;
  calls.close(fd);
  return null;
}

function setTransparent(calls: Calls, fd: number, family: 4 | 6): boolean {
  return family === 4 ? setOption(calls, fd, solIp, ipTransparent, 1) : setOption(calls, fd, solIpv6, ipv6Transparent, 1);
}

function setOption(calls: Calls, fd: number, level: number, option: number, value: number): boolean {
  const bytes = Buffer.allocUnsafeSlow(4);
  bytes.writeUInt32LE(value);
  return calls.setsockopt(fd, level, option, calls.getRawPointer(bytes), bytes.length) === 0;
}

/** struct sockaddr_in or sockaddr_in6, of port 0. */
function socketAddress(words: IpWords): Buffer {
  const isIpv4 = words.length === 1;
  const bytes = Buffer.alloc(isIpv4 ? 16 : 28);
  bytes.writeUInt16LE(isIpv4 ? familyIpv4 : familyIpv6);
  for (const [index, word] of words.entries()) bytes.writeUInt32BE(word, (isIpv4 ? 4 : 8) + 4 * index);
  return bytes;
}

function libc(): Calls | null {
  if (prepared === undefined) prepared = prepare();
  return prepared;
}

function prepare(): Calls | null {
  try {
    // Loaded here: it is experimental, and what does not use it need not hear so.
    const { dlopen, getRawPointer } = process.getBuiltinModule("node:ffi");
    const { functions } = dlopen("libc.so.6", {
      socket: { return: "int32", arguments: ["int32", "int32", "int32"] },
      bind: { return: "int32", arguments: ["int32", "pointer", "uint32"] },
      close: { return: "int32", arguments: ["int32"] },
      setsockopt: { return: "int32", arguments: ["int32", "int32", "int32", "pointer", "uint32"] },
    });
    return { ...(functions as unknown as Omit<Calls, "getRawPointer">), getRawPointer };
  } catch {
    return null;
  }
}
