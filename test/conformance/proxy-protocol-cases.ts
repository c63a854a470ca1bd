/**
 * What a client may say first to a listener that wants a PROXY header, and what Envoy 1.40 makes of it: `accepted`, `closed` (with what
 * was sent unread, so reset), or `waits` for more. A request follows each header; `bare`: nothing does.
 */
import { binaryHeader, ipv4Addresses, ipv6Addresses } from "../support/proxy-header.ts";

export type ProxyListener = "strict" | "lenient" | "only-v1" | "only-v2" | "lenient-v1";

export interface ProxyHeaderCase {
  readonly name: string;
  /** Latin-1. */
  readonly bytes: string;
  readonly outcome: "accepted" | "closed" | "waits";
  readonly listener?: ProxyListener;
  readonly isBare?: true;
  /** Each byte by itself. */
  readonly isSlow?: true;
  /** The client says no more. */
  readonly ends?: true;
}

const v1 = (rest: string) => `PROXY ${rest}\r\n`;
const tcp4 = v1("TCP4 10.1.2.3 10.9.8.7 1111 2222");
const loopback6 = [0, 0, 0, 0, 0, 0, 0, 1];
const global6 = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7];
const multicast6 = [0xff02, 0, 0, 0, 0, 0, 0, 1];
const any6 = [0, 0, 0, 0, 0, 0, 0, 0];
const v6 = (source: number[], destination: number[]) => binaryHeader({ family: 0x21, addresses: ipv6Addresses(source, destination) });
const tlvs = (...list: [number, string][]) => binaryHeader({ tlvs: list });

