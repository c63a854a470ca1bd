/**
 * What a TLS client says first, read without answering: is it TLS, for which name, which protocols (tls_inspector).
 *
 * A record header, then a handshake message of type client_hello; it may be spread over several records. RFC 8446 4.1.2.
 */
export interface ClientHello {
  /** In lower case; "" when none was sent. */
  readonly serverName: string;
  readonly alpn: readonly string[];
  /** Says its versions in an extension, as TLS 1.3 has it. */
  readonly namesVersions: boolean;
  /** Takes session tickets, the way TLS 1.2 has them. */
  readonly takesTickets: boolean;
  /** Wants an OCSP response beside the certificate. */
  readonly wantsStaple: boolean;
  /** Lists of 16-bit numbers as they came; null when not sent. */
  readonly cipherSuites: Buffer;
  readonly groups: Buffer | null;
  readonly signatureSchemes: Buffer | null;
}

export type Inspection = { readonly kind: "more" } | { readonly kind: "none" } | { readonly kind: "tls"; readonly hello: ClientHello };

const more: Inspection = { kind: "more" };
const none: Inspection = { kind: "none" };
export const maxHelloBytes = 64 * 1024;

/** What comes of it refers to `bytes`. */
export function inspectClientHello(bytes: Buffer): Inspection {
  if (bytes.length === 0) return more;
  if (bytes[0] !== 22) return none;
  if (bytes.length >= 2 && bytes[1] !== 3) return none;
  // Join the payloads of the records that are there: mostly there is one.
  let joined: Buffer | null = null;
  let at = 0;
  let wanted = -1;
  while (at + 5 <= bytes.length) {
    if (bytes[at] !== 22 || bytes[at + 1] !== 3) return none;
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > 16_384 + 256) return none;
    const part = bytes.subarray(at + 5, at + 5 + length);
    joined = joined === null ? part : Buffer.concat([joined, part]);
    if (wanted < 0 && joined.length >= 4) {
      if (joined[0] !== 1) return none;
      wanted = 4 + joined.readUIntBE(1, 3);
      if (wanted > maxHelloBytes) return none;
    }
    if (wanted >= 0 && joined.length >= wanted) return parse(joined.subarray(4, wanted));
    at += 5 + length;
  }
  return bytes.length > maxHelloBytes ? none : more;
}

// Numbers of extensions (IANA, TLS ExtensionType Values).
const extension = {
  serverName: 0,
  statusRequest: 5,
  supportedGroups: 10,
  signatureAlgorithms: 13,
  alpn: 16,
  sessionTicket: 35,
  supportedVersions: 43,
} as const;

function parse(hello: Buffer): Inspection {
  try {
    let at = 2 + 32;
    at += 1 + hello.readUInt8(at); // session id
    const cipherSuites = listAt(hello, at);
    at += 2 + cipherSuites.length;
    at += 1 + hello.readUInt8(at); // compression
    let serverName = "";
    let alpn: readonly string[] = noProtocols;
    let [namesVersions, takesTickets, wantsStaple] = [false, false, false];
    let groups: Buffer | null = null;
    let signatureSchemes: Buffer | null = null;
    if (at + 2 <= hello.length) {
      const end = at + 2 + hello.readUInt16BE(at);
      at += 2;
      while (at + 4 <= end) {
        const type = hello.readUInt16BE(at);
        const length = hello.readUInt16BE(at + 2);
        const from = at + 4;
        switch (type) {
          case extension.serverName:
            serverName = readServerName(hello.subarray(from, from + length));
            break;
          case extension.alpn:
            alpn = readAlpn(hello.subarray(from, from + length));
            break;
          case extension.statusRequest:
            wantsStaple = true;
            break;
          case extension.supportedGroups:
            groups = listAt(hello, from);
            break;
          case extension.signatureAlgorithms:
            signatureSchemes = listAt(hello, from);
            break;
          case extension.sessionTicket:
            takesTickets = true;
            break;
          case extension.supportedVersions:
            namesVersions = true;
            break;
          default:
        }
        at = from + length;
      }
    }
    const hints = { namesVersions, takesTickets, wantsStaple, cipherSuites, groups, signatureSchemes };
    return { kind: "tls", hello: { serverName, alpn, ...hints } };
  } catch {
    // Lengths that lead outside: no hello that a TLS stack would take.
    return none;
  }
}

const noProtocols: readonly string[] = [];

/** A list with its length in bytes before it. */
function listAt(hello: Buffer, at: number): Buffer {
  return hello.subarray(at + 2, at + 2 + hello.readUInt16BE(at));
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
