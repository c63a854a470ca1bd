/**
 * One TLS handshake of a client: OpenSSL's TLS object around the accepted socket, without the tls.Server and the tls.TLSSocket that node:tls
 * would put around both. That was a fifth of what a new connection cost.
 *
 * Everything within a callback of the handshake happens on OpenSSL's stack: whoever is told there may write, and close, and no more.
 */
import type * as tls from "node:tls";
import type { AcceptedSocket } from "../accepted-socket.ts";
import { type TlsHandle, wrapServerTls } from "../native-stream.ts";
import type { SessionCache } from "./session-cache.ts";

export interface HandshakeTerms {
  readonly context: tls.SecureContext;
  /** `optional`: asked for and not insisted on, or insisted on by whoever looks at the connection afterwards. */
  readonly clientCertificate: "none" | "optional" | "required";
  /** In ALPN's wire format; null where nothing is to be agreed on. */
  readonly alpn: Buffer | null;
  /** OCSP response for clients that ask for one. */
  readonly staple: Buffer | null;
  /** For a client whose session the server keeps. */
  readonly sessions: { readonly cache: SessionCache; readonly lifetimeMs: number } | null;
}

export interface HandshakeEnd {
  done(handle: TlsHandle): void;
  /** The socket stands as it stood. */
  failed(error: Error): void;
}

export function startServerHandshake(socket: AcceptedSocket, terms: HandshakeTerms, end: HandshakeEnd): void {
  const handle = wrapServerTls(socket.plainHandle, terms.context);
  let isDone = false;
  if (terms.clientCertificate !== "none") handle.setVerifyMode(true, terms.clientCertificate === "required");
  if (terms.alpn !== null) handle.setALPNProtocols(terms.alpn);
  if (terms.staple !== null) handle.setOCSPResponse(terms.staple);
  handle.onhandshakestart = ignore;
  handle.onhandshakedone = () => {
    if (isDone || socket.isDestroyed) return;
    isDone = true;
    end.done(handle);
  };
  handle.onerror = (error) => {
    if (socket.isDestroyed) return;
    if (isDone) socket.failed(error);
    else {
      isDone = true;
      end.failed(error);
    }
  };
  // Before there is a transport only an end can be read.
  handle.onread = () => {
    if (!isDone && !socket.isDestroyed) {
      isDone = true;
      end.failed(goneInHandshake());
    }
    return undefined;
  };
  if (terms.sessions !== null) keepSessions(handle, terms.sessions);
  socket.secure(handle);
}

function keepSessions(handle: TlsHandle, { cache, lifetimeMs }: NonNullable<HandshakeTerms["sessions"]>): void {
  handle.onclienthello = ({ sessionId }) => {
    const known = cache.get(sessionId, Date.now());
    if (known !== null) handle.loadSession(known);
    handle.clientHelloDone();
  };
  handle.onnewsession = (id, session) => {
    cache.put(id, session, Date.now() + lifetimeMs);
    handle.newSessionDone();
  };
  handle.enableSessionCallbacks();
}

function goneInHandshake(): Error {
  return Object.assign(new Error("socket hang up"), { code: "ECONNRESET" });
}

function ignore(): void {}
