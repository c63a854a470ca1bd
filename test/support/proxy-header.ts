/** Headers of the PROXY protocol, well-formed or not. Source: HAProxy's doc/proxy-protocol.txt. */

const signature = "\r\n\r\n\0\r\nQUIT\n";

export interface BinaryHeader {
  /** Version and command in one byte; default: version 2, PROXY. */
  readonly command?: number;
  /** Address family and transport in one byte; default: TCP over IPv4. */
  readonly family?: number;
  /** Default: 10.1.2.3:1111 to 10.9.8.7:2222. */
  readonly addresses?: Buffer;
  readonly tlvs?: readonly (readonly [type: number, value: string])[];
  /** What the header says its length is; default: what it is. */
  readonly length?: number;
  /** Behind the TLVs, within the length. */
  readonly rest?: string;
}

/** As latin1 text. */
export function binaryHeader(options: BinaryHeader = {}): string {
  const { command = 0x21, family = 0x11, addresses = ipv4Addresses(), tlvs = [], rest = "" } = options;
  const extensions = tlvs.map(([type, value]) =>
    Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 255]), latin1(value)]),
  );
  const body = Buffer.concat([addresses, ...extensions, latin1(rest)]);
  const length = options.length ?? body.length;
  return signature + Buffer.concat([Buffer.from([command, family, length >> 8, length & 255]), body]).toString("latin1");
}

export function ipv4Addresses(
  source = [10, 1, 2, 3],
  destination = [10, 9, 8, 7],
  ports: readonly [number, number] = [1111, 2222],
): Buffer {
  return Buffer.concat([Buffer.from([...source, ...destination]), portBytes(ports)]);
}

/** Of eight 16-bit words each. */
export function ipv6Addresses(
  source: readonly number[],
  destination: readonly number[],
  ports: readonly [number, number] = [1111, 2222],
): Buffer {
  return Buffer.concat([Buffer.from([...source, ...destination].flatMap((word) => [word >> 8, word & 255])), portBytes(ports)]);
}

function portBytes(ports: readonly number[]): Buffer {
  return Buffer.from(ports.flatMap((port) => [port >> 8, port & 255]));
}

function latin1(text: string): Buffer {
  return Buffer.from(text, "latin1");
}
