/**
 * A gRPC client that does nothing but gRPC: one connection, frames by hand. For loads of many clients in one process, where a library's
 * client would take more of the machine than the server that is measured.
 */
import { connect, type SecureContext, type TLSSocket } from "node:tls";
import { FrameReader } from "../src/proxy/http2/frame-reader.ts";
import {
  defaultMaxFrameBytes,
  defaultWindow,
  flag,
  frameHead,
  frameType,
  headerFrames,
  largestWindow,
  pingAck,
  preface,
  setting,
  settings,
  settingsAck,
  windowUpdate,
  word,
} from "../src/proxy/http2/frames.ts";
import { HpackDecoder } from "../src/proxy/http2/hpack-decoder.ts";
import { HpackEncoder } from "../src/proxy/http2/hpack-encoder.ts";

export interface LightGrpcOptions {
  /** `127.0.0.1:15012` */
  readonly target: string;
  readonly secureContext: SecureContext;
  /** By which the server is known. */
  readonly serverName: string;
}

export interface LightStream {
  write(message: Uint8Array): void;
}

interface Call {
  readonly onMessage: (message: Buffer) => void;
  /** A status that is not OK, or the end of the connection, is an Error. */
  readonly onEnd: (error: Error | undefined) => void;
  /** Of a message that has not come whole. */
  rest: Buffer;
}

const maxHeaderBytes = 64 * 1024;
/** No answer of a measurement is longer than all of it. */
const greeting =
  preface.latin1Slice() +
  settings([
    [setting.enablePush, 0],
    [setting.initialWindowSize, largestWindow],
  ]) +
  windowUpdate(word(0), largestWindow - defaultWindow);

export class LightGrpc implements Disposable {
  readonly #socket: TLSSocket;
  readonly #authority: string;
  readonly #encoder = new HpackEncoder();
  readonly #decoder = new HpackDecoder();
  readonly #calls = new Map<number, Call>();
  #nextId = 1;
  /** To whom the DATA frame belongs that is being read. */
  #reading: Call | undefined;

  constructor({ target, secureContext, serverName }: LightGrpcOptions) {
    this.#authority = serverName;
    const [host, port] = target.split(":") as [string, string];
    this.#socket = connect({ host, port: Number(port), secureContext, servername: serverName, ALPNProtocols: ["h2"], checkServerIdentity });
    // That a root has signed it is known without; a copy of it in JavaScript takes as long as the signature's check.
    this.#socket.getPeerCertificate = () => undefined as never;
    const reader = new FrameReader({
      onDataFrame: (id) => {
        this.#reading = this.#calls.get(id);
        return this.#reading !== undefined;
      },
      onDataPart: (chunk) => this.#reading && read(this.#reading, chunk),
      onFrame: (type, flags, id, payload) => this.#onFrame(type, flags, id, payload),
      onFrameError: (_, reason) => this.#socket.destroy(new Error(reason)),
    });
    let problem = new Error("the connection has ended");
    this.#socket
      .setNoDelay(true)
      .on("data", (chunk: Buffer) => reader.execute(chunk))
      .on("error", (error) => {
        problem = error;
      })
      .on("close", () => {
        for (const id of [...this.#calls.keys()]) this.#end(id, problem);
      });
    this.#socket.write(greeting, "latin1");
  }

  /** Rejects with the message of a status that is not OK. */
  unary(path: string, message: Uint8Array, headers: Readonly<Record<string, string>> = {}): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      let answer: Buffer | undefined;
      const onMessage = (bytes: Buffer) => {
        answer = bytes;
      };
      const onEnd = (error: Error | undefined) =>
        answer && !error ? resolve(answer) : reject(error ?? new Error("the call has ended without an answer"));
      this.#write(this.#open(path, headers, { onMessage, onEnd, rest: nothing }), message, flag.endStream);
    });
  }

  stream(path: string, onMessage: (message: Buffer) => void, onEnd: (error: Error) => void): LightStream {
    const end = (error: Error | undefined) => onEnd(error ?? new Error("the stream has ended"));
    const id = this.#open(path, {}, { onMessage, onEnd: end, rest: nothing });
    return { write: (message) => this.#write(id, message, 0) };
  }

  [Symbol.dispose](): void {
    this.#socket.end();
  }

  #open(path: string, headers: Readonly<Record<string, string>>, call: Call): number {
    const id = this.#nextId;
    this.#nextId += 2;
    this.#calls.set(id, call);
    const target = { method: "POST", scheme: "https", authority: this.#authority, path, protocol: "" };
    const fields = ["content-type", "application/grpc", "te", "trailers", ...Object.entries(headers).flat()];
    this.#socket.write(headerFrames(word(id), this.#encoder.request(target, fields), false, defaultMaxFrameBytes), "latin1");
    return id;
  }

  /** A message of the load fits into a frame. */
  #write(id: number, message: Uint8Array, flags: number): void {
    const head = frameHead(prefixBytes + message.length, frameType.data, flags, word(id));
    this.#socket.write(Buffer.concat([Buffer.from(`${head}\0${word(message.length)}`, "latin1"), message]));
  }

  #onFrame(type: number, flags: number, id: number, payload: Buffer): void {
    if (type === frameType.settings && (flags & flag.ack) === 0) this.#socket.write(settingsAck, "latin1");
    else if (type === frameType.ping && (flags & flag.ack) === 0) this.#socket.write(pingAck(payload), "latin1");
    else if (type === frameType.resetStream) this.#end(id, new Error(`the stream is reset: ${payload.readUInt32BE(0)}`));
    else if (type === frameType.headers) this.#onHeaders(id, (flags & flag.endStream) !== 0, payload);
  }

  #onHeaders(id: number, isEnd: boolean, payload: Buffer): void {
    const fields: string[] = [];
    this.#decoder.decode(payload, fields, maxHeaderBytes);
    if (!isEnd) return;
    const field = (name: string) => fields[fields.indexOf(name) + 1];
    const code = field("grpc-status");
    this.#end(id, code === "0" ? undefined : new Error(`${code}: ${field("grpc-message")}`));
  }

  #end(id: number, error: Error | undefined): void {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    call?.onEnd(error);
  }
}

const checkServerIdentity = () => undefined;
const nothing: Buffer = Buffer.alloc(0);
/** Whether it is compressed, and how long it is. */
const prefixBytes = 5;

function read(call: Call, chunk: Buffer): void {
  // A copy: what is read is the reader's.
  call.rest = Buffer.concat([call.rest, chunk]);
  while (call.rest.length >= prefixBytes && call.rest.length >= prefixBytes + call.rest.readUInt32BE(1)) {
    const end = prefixBytes + call.rest.readUInt32BE(1);
    const message = call.rest.subarray(prefixBytes, end);
    call.rest = call.rest.subarray(end);
    call.onMessage(message);
  }
}
