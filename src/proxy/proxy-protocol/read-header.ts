/**
 * A PROXY header at the beginning of a connection, version 1 (a line of text) or 2 (binary). What is taken for one, and what is not, is
 * what Envoy takes: test/conformance/proxy-protocol.test.ts asks both.
 *
 *      bytes -> more | absent | refused | disallowed | found
 */
import { isIPv4, isIPv6, SocketAddress } from "node:net";
import {
  type AnnouncedAddresses,
  addressesLength,
  binaryCommand,
  binaryFamily,
  binaryHeadLength,
  binarySignature,
  binaryTransport,
  binaryVersion,
  noTlvs,
  type Tlv,
  textSignature,
} from "./wire.ts";

export interface ReadingTerms {
  /** What is no header is passed on as it is. */
  readonly isOptional: boolean;
  readonly takesText: boolean;
  readonly takesBinary: boolean;
}

export interface ProxyHeader {
  readonly version: 1 | 2;
  /** Bytes; what follows is the client's. */
  readonly length: number;
  /** null: the connection's own count (LOCAL, UNKNOWN). */
  readonly addresses: AnnouncedAddresses | null;
  readonly tlvs: readonly Tlv[];
}

export type HeaderReading =
  | { readonly kind: "more" }
  | { readonly kind: "absent" }
  /** 0: it is of neither version. */
  | { readonly kind: "refused" | "disallowed"; readonly version: 0 | 1 | 2 }
  | { readonly kind: "found"; readonly header: ProxyHeader };

/** Envoy looks for the end of a line no further than this, and takes lines no longer than that. */
const maxTextSearch = 232;
const maxTextLength = 108;

const more: HeaderReading = { kind: "more" };
const absent: HeaderReading = { kind: "absent" };
const refused = [0, 1, 2].map((version) => ({ kind: "refused", version })) as [HeaderReading, HeaderReading, HeaderReading];

/** `bytes`: everything that came so far, at least one. What comes of it refers to them. */
export function readProxyHeader(bytes: Buffer, terms: ReadingTerms): HeaderReading {
  if (terms.isOptional) {
    const mayBeBinary = terms.takesBinary && beginsLike(bytes, binarySignature);
    const mayBeText = terms.takesText && beginsLike(bytes, textSignature);
    if (!mayBeBinary && !mayBeText) return absent;
  }
  if (bytes.length < binaryHeadLength) return readText(bytes, terms);
  if (beginsLike(bytes, binarySignature)) return terms.takesBinary ? readBinary(bytes) : { kind: "disallowed", version: 2 };
  return beginsLike(bytes, textSignature) ? readText(bytes, terms) : refused[0];
}

function beginsLike(bytes: Buffer, signature: Buffer): boolean {
  const length = Math.min(bytes.length, signature.length);
  return bytes.compare(signature, 0, length, 0, length) === 0;
}

function readText(bytes: Buffer, terms: ReadingTerms): HeaderReading {
  const end = bytes.subarray(0, maxTextSearch).indexOf("\r\n");
  // The binary signature begins with a line's end as well.
  if (end === 0) return more;
  if (end < 0) return Math.min(bytes.length, maxTextSearch) > maxTextLength ? refused[0] : more;
  const length = end + 2;
  if (length > maxTextLength) return refused[1];
  if (!terms.takesText) return { kind: "disallowed", version: 1 };
  const [name, protocol, ...rest] = bytes.latin1Slice(0, length).trimEnd().split(" ");
  if (name !== "PROXY" || protocol === undefined) return refused[1];
  if (protocol === "UNKNOWN") return { kind: "found", header: { version: 1, length, addresses: null, tlvs: noTlvs } };
  const addresses = rest.length === 4 ? textAddresses(protocol, rest as [string, string, string, string]) : null;
  return addresses === null ? refused[1] : { kind: "found", header: { version: 1, length, addresses, tlvs: noTlvs } };
}

