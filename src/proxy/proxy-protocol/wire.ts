/** What both sides of the PROXY protocol share. Source: HAProxy's doc/proxy-protocol.txt. */

/** Where a client came from and where it was going, as the proxy in front of us tells, or as we tell an endpoint. */
export interface AnnouncedAddresses {
  readonly sourceIp: string;
  readonly sourcePort: number;
  readonly destinationIp: string;
  readonly destinationPort: number;
}

/** An extension of version 2. */
export interface Tlv {
  /** One byte. */
  readonly type: number;
  readonly value: Buffer;
}

export const noTlvs: readonly Tlv[] = [];

export const textSignature = Buffer.from("PROXY ", "latin1");
export const binarySignature = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
/** Signature, version and command, family and transport, length. */
export const binaryHeadLength = 16;
export const binaryVersion = 2;
export const binaryCommand = { local: 0, proxy: 1 } as const;
export const binaryFamily = { ipv4: 1, ipv6: 2 } as const;
export const binaryTransport = { stream: 1, datagram: 2 } as const;
/** Both addresses and both ports. */
export const addressesLength = { ipv4: 12, ipv6: 36 } as const;
