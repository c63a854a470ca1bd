/** A client that sends the bytes it is given and keeps every byte it gets: what node:http would correct, hide or refuse to send. */
import { connect, type Socket } from "node:net";
import { type ConnectionOptions, type PeerCertificate, type TLSSocket, connect as tlsConnect } from "node:tls";

/** Longer than any honest wait of these suites, so that reaching it is a finding. */
export const patienceMs = 8000;

export class RawConnection implements Disposable {
  readonly socket: Socket;
  /** Resolves when both directions are shut, or the connection was reset. */
  readonly closed: Promise<void>;
  isClosed = false;
  #chunks: Buffer[] = [];
  #onChange: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    const end = () => {
      this.isClosed = true;
      resolve();
      this.#onChange();
    };
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#onChange();
    });
    socket.on("end", end);
    socket.on("close", end);
    socket.on("error", end);
  }

  static open(
    port: number,
    tls?: ConnectionOptions,
    host = "127.0.0.1",
    from: { readonly localAddress?: string } = {},
  ): Promise<RawConnection> {
    return new Promise((resolve, reject) => {
      const options = { host, port, allowHalfOpen: true, ...from };
      const socket = tls ? tlsConnect({ ...options, rejectUnauthorized: false, ...tls }) : connect(options);
      const connection = new RawConnection(socket);
      socket.once(tls ? "secureConnect" : "connect", () => resolve(connection));
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("closed during the handshake")));
    });
  }

  get received(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  get peerCertificate(): PeerCertificate {
    return (this.socket as TLSSocket).getPeerCertificate();
  }

  /** Latin-1, so that every byte of a test can be written as a character. */
  write(bytes: string | Buffer): void {
    if (this.socket.writable) this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  /** Resolves to whether it came true: by then, or before the connection ended or patience did. */
  async until(isDone: (received: Buffer) => boolean, withinMs = patienceMs): Promise<boolean> {
    if (isDone(this.received)) return true;
    if (this.isClosed) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), withinMs);
    this.#onChange = () => {
      if (isDone(this.received)) resolve(true);
      else if (this.isClosed) resolve(false);
    };
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#onChange = () => {};
    }
  }

  /** Whether the peer closed within the time. */
  async closes(withinMs = patienceMs): Promise<boolean> {
    await this.until(() => false, withinMs);
    return this.isClosed;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

export interface RawResponse {
  readonly statusLine: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  /** Its end was marked by framing, not by the end of the connection. */
  readonly isFramed: boolean;
}

export interface ParsedResponses {
  readonly responses: readonly RawResponse[];
  readonly isComplete: boolean;
  /** Bytes behind them that are no response. */
  readonly rest: string;
}

/**
 * The responses in a byte stream, interim ones included. `methods`: of the requests they answer, in order, because a response to HEAD
 * has no body. `isComplete` is false while the last one is being received; one without framing needs the end of the connection.
 */
export function parseResponses(received: Buffer, methods: readonly string[]): ParsedResponses {
  const text = received.toString("latin1");
  const responses: RawResponse[] = [];
  let at = 0;
  let answered = 0;
  while (at < text.length) {
    const headEnd = text.indexOf("\r\n\r\n", at);
    if (headEnd < 0) return { responses, isComplete: answered >= methods.length, rest: text.slice(at) };
    const [statusLine = "", ...lines] = text.slice(at, headEnd).split("\r\n");
    const headers = lines.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trim()] as const;
    });
    const field = (name: string) => headers.find(([candidate]) => candidate.toLowerCase() === name)?.[1];
    const status = Number(statusLine.split(" ")[1]);
    at = headEnd + 4;
    const isInterim = status >= 100 && status < 200 && status !== 101;
    const hasNoBody = isInterim || status === 204 || status === 304 || (!isInterim && methods[answered] === "HEAD");
    if (!isInterim) answered++;
    let body = "";
    let isFramed = true;
    if (hasNoBody) {
      // nothing follows
    } else if (field("transfer-encoding")?.toLowerCase() === "chunked") {
      const chunked = readChunked(text, at);
      if (!chunked)
        return { responses: [...responses, { statusLine, headers, body: text.slice(at), isFramed: false }], isComplete: false, rest: "" };
      body = chunked.body;
      at = chunked.end;
    } else if (field("content-length") !== undefined) {
      const length = Number(field("content-length"));
      body = text.slice(at, at + length);
      at += body.length;
      if (body.length < length)
        return { responses: [...responses, { statusLine, headers, body, isFramed: false }], isComplete: false, rest: "" };
    } else {
      body = text.slice(at);
      at = text.length;
      isFramed = false;
    }
    responses.push({ statusLine, headers, body, isFramed });
    if (!isFramed) return { responses, isComplete: false, rest: "" };
  }
  return { responses, isComplete: answered >= methods.length, rest: "" };
}

function readChunked(text: string, from: number): { body: string; end: number } | undefined {
  let at = from;
  let body = "";
  for (;;) {
    const lineEnd = text.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(text.slice(at, lineEnd), 16);
    at = lineEnd + 2;
    if (size === 0) {
      const end = text.startsWith("\r\n", at) ? at + 2 : text.indexOf("\r\n\r\n", at) + 4;
      if (end < 4 || text.length < end) return undefined;
      return { body: body + (end > at + 2 ? `[trailers]${text.slice(at, end - 4)}` : ""), end };
    }
    if (text.length < at + size + 2) return undefined;
    body += text.slice(at, at + size);
    at += size + 2;
  }
}
