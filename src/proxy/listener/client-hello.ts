/**
 * What a TLS client says first, read without answering: is it TLS, for which name, which protocols (tls_inspector).
 *
 * A record header, then a handshake message of type client_hello; it may be spread over several records. RFC 8446 4.1.2.
 */
export interface ClientHello {
  /** In lower case; "" when none was sent. */
  readonly serverName: string;
  readonly alpn: readonly string[];
}

export type Inspection = { readonly kind: "more" } | { readonly kind: "none" } | { readonly kind: "tls"; readonly hello: ClientHello };

const more: Inspection = { kind: "more" };
const none: Inspection = { kind: "none" };
export const maxHelloBytes = 64 * 1024;

export function inspectClientHello(bytes: Buffer): Inspection {
  if (bytes.length === 0) return more;
  if (bytes[0] !== 22) return none;
  if (bytes.length >= 2 && bytes[1] !== 3) return none;
  // Join the payloads of the records that are there.
  const parts: Buffer[] = [];
  let at = 0;
  let have = 0;
  let wanted = -1;
  while (at + 5 <= bytes.length) {
    if (bytes[at] !== 22 || bytes[at + 1] !== 3) return none;
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > 16_384 + 256) return none;
    const part = bytes.subarray(at + 5, at + 5 + length);
    parts.push(part);
    have += part.length;
    if (wanted < 0 && have >= 4) {
      const head = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
      if (head[0] !== 1) return none;
      wanted = 4 + head.readUIntBE(1, 3);
      if (wanted > maxHelloBytes) return none;
    }
    if (wanted >= 0 && have >= wanted) return parse(Buffer.concat(parts).subarray(4, wanted));
    at += 5 + length;
  }
  return bytes.length > maxHelloBytes ? none : more;
}

function parse(hello: Buffer): Inspection {
  try {
    let at = 2 + 32;
    at += 1 + hello.readUInt8(at); // session id
    at += 2 + hello.readUInt16BE(at); // cipher suites
    at += 1 + hello.readUInt8(at); // compression
    let serverName = "";
    let alpn: string[] = [];
    if (at + 2 <= hello.length) {
      const end = at + 2 + hello.readUInt16BE(at);
      at += 2;
      while (at + 4 <= end) {
        const type = hello.readUInt16BE(at);
        const length = hello.readUInt16BE(at + 2);
        const body = hello.subarray(at + 4, at + 4 + length);
        if (type === 0) serverName = readServerName(body);
        else if (type === 16) alpn = readAlpn(body);
        at += 4 + length;
      }
    }
    return { kind: "tls", hello: { serverName, alpn } };
  } catch {
    // Lengths that lead outside: no hello that a TLS stack would take.
    return none;
  }
}

function readServerName(body: Buffer): string {
  let at = 2;
  while (at + 3 <= body.length) {
    const length = body.readUInt16BE(at + 1);
    if (body[at] === 0) return body.latin1Slice(at + 3, at + 3 + length).toLowerCase();
    at += 3 + length;
  }
  return "";
}

function readAlpn(body: Buffer): string[] {
  const protocols: string[] = [];
  let at = 2;
  while (at < body.length) {
    const length = body.readUInt8(at);
    protocols.push(body.latin1Slice(at + 1, at + 1 + length));
    at += 1 + length;
  }
  return protocols;
}
