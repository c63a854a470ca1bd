/**
 * What Node itself builds net.Socket and tls.TLSSocket from: stream handles of libuv, and TLS wrapped around one (`stream_wrap`,
 * `tls_wrap`). It is no public interface; everything of that kind in the data path goes through this file, and the Node that runs it is
 * pinned in package.json.
 */
import type * as net from "node:net";
import type * as tls from "node:tls";

/** A write or a shutdown on its way. */
export interface NativeRequest {
  oncomplete: ((this: never, status: number) => void) | undefined;
}

export interface NativeHandle {
  onread: ((this: NativeHandle) => Buffer | undefined) | undefined;
  readonly fd: number;
  readStart(): number;
  readStop(): number;
  writeBuffer(request: NativeRequest, buffer: Buffer): number;
  writev(request: NativeRequest, buffers: readonly Buffer[], allBuffers: true): number;
  shutdown(request: NativeRequest): number;
  useUserBuffer(buffer: Buffer): void;
  close(done?: () => void): void;
}

interface SocketName {
  address?: string;
  port?: number;
}

/** A socket of TCP, or of a Unix path, which has neither names nor options. */
export interface SocketHandle extends NativeHandle {
  getpeername?(out: SocketName): number;
  getsockname?(out: SocketName): number;
  setNoDelay?(on: boolean): number;
  /** Closes with RST. */
  reset?(done?: () => void): number;
}

/** The certificate as Node's X509Certificate wraps it. */
interface NativeCertificate {
  raw(): Buffer;
}

/** A root is signed by itself. */
export interface SignedCertificate {
  readonly raw: Buffer;
  readonly issuerCertificate?: SignedCertificate;
}

/** TLS around a socket's handle. Whoever holds the socket has to hold this, too: the socket does not. */
export interface TlsHandle extends NativeHandle {
  onhandshakestart: () => void;
  onhandshakedone: () => void;
  onerror: (error: Error) => void;
  /** With session callbacks: the client's hello was read; `clientHelloDone` lets the handshake go on. */
  onclienthello: (hello: { readonly sessionId: Buffer }) => void;
  /** With session callbacks: there is a session to keep; `newSessionDone` lets the handshake go on. */
  onnewsession: (id: Buffer, session: Buffer) => void;
  setVerifyMode(requestCertificate: boolean, rejectNone: boolean): void;
  /** In ALPN's wire format; a client that offers none of them is refused. */
  setALPNProtocols(protocols: Buffer): void;
  setOCSPResponse(response: Buffer): void;
  enableSessionCallbacks(): void;
  loadSession(session: Buffer | null): void;
  clientHelloDone(): void;
  endParser(): void;
  newSessionDone(): void;
  /** Bytes that somebody else has read from the socket. */
  receive(bytes: Buffer): void;
  /** null: the peer's certificate is good, or none was there to be looked at. */
  verifyError(): NodeJS.ErrnoException | null;
  getPeerX509Certificate(): NativeCertificate | undefined;
  getX509Certificate(): NativeCertificate | undefined;
  /** `isDetailed`: with all that it was signed by, as far as it is known. */
  getPeerCertificate(isDetailed: boolean): SignedCertificate | undefined;
  getProtocol(): string;
  getCipher(): { readonly name: string; readonly standardName?: string };
  /** SSL_SESSION as DER. */
  getSession(): Buffer | undefined;
  getServername(): string | false;
  /** What the handshake has agreed on. */
  getALPNNegotiatedProtocol(): string | false | undefined;
  isSessionReused(): boolean;
  /** Not on OpenSSL's stack: never within a callback of the handshake. */
  destroySSL(): void;
}

interface StreamBinding {
  readonly WriteWrap: new () => NativeRequest;
  readonly ShutdownWrap: new () => NativeRequest;
  readonly streamBaseState: Int32Array;
  readonly kReadBytesOrError: number;
  readonly kLastWriteWasAsync: number;
}

interface TlsBinding {
  wrap(handle: NativeHandle, context: unknown, isServer: boolean, hasActiveWrite: boolean): TlsHandle;
}

const { binding } = process as unknown as { binding(name: string): unknown };
export const { WriteWrap, ShutdownWrap, streamBaseState, kReadBytesOrError, kLastWriteWasAsync } = binding("stream_wrap") as StreamBinding;
const tlsBinding = binding("tls_wrap") as TlsBinding;

export const endOfFile = -4095; // UV_EOF

export function handleOf(socket: net.Socket): NativeHandle | null {
  return (socket as unknown as { readonly _handle: NativeHandle | null })._handle;
}

/** Connections of a listening server come as handles, without the net.Socket that nobody would need; a negative status is an errno. */
export function acceptHandles(server: net.Server, onConnection: (status: number, handle: SocketHandle) => void): void {
  (server as unknown as { readonly _handle: { onconnection: typeof onConnection } })._handle.onconnection = onConnection;
}

export function wrapServerTls(handle: NativeHandle, context: tls.SecureContext): TlsHandle {
  return tlsBinding.wrap(handle, (context as { readonly context: unknown }).context, true, false);
}

/** Writes what TLS says at the end (close_notify): without it a peer can't tell an end from a cut, and OpenSSL's forget the session. */
export function sayGoodbye(tls: NativeHandle | null): void {
  const request = new ShutdownWrap();
  request.oncomplete = ignore;
  tls?.shutdown(request);
}

/** As DER, the certificate itself first. */
export function chainOf(certificate: SignedCertificate | undefined): Buffer[] {
  const chain: Buffer[] = [];
  for (let one = certificate; one?.raw !== undefined; one = one.issuerCertificate === one ? undefined : one.issuerCertificate) {
    chain.push(one.raw);
  }
  return chain;
}

function ignore(): void {}
