/**
 * One byte stream, plain or TLS, read and written without node:stream.
 *
 * Once a stream is up its native handle is read and written directly: a small request then costs one read into a buffer that
 * all streams of the thread share and one write, and no Readable, Writable or Buffer pool. That is a tenth of a request's whole
 * cost and most of its garbage (see bench/).
 *
 * Reading: `handler.onData(chunk)` gets a view of the read buffer, valid only during the call. Pass it to `write` of another
 * transport, or `keepChunk` it. A stream that fills the shared buffer gets one of its own, whose memory is handed on without
 * a copy; it goes back to the shared one when it is quiet again.
 *
 * Writing: one write is on its way at a time, later ones queue; `write` says false when more than `highWaterBytes` wait, and
 * `handler.onDrain` says when they are gone. Nobody has to obey within a call: what is written is kept.
 */
import { getSystemErrorName } from "node:util";
import {
  endOfFile,
  kLastWriteWasAsync,
  kReadBytesOrError,
  type NativeHandle,
  type NativeRequest,
  ShutdownWrap,
  streamBaseState,
  WriteWrap,
} from "./native-stream.ts";

interface WriteRequest extends NativeRequest {
  oncomplete: ((this: WriteRequest, status: number) => void) | undefined;
  transport: Transport | undefined;
  /** Keeps the memory alive that the kernel has not taken yet. */
  memory: Buffer | readonly Buffer[] | undefined;
  bytes: number;
  /** Memory that nobody but this request uses: free for the next reader or writer when the kernel has taken it. */
  reusable: Buffer<ArrayBuffer> | undefined;
}

interface TransportHandle extends NativeHandle {
  topsailTransport: Transport | undefined;
}

/** What a transport is put on: a connected socket, with its handshake behind it. */
export interface TransportSocket {
  /** null when it is closed already. */
  readonly handle: NativeHandle | null;
  /** TLS copies what is written into records of its own, so that memory is free again when a write returns. */
  readonly copiesWrites: boolean;
  /** What was read before anybody was there to take it, and whether the end was seen behind it. Asked once. */
  takeEarly(): { readonly bytes: Buffer | null; readonly hasEnded: boolean };
  /** `lost` hears when it fails or closes by itself. Called once. */
  watch(lost: (error: NodeJS.ErrnoException | null) => void): void;
  destroy(how: "clean" | "lost" | "reset"): void;
}

const readBytes = 64 * 1024;
/** Reads that fill this much are a bulk transfer, worth a buffer of its own. */
const bulkBytes = 32 * 1024;
const quietBytes = 16 * 1024;
/** A write of at most this is gathered into one piece of memory; above it the pieces are handed over as they are. */
const gatherBytes = 32 * 1024;
const highWaterBytes = 256 * 1024;

/** All streams of the thread are read into it; valid until the next read. */
export const sharedReadBuffer = Buffer.allocUnsafeSlow(readBytes);
let gather = Buffer.allocUnsafeSlow(2 * readBytes);
let spareRequest: WriteRequest | null = null;

/** Buffers whose bytes have gone out. Without them a busy bulk transfer makes garbage faster than V8 thinks of collecting it. */
const freeReadBuffers: Buffer<ArrayBuffer>[] = [];
const freeGatherBuffers: Buffer<ArrayBuffer>[] = [];
const maxFreeBuffers = 32;

/** The buffer whose bytes are being delivered right now, whether somebody took its memory, and which write did. */
let lent: Buffer<ArrayBuffer> | null = null;
let lentIsTaken = false;
let lentTo: WriteRequest | null = null;
let lentIsKept = false;

export interface TransportHandler {
  /** Bytes arrived. The chunk is valid only during the call. */
  onData(chunk: Buffer): void;
  /** The peer will send no more; the other direction may still be open. */
  onEnd(): void;
  /** The stream is gone and no other call follows. Not called after `destroy`. `error` is null for a clean end. */
  onClose(error: NodeJS.ErrnoException | null): void;
  /** What was queued has been handed to the kernel. */
  onDrain(): void;
}

export interface Framer {
  /** As latin1. */
  frameHead(length: number, endStream: boolean): string;
}

