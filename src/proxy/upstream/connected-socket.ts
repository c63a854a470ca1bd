/** A socket that node:net or node:tls has connected, handed over to a transport. */
import type * as net from "node:net";
import { handleOf, type NativeHandle, type SocketHandle, sayGoodbye } from "../native-stream.ts";
import type { TransportSocket } from "../transport.ts";

export class ConnectedSocket implements TransportSocket {
  readonly handle: NativeHandle | null;
  readonly copiesWrites: boolean;
  readonly #socket: net.Socket;

  constructor(socket: net.Socket, isTls: boolean) {
    this.#socket = socket;
    this.handle = handleOf(socket);
    this.copiesWrites = isTls;
  }

  takeEarly(): { readonly bytes: Buffer | null; readonly hasEnded: boolean } {
    const bytes = this.#socket.read() as Buffer | null;
    const state = this.#socket as unknown as { readonly _readableState: { readonly ended: boolean } };
    return {
      bytes: bytes === null || bytes.length === 0 ? null : bytes,
      hasEnded: this.#socket.readableEnded || state._readableState.ended,
    };
  }

  watch(lost: (error: NodeJS.ErrnoException | null) => void): void {
    this.#socket.on("error", lost);
    this.#socket.on("close", () => lost(null));
  }

  destroy(how: "clean" | "lost" | "reset"): void {
    const socket = this.#socket;
    if (how === "clean" && this.copiesWrites && !socket.destroyed) sayGoodbye(this.handle);
    // TLS can't reset, nor can a Unix socket; what lies under TLS can.
    const raw = (socket as { readonly _parent?: net.Socket })._parent ?? socket;
    if (how === "reset" && (handleOf(raw) as SocketHandle | null)?.reset !== undefined) raw.resetAndDestroy();
    socket.destroy();
  }
}
