/** What logs and filters are told of TLS on a connection. Read while it lives; afterwards there is nobody to ask. */
import type * as tls from "node:tls";
import { derTag, readDer, readDerList } from "../../lib/der.ts";
import type { AcceptedSocket } from "../accepted-socket.ts";
import type { TlsHandle } from "../native-stream.ts";
import type { TlsInfo } from "../stream-info.ts";

/** Of a connection that was accepted; `peerCertificate` as the handshake found it. */
export class ServerTlsInfo implements TlsInfo {
  readonly version: string;
  readonly cipher: string;
  readonly opensslCipher: string;
  readonly peerCertificate: Buffer | null;
  readonly #socket: AcceptedSocket;
  #local: Buffer | null | undefined;
  #sessionId: string | undefined;

  constructor(socket: AcceptedSocket, handle: TlsHandle, peerCertificate: Buffer | null) {
    this.#socket = socket;
    this.version = handle.getProtocol();
    const cipher = handle.getCipher();
    this.cipher = cipher.standardName ?? cipher.name;
    this.opensslCipher = cipher.name;
    this.peerCertificate = peerCertificate;
  }

  get sessionId(): string {
    this.#sessionId ??= this.version === "TLSv1.3" ? "" : sessionIdOf(this.#socket.tls?.getSession());
    return this.#sessionId;
  }

  get serverName(): string {
    return this.#socket.tls?.getServername() || "";
  }

  get localCertificate(): Buffer | null {
    if (this.#local === undefined) this.#local = this.#socket.tls?.getX509Certificate()?.raw() ?? null;
    return this.#local;
  }
}

/** Of a connection that node:tls made. */
export function clientTlsInfo(socket: tls.TLSSocket, peerCertificate: Buffer | null): TlsInfo {
  const cipher = socket.getCipher();
  let local: Buffer | null | undefined;
  return {
    version: socket.getProtocol() ?? "",
    cipher: cipher.standardName ?? cipher.name,
    opensslCipher: cipher.name,
    get sessionId() {
      return socket.getProtocol() === "TLSv1.3" ? "" : sessionIdOf(socket.getSession());
    },
    serverName: "",
    peerCertificate,
    get localCertificate() {
      if (local === undefined) local = socket.getX509Certificate?.()?.raw ?? null;
      return local;
    },
  };
}

/** OpenSSL's SSL_SESSION: version, TLS version, cipher, session id, ... */
function sessionIdOf(session: Buffer | undefined): string {
  const outer = session === undefined ? null : readDer(session, 0);
  const id = outer === null ? undefined : readDerList(outer.content)?.[3];
  return id?.tag === derTag.octetString ? id.content.toString("hex") : "";
}