/** Makes a chunk from `onData` outlive the call. */
export function keepChunk(chunk: Buffer): Buffer {
  if (lent === null || chunk.buffer !== lent.buffer) return chunk;
  if (lent === sharedReadBuffer) return Buffer.from(chunk);
  lentIsTaken = true;
  // Somebody holds on to it now, so that the write which took it must not give it away.
  if (lentTo !== null) lentTo.reusable = undefined;
  lentIsKept = true;
  return chunk;
}

function isShared(chunk: Buffer): boolean {
  return chunk.buffer === sharedReadBuffer.buffer;
}

function onRead(this: NativeHandle): Buffer | undefined {
  const length = streamBaseState[kReadBytesOrError]!;
  const transport = (this as TransportHandle).topsailTransport;
  if (length === 0 || transport === undefined) return undefined;
  if (length < 0) {
    transport.readFailed(length);
    return undefined;
  }
  return transport.deliver(length);
}

function onWritten(this: WriteRequest, status: number): void {
  const transport = this.transport!;
  this.transport = undefined;
  this.memory = undefined;
  const reusable = this.reusable;
  if (reusable !== undefined) {
    this.reusable = undefined;
    const free = reusable.length === readBytes ? freeReadBuffers : freeGatherBuffers;
    if (free.length < maxFreeBuffers) free.push(reusable);
  }
  transport.written(this.bytes, status);
}

/** The kernel has not taken all of it: nobody may write there before it has. */
function takeMemory(memory: Buffer, request: WriteRequest): void {
  if (memory.buffer === gather.buffer) {
    request.reusable = gather;
    gather = freeGatherBuffers.pop() ?? Buffer.allocUnsafeSlow(2 * readBytes);
  } else if (lent !== null && memory.buffer === lent.buffer) {
    // Two writes of one chunk: whoever ends first must not free it.
    if (lentTo !== null) lentTo.reusable = undefined;
    else if (!lentIsKept) request.reusable = lent;
    lentTo = request;
    lentIsTaken = true;
  }
}

export class Transport {
  handler: TransportHandler;
  bytesRead = 0;
  bytesWritten = 0;
  /** While true a stream that once delivered in bulk keeps its own read buffer. Set by bulk reads, cleared by codecs when a message ends. */
  isBulk = false;
  isDestroyed = false;
  readonly #socket: TransportSocket;
  #handle: TransportHandle;
  #readBuffer = sharedReadBuffer;
  readonly #copiesWrites: boolean;
  #isWriting = false;
  #waitingBytes = 0;
  #queue: Buffer[] = [];
  #wantsDrain = false;
  #isPaused = true;
  #endWanted = false;
  #endSent = false;
  #closeWhenWritten = false;
  #early: Buffer | null = null;
  #sawEnd = false;

