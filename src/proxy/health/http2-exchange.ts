/** Requests over one HTTP/2 connection to a host, for health checks: one at a time, the connection made when there is none. */
import * as http2 from "node:http2";
import type { HeaderList } from "../stream-info.ts";
import { asRecord } from "./check-headers.ts";
import type { ProbeTarget } from "./health-probe.ts";
import { openProbeConnection } from "./probe-connection.ts";

export interface Http2Answer {
  readonly headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader;
  readonly trailers: http2.IncomingHttpHeaders;
  /** At most what was asked for. */
  readonly body: Buffer;
}

export class Http2Exchange {
  readonly #target: ProbeTarget;
  #session: http2.ClientHttp2Session | null = null;
  #stream: http2.ClientHttp2Stream | null = null;
  #stopConnecting: (() => void) | null = null;
  #done: ((answer: Http2Answer | null) => void) | null = null;

  constructor(target: ProbeTarget) {
    this.#target = target;
  }

  /** `done` hears once, later: the answer with at most `maxBytes` of its body, or null where there is none. */
  ask(headers: HeaderList, body: Buffer | null, maxBytes: number, done: (answer: Http2Answer | null) => void): void {
    this.#done = done;
    const session = this.#session;
    if (session !== null && !session.closed && !session.destroyed) {
      this.#send(session, headers, body, maxBytes);
      return;
    }
    this.#stopConnecting = openProbeConnection(this.#target, "http2", (error, socket) => {
      this.#stopConnecting = null;
      if (error !== null) {
        this.#settle(null);
        return;
      }
      const made = http2.connect("http://host", { createConnection: () => socket!, settings: { enablePush: false } });
      made.on("error", () => {}); // its stream hears of it
      this.#session = made;
      this.#send(made, headers, body, maxBytes);
    });
  }

  /** The request under way ends without an answer. */
  cancel(): void {
    this.#done = null;
    this.#stopConnecting?.();
    this.#stopConnecting = null;
    this.#stream?.close(http2.constants.NGHTTP2_CANCEL);
    this.#stream = null;
  }

  close(): void {
    this.cancel();
    this.#session?.destroy();
    this.#session = null;
  }

  #send(session: http2.ClientHttp2Session, headers: HeaderList, body: Buffer | null, maxBytes: number): void {
    let stream: http2.ClientHttp2Stream;
    try {
      stream = session.request(asRecord([":scheme", this.#target.tls === null ? "http" : "https", ...headers]), {
        endStream: body === null,
      });
    } catch {
      process.nextTick(() => this.#settle(null));
      return;
    }
    this.#stream = stream;
    let answer: Http2Answer["headers"] | null = null;
    let trailers: http2.IncomingHttpHeaders = {};
    let bytes = 0;
    const chunks: Buffer[] = [];
    stream.on("error", () => {});
    stream.once("response", (received) => {
      answer = received;
    });
    stream.on("trailers", (received) => {
      trailers = received;
    });
    stream.on("data", (chunk: Buffer) => {
      if (bytes >= maxBytes) return;
      chunks.push(chunk);
      bytes += chunk.length;
    });
    let hasEnded = false;
    stream.once("end", () => {
      hasEnded = true;
    });
    stream.once("close", () => {
      if (this.#stream !== stream) return;
      this.#stream = null;
      const isWhole = answer !== null && hasEnded && stream.rstCode === http2.constants.NGHTTP2_NO_ERROR;
      this.#settle(isWhole ? { headers: answer!, trailers, body: Buffer.concat(chunks).subarray(0, maxBytes) } : null);
    });
    if (body !== null) stream.end(body);
  }

  #settle(answer: Http2Answer | null): void {
    const done = this.#done;
    this.#done = null;
    if (answer === null || !this.#target.reusesConnection) this.close();
    done?.(answer);
  }
}