function textAddresses(protocol: string, [source, destination, from, to]: readonly [string, string, string, string]) {
  // A zone is an interface of another machine, so it says nothing here.
  const isAddress = protocol === "TCP4" ? isIPv4 : (text: string) => protocol === "TCP6" && isIPv6(text) && !text.includes("%");
  const [sourcePort, destinationPort] = [portOf(from), portOf(to)];
  if (!isAddress(source) || !isAddress(destination) || sourcePort === null || destinationPort === null) return null;
  return unicast({ sourceIp: shortest(source), sourcePort, destinationIp: shortest(destination), destinationPort });
}

function portOf(text: string): number | null {
  const digits = /^\s*\+?(\d+)\s*$/.exec(text)?.[1];
  const port = digits === undefined ? Number.NaN : Number(digits);
  return port <= 65_535 ? port : null;
}

function readBinary(bytes: Buffer): HeaderReading {
  const versionAndCommand = bytes[12]!;
  const familyAndTransport = bytes[13]!;
  if (versionAndCommand >> 4 !== binaryVersion) return refused[2];
  const rest = bytes.readUInt16BE(14);
  const length = binaryHeadLength + rest;
  const command = versionAndCommand & 15;
  if (command === binaryCommand.local) {
    if (bytes.length < length) return more;
    return { kind: "found", header: { version: 2, length, addresses: null, tlvs: noTlvs } };
  }
  const family = familyAndTransport >> 4;
  if (family !== binaryFamily.ipv4 && family !== binaryFamily.ipv6) return refused[2];
  const forAddresses = family === binaryFamily.ipv4 ? addressesLength.ipv4 : addressesLength.ipv6;
  if (rest < forAddresses) return refused[2];
  if (bytes.length < binaryHeadLength + forAddresses) return more;
  const transport = familyAndTransport & 15;
  const isKnown = transport === binaryTransport.stream || transport === binaryTransport.datagram;
  if (command !== binaryCommand.proxy || !isKnown) return refused[2];
  if (bytes.length < length) return more;
  const tlvs = readTlvs(bytes.subarray(binaryHeadLength + forAddresses, length));
  const addresses = unicast(binaryAddresses(bytes, family === binaryFamily.ipv4 ? 4 : 16));
  if (tlvs === null || addresses === null) return refused[2];
  return { kind: "found", header: { version: 2, length, addresses, tlvs } };
}

function binaryAddresses(bytes: Buffer, ipLength: 4 | 16): AnnouncedAddresses {
  const ports = binaryHeadLength + 2 * ipLength;
  return {
    sourceIp: ipText(bytes, binaryHeadLength, ipLength),
    sourcePort: bytes.readUInt16BE(ports),
    destinationIp: ipText(bytes, binaryHeadLength + ipLength, ipLength),
    destinationPort: bytes.readUInt16BE(ports + 2),
  };
}

function ipText(bytes: Buffer, at: number, length: 4 | 16): string {
  if (length === 4) return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(at + 2 * index).toString(16));
  return shortest(groups.join(":"));
}

/** As everybody else writes it. */
function shortest(ip: string): string {
  return ip.includes(":") ? new SocketAddress({ family: "ipv6", address: ip }).address : ip;
}

function readTlvs(bytes: Buffer): readonly Tlv[] | null {
  if (bytes.length === 0) return noTlvs;
  const tlvs: Tlv[] = [];
  for (let at = 0; at < bytes.length; ) {
    const value = at + 3;
    if (value > bytes.length) return null;
    const end = value + bytes.readUInt16BE(at + 1);
    if (end > bytes.length) return null;
    tlvs.push({ type: bytes[at]!, value: bytes.subarray(value, end) });
    at = end;
  }
  return tlvs;
}

/** null where one of them can't be the end of a TCP connection. */
function unicast(addresses: AnnouncedAddresses): AnnouncedAddresses | null {
  return isUnicast(addresses.sourceIp) && isUnicast(addresses.destinationIp) ? addresses : null;
}

function isUnicast(ip: string): boolean {
  if (ip.includes(":")) return ip !== "::" && !/^ff..:/.test(ip);
  const first = Number.parseInt(ip, 10);
  return ip !== "0.0.0.0" && ip !== "255.255.255.255" && (first < 224 || first > 239);
}
