/** PROXY headers as they are sent to endpoints. */
import { parseIp } from "../../lib/ip-range.ts";
import {
  type AnnouncedAddresses,
  addressesLength,
  binaryCommand,
  binaryFamily,
  binaryHeadLength,
  binarySignature,
  binaryTransport,
  binaryVersion,
  type Tlv,
} from "./wire.ts";

const maxLength = 0xffff;
/** Type and length of a TLV. */
const tlvHeadLength = 3;

export function textHeader({ sourceIp, destinationIp, sourcePort, destinationPort }: AnnouncedAddresses): Buffer {
  const protocol = sourceIp.includes(":") ? "TCP6" : "TCP4";
  return Buffer.from(`PROXY ${protocol} ${sourceIp} ${destinationIp} ${sourcePort} ${destinationPort}\r\n`, "latin1");
}

/** Says that the connection is the proxy's own. */
export function localHeader(): Buffer {
  return Buffer.concat([binarySignature, Buffer.from([(binaryVersion << 4) | binaryCommand.local, 0, 0, 0])]);
}

/** TLVs that there is no more room for are left out: `isWhole` is false then. */
export function binaryHeader(addresses: AnnouncedAddresses, tlvs: readonly Tlv[]): { readonly bytes: Buffer; readonly isWhole: boolean } {
  const isIpv6 = addresses.sourceIp.includes(":");
  const room = maxLength - (isIpv6 ? addressesLength.ipv6 : addressesLength.ipv4);
  const parts: Buffer[] = [];
  let extensions = 0;
  let isWhole = true;
  for (const { type, value } of tlvs) {
    const length = tlvHeadLength + value.length;
    if (extensions + length > room) {
      isWhole = false;
      continue;
    }
    extensions += length;
    parts.push(Buffer.from([type, value.length >> 8, value.length & 255]), value);
  }
  const head = Buffer.alloc(binaryHeadLength);
  binarySignature.copy(head);
  head[12] = (binaryVersion << 4) | binaryCommand.proxy;
  head[13] = ((isIpv6 ? binaryFamily.ipv6 : binaryFamily.ipv4) << 4) | binaryTransport.stream;
  head.writeUInt16BE(maxLength - room + extensions, 14);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(addresses.sourcePort, 0);
  ports.writeUInt16BE(addresses.destinationPort, 2);
  return { bytes: Buffer.concat([head, ipBytes(addresses.sourceIp), ipBytes(addresses.destinationIp), ports, ...parts]), isWhole };
}

function ipBytes(ip: string): Buffer {
  const words = parseIp(ip)!;
  const bytes = Buffer.alloc(4 * words.length);
  for (const [index, word] of words.entries()) bytes.writeUInt32BE(word, 4 * index);
  return bytes;
}