  /** Takes over a connected socket. Nothing is read before `start`. */
  constructor(socket: TransportSocket, handler: TransportHandler) {
    this.#socket = socket;
    this.handler = handler;
    this.#copiesWrites = socket.copiesWrites;
    this.#handle = socket.handle as TransportHandle;
    const { bytes, hasEnded } = socket.takeEarly();
    this.#early = bytes;
    this.#sawEnd = hasEnded;
    if (this.#handle) {
      this.#handle.readStop();
      this.#handle.topsailTransport = this;
      this.#handle.useUserBuffer(sharedReadBuffer);
      this.#handle.onread = onRead;
    }
    socket.watch((error) => this.#closed(error));
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Bytes that were written and that the kernel has not taken. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Begins, or goes on with, reading. Bytes that came before are delivered within the call. */
  start(): void {
    if (this.isDestroyed || !this.#isPaused) return;
    this.#isPaused = false;
    if (this.#handle) this.#handle.readStart();
    if (this.#early !== null) {
      const early = this.#early;
      this.#early = null;
      this.bytesRead += early.length;
      this.handler.onData(early);
    }
    if (this.#sawEnd && !this.isDestroyed) {
      this.#sawEnd = false;
      this.handler.onEnd();
    }
  }

  /** Stops reading. A TLS stream may still deliver what it has already decrypted. */
  pause(): void {
    if (this.#isPaused || this.isDestroyed) return;
    this.#isPaused = true;
    this.#handle.readStop();
  }

  /** Hot. Called by the native read. */
  deliver(length: number): Buffer | undefined {
    const buffer = this.#readBuffer;
    const outerLent = lent;
    const outerTaken = lentIsTaken;
    const outerKept = lentIsKept;
    const outerTo = lentTo;
    lent = buffer;
    lentIsTaken = false;
    lentIsKept = false;
    lentTo = null;
    this.bytesRead += length;
    if (length >= bulkBytes) this.isBulk = true;
    this.handler.onData(buffer.subarray(0, length));
    const isTaken = lentIsTaken;
    lent = outerLent;
    lentIsTaken = outerTaken;
    lentIsKept = outerKept;
    lentTo = outerTo;
    if (buffer === sharedReadBuffer) {
      if (!this.isBulk) return undefined;
    } else if (!this.isBulk || length < quietBytes) {
      this.isBulk = false;
      this.#readBuffer = sharedReadBuffer;
      if (!isTaken && freeReadBuffers.length < maxFreeBuffers) freeReadBuffers.push(buffer);
      return sharedReadBuffer;
    } else if (!isTaken) return undefined;
    this.#readBuffer = freeReadBuffers.pop() ?? Buffer.allocUnsafeSlow(readBytes);
    return this.#readBuffer;
  }

  readFailed(status: number): void {
    if (this.isDestroyed) return;
    if (status === endOfFile) {
      this.#isPaused = true;
      this.#handle.readStop();
      this.handler.onEnd();
      return;
    }
    this.#closed(systemError(status, "read"));
  }

  /** Writes bytes, which may be a chunk that is being delivered. False when the caller should wait for `onDrain`. */
  write(chunk: Buffer): boolean {
    if (this.isDestroyed || this.#endWanted) return true;
    if (chunk.length === 0) return this.#waitingBytes < highWaterBytes;
    if (this.#isWriting) return this.#enqueue(keepChunk(chunk));
    if (this.#copiesWrites || !isShared(chunk)) return this.#send(chunk);
    chunk.copy(gather, 0);
    return this.#send(gather.subarray(0, chunk.length));
  }

  /** Writes latin1 text, then bytes, then latin1 text, as one. Hot. */
  writeParts(before: string, body: Buffer | null, after: string): boolean {
    if (this.isDestroyed || this.#endWanted) return true;
    const bodyBytes = body === null ? 0 : body.length;
    const total = before.length + bodyBytes + after.length;
    if (total === 0) return this.#waitingBytes < highWaterBytes;
    if (total > gather.length) {
      // Only a head beyond every limit gets here: write the pieces one by one.
      if (before !== "") this.write(Buffer.from(before, "latin1"));
      if (body !== null) this.write(body);
      return after === "" ? this.#waitingBytes < highWaterBytes : this.write(Buffer.from(after, "latin1"));
    }
    if (body !== null && bodyBytes > gatherBytes && !isShared(body) && !this.#copiesWrites) {
      const pieces: Buffer[] = [];
      if (before !== "") pieces.push(Buffer.from(before, "latin1"));
      pieces.push(this.#isWriting ? keepChunk(body) : body);
      if (after !== "") pieces.push(Buffer.from(after, "latin1"));
      if (this.#isWriting) {
        for (const piece of pieces) this.#enqueue(piece);
        return this.#waitingBytes < highWaterBytes;
      }
      return this.#sendMany(pieces, total);
    }
    let length = before.length > 0 ? gather.latin1Write(before, 0) : 0;
    if (body !== null) {
      body.copy(gather, length);
      length += bodyBytes;
    }
    if (after.length > 0) length += gather.latin1Write(after, length);
    if (this.#isWriting) return this.#enqueue(Buffer.from(gather.subarray(0, length)));
    return this.#send(gather.subarray(0, length));
  }

  /** Writes latin1 text, then bytes in frames of at most `size`, each behind its head, as one. `body` fits into a read. Hot. */
  writeInFrames(before: string, body: Buffer, size: number, framer: Framer, endStream: boolean): boolean {
    if (this.isDestroyed || this.#endWanted) return true;
    let length = before.length > 0 ? gather.latin1Write(before, 0) : 0;
    let at = 0;
    do {
      const part = Math.min(size, body.length - at);
      const isLast = at + part === body.length;
      length += gather.latin1Write(framer.frameHead(part, isLast && endStream), length);
      body.copy(gather, length, at, at + part);
      length += part;
      at += part;
    } while (at < body.length);
    if (this.#isWriting) return this.#enqueue(Buffer.from(gather.subarray(0, length)));
    return this.#send(gather.subarray(0, length));
  }

  /** Sends FIN once everything written is out. */
  end(): void {
    if (this.isDestroyed || this.#endWanted) return;
    this.#endWanted = true;
    if (!this.#isWriting) this.#sendEnd();
  }

  /** Closes as soon as everything written is out. */
  destroyWhenWritten(): void {
    if (this.#isWriting) this.#closeWhenWritten = true;
    else this.destroy();
  }

  /** Closes at once; no handler is called any more. With `reset` the peer sees RST. */
  destroy(reset = false): void {
    if (!this.isDestroyed) this.#close(reset ? "reset" : "clean");
  }

  #close(how: "clean" | "lost" | "reset"): void {
    this.isDestroyed = true;
    this.#isPaused = true;
    this.#queue.length = 0;
    this.#socket.destroy(how);
  }

  written(bytes: number, status: number): void {
    this.#isWriting = false;
    this.#waitingBytes -= bytes;
    if (this.isDestroyed) return;
    if (status < 0) {
      this.#closed(systemError(status, "write"));
      return;
    }
    if (this.#queue.length > 0) {
      const queue = this.#queue;
      this.#queue = [];
      let total = 0;
      for (const piece of queue) total += piece.length;
      this.#waitingBytes -= total;
      if (queue.length === 1) this.#send(queue[0]!);
      else this.#sendMany(queue, total);
      if (this.#isWriting || this.isDestroyed) return;
    }
    if (this.#closeWhenWritten) {
      this.destroy();
      return;
    }
    if (this.#endWanted) this.#sendEnd();
    if (this.#wantsDrain) {
      this.#wantsDrain = false;
      this.handler.onDrain();
    }
  }

  #enqueue(chunk: Buffer): boolean {
    this.#queue.push(chunk);
    this.#waitingBytes += chunk.length;
    if (this.#waitingBytes < highWaterBytes) return true;
    this.#wantsDrain = true;
    return false;
  }

  #send(buffer: Buffer): boolean {
    const request = spareRequest ?? (new WriteWrap() as WriteRequest);
    spareRequest = null;
    return this.#afterWrite(request, this.#handle.writeBuffer(request, buffer), buffer, buffer.length);
  }

  #sendMany(buffers: readonly Buffer[], total: number): boolean {
    const request = spareRequest ?? (new WriteWrap() as WriteRequest);
    spareRequest = null;
    return this.#afterWrite(request, this.#handle.writev(request, buffers, true), buffers, total);
  }

  #afterWrite(request: WriteRequest, status: number, memory: Buffer | readonly Buffer[], bytes: number): boolean {
    if (status !== 0) {
      this.#failLater(systemError(status, "write"));
      return true;
    }
    this.bytesWritten += bytes;
    if (streamBaseState[kLastWriteWasAsync] === 0) {
      spareRequest = request;
      return true;
    }
    request.oncomplete = onWritten;
    request.transport = this;
    request.bytes = bytes;
    this.#isWriting = true;
    this.#waitingBytes += bytes;
    if (!this.#copiesWrites) {
      request.memory = memory;
      if (Array.isArray(memory)) for (const piece of memory as readonly Buffer[]) takeMemory(piece, request);
      else takeMemory(memory as Buffer, request);
    }
    if (this.#waitingBytes < highWaterBytes && this.#copiesWrites) return true;
    // A plain socket that did not take everything is full: the reader on the other side should rest.
    this.#wantsDrain = true;
    return false;
  }

  #sendEnd(): void {
    if (this.#endSent) return;
    this.#endSent = true;
    const request = new ShutdownWrap();
    request.oncomplete = () => {};
    this.#handle.shutdown(request);
  }

  /** The caller of `write` must not find itself closed in the middle of its work. */
  #failLater(error: NodeJS.ErrnoException): void {
    process.nextTick(() => this.#closed(error));
  }

  #closed(error: NodeJS.ErrnoException | null): void {
    if (this.isDestroyed) return;
    this.#close("lost");
    this.handler.onClose(error);
  }
}

function systemError(status: number, call: string): NodeJS.ErrnoException {
  const code = getSystemErrorName(status);
  const error: NodeJS.ErrnoException = new Error(`${call} ${code}`);
  error.code = code;
  error.errno = status;
  error.syscall = call;
  return error;
}
