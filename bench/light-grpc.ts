/**
 * A gRPC client that does nothing but gRPC: one connection, frames by hand. For loads of many clients in one process, where a library's
 * client would take more of the machine than the server that is measured.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import type { SecureContext } from "node:tls";

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

export class LightGrpc implements Disposable {
  readonly #session: ClientHttp2Session;
  readonly #authority: string;

  constructor({ target, secureContext, serverName }: LightGrpcOptions) {
    this.#authority = serverName;
    this.#session = connect(`https://${target}`, { secureContext, servername: serverName });
    // What becomes of the connection is told by its calls.
    this.#session.on("error", () => undefined);
  }

  /** Rejects with the message of a status that is not OK. */
  unary(path: string, message: Uint8Array, headers: Readonly<Record<string, string>> = {}): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      let answer: Buffer | undefined;
      const call = this.#open(path, headers, (bytes) => {
        answer = bytes;
      });
      call.on("trailers", (trailers) => {
        if (answer && trailers["grpc-status"] === "0") resolve(answer);
        else reject(new Error(`${trailers["grpc-status"]}: ${trailers["grpc-message"]}`));
      });
      call.on("response", (response) => {
        if (response["grpc-status"] !== undefined) reject(new Error(`${response["grpc-status"]}: ${response["grpc-message"]}`));
      });
      call.on("error", reject);
      call.on("close", () => reject(new Error("the call has ended without an answer")));
      call.end(framed(message));
    });
  }

  stream(path: string, onMessage: (message: Buffer) => void, onEnd: (error: Error) => void): LightStream {
    const call = this.#open(path, {}, onMessage);
    call.on("trailers", (trailers) => onEnd(new Error(`${trailers["grpc-status"]}: ${trailers["grpc-message"]}`)));
    call.on("error", onEnd);
    call.on("close", () => onEnd(new Error("the stream has ended")));
    return { write: (message) => void call.write(framed(message)) };
  }

  [Symbol.dispose](): void {
    this.#session.close();
  }

  #open(path: string, headers: Readonly<Record<string, string>>, onMessage: (message: Buffer) => void): ClientHttp2Stream {
    const call = this.#session.request({
      [constants.HTTP2_HEADER_METHOD]: "POST",
      [constants.HTTP2_HEADER_PATH]: path,
      [constants.HTTP2_HEADER_AUTHORITY]: this.#authority,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
      [constants.HTTP2_HEADER_TE]: "trailers",
      ...headers,
    });
    let rest: Buffer = Buffer.alloc(0);
    call.on("data", (chunk: Buffer) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      while (rest.length >= prefixBytes && rest.length >= prefixBytes + rest.readUInt32BE(1)) {
        const end = prefixBytes + rest.readUInt32BE(1);
        const message = rest.subarray(prefixBytes, end);
        rest = rest.subarray(end);
        onMessage(message);
      }
    });
    return call;
  }
}

/** Whether it is compressed, and how long it is. */
const prefixBytes = 5;

function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(prefixBytes + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, prefixBytes);
  return frame;
}