export const proxyHeaderCases: readonly ProxyHeaderCase[] = [
  // Text
  { name: "v1, IPv4", bytes: tcp4, outcome: "accepted" },
  { name: "v1, byte by byte", bytes: tcp4, isSlow: true, outcome: "accepted" },
  { name: "v1, IPv6", bytes: v1("TCP6 2001:db8::7 ::1 1111 2222"), outcome: "accepted" },
  { name: "v1, IPv6 written out", bytes: v1("TCP6 2001:0DB8:0:0:0:0:0:7 0:0:0:0:0:0:0:1 1111 2222"), outcome: "accepted" },
  { name: "v1, IPv4 in IPv6", bytes: v1("TCP6 ::ffff:10.1.2.3 ::1 1111 2222"), outcome: "accepted" },
  { name: "v1, UNKNOWN", bytes: v1("UNKNOWN"), outcome: "accepted" },
  { name: "v1, UNKNOWN with addresses", bytes: v1("UNKNOWN 10.1.2.3 10.9.8.7 1111 2222"), outcome: "accepted" },
  { name: "v1, UNKNOWN with anything", bytes: v1("UNKNOWN what ever"), outcome: "accepted" },
  { name: "v1, port 0", bytes: v1("TCP4 10.1.2.3 10.9.8.7 0 0"), outcome: "accepted" },
  { name: "v1, highest ports", bytes: v1("TCP4 10.1.2.3 10.9.8.7 65535 65535"), outcome: "accepted" },
  { name: "v1, spaces at the end", bytes: v1("TCP4 10.1.2.3 10.9.8.7 1111 2222  "), outcome: "accepted" },
  { name: "v1, a tab at the end", bytes: v1("TCP4 10.1.2.3 10.9.8.7 1111 2222\t"), outcome: "accepted" },
  { name: "v1, port with a plus", bytes: v1("TCP4 10.1.2.3 10.9.8.7 +1111 2222"), outcome: "accepted" },
  { name: "v1, port with zeros", bytes: v1("TCP4 10.1.2.3 10.9.8.7 001111 2222"), outcome: "accepted" },
  { name: "v1, port with a tab before", bytes: v1("TCP4 10.1.2.3 10.9.8.7 \t1111 2222"), outcome: "accepted" },
  { name: "v1, port too high", bytes: v1("TCP4 10.1.2.3 10.9.8.7 65536 2222"), outcome: "closed" },
  { name: "v1, port negative", bytes: v1("TCP4 10.1.2.3 10.9.8.7 -1 2222"), outcome: "closed" },
  { name: "v1, port in hexadecimal", bytes: v1("TCP4 10.1.2.3 10.9.8.7 0x11 2222"), outcome: "closed" },
  { name: "v1, port of letters", bytes: v1("TCP4 10.1.2.3 10.9.8.7 http 2222"), outcome: "closed" },
  { name: "v1, too few words", bytes: v1("TCP4 10.1.2.3 10.9.8.7 1111"), outcome: "closed" },
  { name: "v1, too many words", bytes: v1("TCP4 10.1.2.3 10.9.8.7 1111 2222 3333"), outcome: "closed" },
  { name: "v1, two spaces", bytes: v1("TCP4  10.1.2.3 10.9.8.7 1111 2222"), outcome: "closed" },
  { name: "v1, small letters", bytes: "proxy TCP4 10.1.2.3 10.9.8.7 1111 2222\r\n", outcome: "closed" },
  { name: "v1, tcp4 in small letters", bytes: v1("tcp4 10.1.2.3 10.9.8.7 1111 2222"), outcome: "closed" },
  { name: "v1, UDP4", bytes: v1("UDP4 10.1.2.3 10.9.8.7 1111 2222"), outcome: "closed" },
  { name: "v1, IPv6 in TCP4", bytes: v1("TCP4 2001:db8::7 ::1 1111 2222"), outcome: "closed" },
  { name: "v1, IPv4 in TCP6", bytes: v1("TCP6 10.1.2.3 10.9.8.7 1111 2222"), outcome: "closed" },
  { name: "v1, IPv6 in brackets in TCP4", bytes: v1("TCP4 [::1] [::1] 1111 2222"), outcome: "closed" },
  { name: "v1, IPv6 with a zone", bytes: v1("TCP6 fe80::1%lo ::1 1111 2222"), outcome: "accepted" },
  { name: "v1, IPv4 with leading zeros", bytes: v1("TCP4 010.1.2.3 10.9.8.7 1111 2222"), outcome: "closed" },
  { name: "v1, IPv4 of three numbers", bytes: v1("TCP4 10.1.2 10.9.8.7 1111 2222"), outcome: "closed" },
  { name: "v1, IPv4 out of range", bytes: v1("TCP4 10.1.2.256 10.9.8.7 1111 2222"), outcome: "closed" },
  { name: "v1, from 0.0.0.0", bytes: v1("TCP4 0.0.0.0 10.9.8.7 1111 2222"), outcome: "closed" },
  { name: "v1, to 255.255.255.255", bytes: v1("TCP4 10.1.2.3 255.255.255.255 1111 2222"), outcome: "closed" },
  { name: "v1, from a multicast group", bytes: v1("TCP4 224.0.0.1 10.9.8.7 1111 2222"), outcome: "closed" },
  { name: "v1, from 240.0.0.1", bytes: v1("TCP4 240.0.0.1 10.9.8.7 1111 2222"), outcome: "accepted" },
  { name: "v1, to ::", bytes: v1("TCP6 ::1 :: 1111 2222"), outcome: "closed" },
  { name: "v1, from an IPv6 multicast group", bytes: v1("TCP6 ff02::1 ::1 1111 2222"), outcome: "closed" },
  { name: "v1, no protocol", bytes: "PROXY\r\n", outcome: "closed" },
  { name: "v1, no protocol, a space", bytes: "PROXY \r\n", outcome: "closed" },
  { name: "v1, no protocol, nothing behind it", bytes: "PROXY \r\n", isBare: true, outcome: "closed" },
  { name: "v1, LF alone", bytes: "PROXY TCP4 10.1.2.3 10.9.8.7 1111 2222\n", isBare: true, outcome: "waits" },
  { name: "v1, LF alone, CRLF later", bytes: "PROXY TCP4 10.1.2.3 10.9.8.7 1111 2222\n", outcome: "closed" },
  { name: "v1, no end", bytes: `PROXY UNKNOWN ${"x".repeat(90)}`, isBare: true, outcome: "waits" },
  { name: "v1, no end, 107 bytes", bytes: `PROXY UNKNOWN ${"x".repeat(93)}`, isBare: true, outcome: "waits" },
  { name: "v1, no end, 108 bytes", bytes: `PROXY UNKNOWN ${"x".repeat(94)}`, isBare: true, outcome: "waits" },
  { name: "v1, no end, 109 bytes", bytes: `PROXY UNKNOWN ${"x".repeat(95)}`, isBare: true, outcome: "closed" },
  { name: "v1, as long as may be", bytes: v1(`UNKNOWN ${"x".repeat(91)}`), outcome: "accepted" },
  { name: "v1, 108 bytes", bytes: v1(`UNKNOWN ${"x".repeat(92)}`), outcome: "accepted" },
  { name: "v1, 109 bytes", bytes: v1(`UNKNOWN ${"x".repeat(93)}`), outcome: "closed" },
  { name: "v1, half, then the end", bytes: "PROXY TCP4 10.1", isBare: true, ends: true, outcome: "closed" },
  { name: "v1 twice", bytes: tcp4 + tcp4, outcome: "accepted" },

  // Binary
  { name: "v2, IPv4", bytes: binaryHeader(), outcome: "accepted" },
  { name: "v2, byte by byte", bytes: binaryHeader(), isSlow: true, outcome: "accepted" },
  { name: "v2, IPv6", bytes: v6(global6, loopback6), outcome: "accepted" },
  { name: "v2, IPv4 in IPv6", bytes: v6([0, 0, 0, 0, 0, 0xffff, 0x0a01, 0x0203], loopback6), outcome: "accepted" },
  { name: "v2, UDP over IPv4", bytes: binaryHeader({ family: 0x12 }), outcome: "accepted" },
  { name: "v2, LOCAL", bytes: binaryHeader({ command: 0x20, family: 0, addresses: Buffer.alloc(0) }), outcome: "accepted" },
  { name: "v2, LOCAL with addresses", bytes: binaryHeader({ command: 0x20 }), outcome: "accepted" },
  { name: "v2, LOCAL with TLVs", bytes: binaryHeader({ command: 0x20, tlvs: [[0xea, "vpce-1"]] }), outcome: "accepted" },
  { name: "v2, LOCAL with broken TLVs", bytes: binaryHeader({ command: 0x20, rest: "\xea\xff\xffx" }), outcome: "accepted" },
  { name: "v2, version 1", bytes: binaryHeader({ command: 0x11 }), outcome: "closed" },
  { name: "v2, version 3", bytes: binaryHeader({ command: 0x31 }), outcome: "closed" },
  { name: "v2, command 2", bytes: binaryHeader({ command: 0x22 }), outcome: "closed" },
  { name: "v2, no family", bytes: binaryHeader({ family: 0 }), outcome: "closed" },
  { name: "v2, no transport", bytes: binaryHeader({ family: 0x10 }), outcome: "closed" },
  { name: "v2, transport 3", bytes: binaryHeader({ family: 0x13 }), outcome: "closed" },
  { name: "v2, Unix", bytes: binaryHeader({ family: 0x31, addresses: Buffer.alloc(216, "a") }), outcome: "closed" },
  { name: "v2, family 4", bytes: binaryHeader({ family: 0x41 }), outcome: "closed" },
  { name: "v2, shorter than its addresses", bytes: binaryHeader({ length: 11 }), outcome: "closed" },
  { name: "v2, IPv6 with the length of IPv4", bytes: binaryHeader({ family: 0x21 }), outcome: "closed" },
  { name: "v2, length 0", bytes: binaryHeader({ length: 0 }), outcome: "closed" },
  { name: "v2, longer than what came", bytes: binaryHeader({ length: 4000 }), outcome: "waits" },
  { name: "v2, cut in its addresses", bytes: binaryHeader().slice(0, 20), isBare: true, outcome: "waits" },
  { name: "v2, cut in its signature", bytes: binaryHeader().slice(0, 7), isBare: true, outcome: "waits" },
  { name: "v2, cut, then the end", bytes: binaryHeader().slice(0, 20), isBare: true, ends: true, outcome: "closed" },
  { name: "v2, signature wrong at its end", bytes: binaryHeader().replace("QUIT\n", "QUIT\r"), outcome: "closed" },
  { name: "v2, from 0.0.0.0", bytes: binaryHeader({ addresses: ipv4Addresses([0, 0, 0, 0]) }), outcome: "closed" },
  { name: "v2, to a multicast group", bytes: binaryHeader({ addresses: ipv4Addresses([10, 1, 2, 3], [239, 1, 1, 1]) }), outcome: "closed" },
  { name: "v2, from ::", bytes: v6(any6, loopback6), outcome: "closed" },
  { name: "v2, to an IPv6 multicast group", bytes: v6(loopback6, multicast6), outcome: "closed" },
  { name: "v2, port 0", bytes: binaryHeader({ addresses: ipv4Addresses([10, 1, 2, 3], [10, 9, 8, 7], [0, 0]) }), outcome: "accepted" },
  {
    name: "v2, to the listener itself",
    bytes: binaryHeader({ addresses: ipv4Addresses([127, 0, 0, 1], [127, 0, 0, 1]) }),
    outcome: "accepted",
  },

  // TLVs
  { name: "a TLV", bytes: tlvs([0xea, "vpce-1"]), outcome: "accepted" },
  { name: "TLVs of which one is wanted", bytes: tlvs([0x01, "h2"], [0xea, "vpce-1"], [0x04, ""]), outcome: "accepted" },
  { name: "a TLV twice", bytes: tlvs([0xea, "first"], [0xea, "second"]), outcome: "accepted" },
  { name: "an empty TLV", bytes: tlvs([0xea, ""]), outcome: "accepted" },
  { name: "an empty TLV, and another", bytes: tlvs([0xea, ""], [0x02, "name"]), outcome: "accepted" },
  { name: "a TLV that is no UTF-8", bytes: tlvs([0xea, "a\xff\xfeb"]), outcome: "accepted" },
  { name: "a TLV in UTF-8", bytes: tlvs([0xea, "gr\xc3\xbc\xc3\x9fe"]), outcome: "accepted" },
  { name: "a long TLV", bytes: tlvs([0x02, "n".repeat(60_000)], [0xea, "behind"]), outcome: "accepted" },
  { name: "a TLV byte by byte", bytes: tlvs([0xea, "vpce-1"]), isSlow: true, outcome: "accepted" },
  { name: "a TLV beyond the header", bytes: binaryHeader({ rest: "\xea\x00\x07vpce-1" }), outcome: "closed" },
  { name: "a TLV without length", bytes: binaryHeader({ rest: "\xea" }), outcome: "closed" },
  { name: "a TLV with half a length", bytes: binaryHeader({ rest: "\xea\x00" }), outcome: "closed" },
  { name: "a TLV's length and no more", bytes: binaryHeader({ rest: "\xea\x00\x01" }), outcome: "closed" },

  // No header at all
  { name: "a request", bytes: "", outcome: "closed" },
  { name: "a TLS hello", bytes: "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03aaaaaaaaaaaaa", isBare: true, outcome: "closed" },
  { name: "15 bytes of anything", bytes: "GET / HTTP/1.1x", isBare: true, outcome: "waits" },
  { name: "a short line", bytes: "GET /\r\n", isBare: true, outcome: "closed" },
  { name: "CRLF", bytes: "\r\n", isBare: true, outcome: "waits" },
  { name: "nothing, and the end", bytes: "", isBare: true, ends: true, outcome: "closed" },

  // Header optional
  { name: "lenient: v1", listener: "lenient", bytes: tcp4, outcome: "accepted" },
  { name: "lenient: v2", listener: "lenient", bytes: binaryHeader(), outcome: "accepted" },
  { name: "lenient: a request", listener: "lenient", bytes: "", outcome: "accepted" },
  { name: "lenient: one letter of it", listener: "lenient", bytes: "G", isBare: true, outcome: "waits" },
  { name: "lenient: begins like v1", listener: "lenient", bytes: "PROX", isBare: true, outcome: "waits" },
  { name: "lenient: PROXY and no more", listener: "lenient", bytes: "PROXYING / HTTP/1.1\r\n\r\n", isBare: true, outcome: "accepted" },
  { name: "lenient: a bad v1", listener: "lenient", bytes: v1("TCP4 10.1.2.3 10.9.8.7 x 1"), outcome: "closed" },
  { name: "lenient: a bad v2", listener: "lenient", bytes: binaryHeader({ family: 0 }), outcome: "closed" },
  { name: "lenient: byte by byte", listener: "lenient", bytes: tcp4, isSlow: true, outcome: "accepted" },

  // One version alone
  { name: "only v1: v1", listener: "only-v1", bytes: tcp4, outcome: "accepted" },
  { name: "only v1: v2", listener: "only-v1", bytes: binaryHeader(), outcome: "closed" },
  { name: "only v1: a request", listener: "only-v1", bytes: "", outcome: "closed" },
  { name: "only v2: v2", listener: "only-v2", bytes: binaryHeader(), outcome: "accepted" },
  { name: "only v2: v1", listener: "only-v2", bytes: tcp4, outcome: "closed" },
  { name: "only v2: a bad v1", listener: "only-v2", bytes: v1("TCP4 x"), outcome: "closed" },
  { name: "lenient, only v1: v1", listener: "lenient-v1", bytes: tcp4, outcome: "accepted" },
  { name: "lenient, only v1: a request", listener: "lenient-v1", bytes: "", outcome: "accepted" },
];
