/**
 * An accepted connection until it is closed: who is on the other side, the first bytes for those who must look at them, and TLS around it
 * once there is some. It stands where node:net would have a net.Socket, whose streams nobody here would use.
 *
 *      accepted -> [first bytes] -> [TLS handshake] -> handed to a transport -> closed
 */
import {
  endOfFile,
  kReadBytesOrError,
  type NativeHandle,
  type SocketHandle,
  sayGoodbye,
  streamBaseState,
  type TlsHandle,
} from "./native-stream.ts";
import { sharedReadBuffer, type TransportSocket } from "./transport.ts";

interface OwnedHandle extends NativeHandle {
  topsailSocket: AcceptedSocket | undefined;
}

interface OwnedSocketHandle extends SocketHandle, OwnedHandle {
  /** Keeps the TLS object alive for as long as its socket is. */
  topsailTls: TlsHandle | undefined;
}

export interface FirstBytesReader {
  /** Everything that has come so far, kept. Until `stopReading` there may be more. */
  onBytes(bytes: Buffer): void;
  /** The client will say no more. */
  onEnd(): void;
  /** The connection is broken. */
  onGone(): void;
}

export class AcceptedSocket implements TransportSocket {
  readonly remoteIp: string;
  readonly remotePort: number;
  /** Where it came in; listeners behind redirecting rules ask the kernel for more. */
  readonly localIp: string;
  readonly localPort: number;
  readonly isIpv4: boolean;
  isDestroyed = false;
  #socket: OwnedSocketHandle;
  #tls: TlsHandle | null = null;
  #early: Buffer | null = null;
  #hasEnded = false;
  #reader: FirstBytesReader | null = null;
  #lost: ((error: NodeJS.ErrnoException | null) => void) | null = null;

  constructor(handle: SocketHandle) {
    this.#socket = handle as OwnedSocketHandle;
    handle.setNoDelay?.(true);
    const remote: { address?: string; port?: number } = {};
    const local: { address?: string; port?: number } = {};
    handle.getpeername?.(remote);
    handle.getsockname?.(local);
    this.remoteIp = plainIp(remote.address ?? "");
    this.remotePort = remote.port ?? 0;
    this.localIp = plainIp(local.address ?? "");
    this.localPort = local.port ?? 0;
    this.isIpv4 = this.remoteIp.includes(".");
  }

  get handle(): SocketHandle | TlsHandle | null {
    return this.isDestroyed ? null : (this.#tls ?? this.#socket);
  }

  get fd(): number {
    return this.isDestroyed ? -1 : this.#socket.fd;
  }

  get copiesWrites(): boolean {
    return this.#tls !== null;
  }

  /** Reads until the reader has seen enough; what was read is kept for who comes next. */
  readFirst(reader: FirstBytesReader): void {
    this.#reader = reader;
    const handle = (this.#tls ?? this.#socket) as OwnedHandle;
    handle.topsailSocket = this;
    handle.useUserBuffer(sharedReadBuffer);
    handle.onread = onFirstRead;
    handle.readStart();
  }

  /** What was read and nobody has taken. */
  get early(): Buffer {
    return this.#early ?? nothing;
  }

  /** These many of the first bytes were for the one who looked at them, and for nobody behind. */
  dropFirst(length: number): void {
    const rest = this.early.subarray(length);
    this.#early = rest.length === 0 ? null : rest;
  }

  stopReading(): void {
    this.#reader = null;
    this.handle?.readStop();
  }

  readFirstBytes(length: number): void {
    const reader = this.#reader;
    if (length < 0) {
      if (length === endOfFile) this.#hasEnded = true;
      this.stopReading();
      if (length === endOfFile) reader?.onEnd();
      else reader?.onGone();
      return;
    }
    // What TLS has decrypted comes even when nobody reads.
    const chunk = sharedReadBuffer.subarray(0, length);
    this.#early = this.#early === null ? Buffer.from(chunk) : Buffer.concat([this.#early, chunk]);
    reader?.onBytes(this.#early);
  }

  /** null when there is none, or none any more: OpenSSL must not be asked about what is gone. */
  get tls(): TlsHandle | null {
    return this.#tls;
  }

  /** By ALPN; false: there was no agreement, or no TLS. */
  get applicationProtocol(): string | false {
    return this.#tls?.getALPNNegotiatedProtocol() ?? false;
  }

  /** The socket's own handle, for TLS to be wrapped around it. */
  get plainHandle(): SocketHandle {
    return this.#socket;
  }

  /** From now on it is TLS; what was read before goes through it. */
  secure(tls: TlsHandle): void {
    this.#tls = tls;
    this.#socket.topsailTls = tls;
    const early = this.#early;
    this.#early = null;
    if (early !== null) tls.receive(early);
    if (!this.isDestroyed) tls.readStart();
  }

  /** The handshake's error comes from its own; afterwards this is who hears that TLS broke. */
  failed(error: NodeJS.ErrnoException): void {
    this.#lost?.(error);
  }

  // --- TransportSocket ---

  takeEarly(): { readonly bytes: Buffer | null; readonly hasEnded: boolean } {
    const bytes = this.#early;
    this.#early = null;
    return { bytes, hasEnded: this.#hasEnded };
  }

  watch(lost: (error: NodeJS.ErrnoException | null) => void): void {
    this.#lost = lost;
  }

  destroy(how: "clean" | "lost" | "reset" = "clean"): void {
    if (this.isDestroyed) return;
    const tls = this.#tls;
    const socket = this.#socket;
    if (how === "clean" && tls !== null) sayGoodbye(tls);
    this.isDestroyed = true;
    this.#reader = null;
    this.#lost = null;
    if (how === "reset" && socket.reset !== undefined) socket.reset();
    else socket.close();
    socket.topsailSocket = undefined;
    if (tls !== null) destroyLater(this);
  }

  destroyTls(): void {
    this.#tls?.destroySSL();
    this.#tls = null;
  }
}

const nothing = Buffer.alloc(0);

function onFirstRead(this: NativeHandle): undefined {
  const length = streamBaseState[kReadBytesOrError]!;
  if (length !== 0) (this as OwnedHandle).topsailSocket?.readFirstBytes(length);
  return undefined;
}

/** OpenSSL may be on the stack when a connection is closed: its objects go when nothing is. */
let doomed: AcceptedSocket[] = [];

function destroyLater(socket: AcceptedSocket): void {
  doomed.push(socket);
  if (doomed.length === 1) setImmediate(destroyDoomed);
}

function destroyDoomed(): void {
  const all = doomed;
  doomed = [];
  for (const socket of all) socket.destroyTls();
}

/** Dual-stack sockets show IPv4 peers as ::ffff:1.2.3.4. */
function plainIp(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}
