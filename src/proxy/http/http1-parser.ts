/**
 * HTTP/1.1 from bytes to messages, for requests and responses, as Envoy 1.40 reads them (its Balsa parser with the default
 * options): the same bytes are accepted, the same bytes are refused, and there is one reading of every byte stream.
 *
 *      head -> (fixed | chunk-size -> chunk-data -> chunk-end ... -> trailers | until-close) -> done -> next() -> head
 *
 * A head is parsed in one go from one latin1 string once all of it is there; an incomplete one waits in `#pending`, bounded
 * by `maxHeadBytes`. Bodies are passed on as the views that came. After a message the parser rests in `done`, keeping what
 * follows, until the connection calls `next()`: so pipelined requests are looked at one after the other.
 *
 * Known leniencies, all of them Envoy's: lines may end in bare LF, folded lines are joined, empty lines before a message
 * are skipped, and what overruns a chunk's size up to the end of its line is dropped.
 */

export interface Http1ParserOptions {
  readonly kind: "request" | "response";
  /** Bytes of a message's head; 60 KiB by default. */
  readonly maxHeadBytes: number;
  /** Header lines of a head, 100 by default. */
  readonly maxHeaders: number;
  readonly keepsTrailers: boolean;
  readonly allowsChunkedLength: boolean;
  readonly allowsCustomMethods: boolean;
  /** What happens to names with `_`. */
  readonly underscores: "allow" | "reject" | "drop";
}

export interface Http1ParserSink {
  /** A head is complete; its parts are the parser's fields. Returns how the body is framed, see `bodyFraming`. */
  onHead(parser: Http1Parser): void;
  onBody(chunk: Buffer): void;
  /** The message is complete. */
  onMessageEnd(parser: Http1Parser): void;
  /** Nothing is read any more. `status` is what a server answers. */
  onParseError(status: number, details: string): void;
}

const State = {
  head: 0,
  fixed: 1,
  chunkSize: 2,
  chunkData: 3,
  chunkEnd: 4,
  trailers: 5,
  untilClose: 6,
  done: 7,
  raw: 8,
  dead: 9,
} as const;

/** What a header name means to the framing or to the connection manager. */
export const HeaderKind = {
  plain: 0,
  contentLength: 1,
  transferEncoding: 2,
  connection: 3,
  host: 4,
  expect: 5,
  upgrade: 6,
  hopByHop: 7,
  te: 8,
} as const;

interface KnownName {
  readonly name: string;
  readonly kind: number;
}

const kinds: Record<string, number> = {
  "content-length": HeaderKind.contentLength,
  "transfer-encoding": HeaderKind.transferEncoding,
  connection: HeaderKind.connection,
  host: HeaderKind.host,
  expect: HeaderKind.expect,
  upgrade: HeaderKind.upgrade,
  "keep-alive": HeaderKind.hopByHop,
  "proxy-connection": HeaderKind.hopByHop,
  "http2-settings": HeaderKind.hopByHop,
  te: HeaderKind.te,
};

/** Names as they were written, to what they are: validating and lowering a name once is enough. Bounded. */
const knownNames = new Map<string, KnownName>();
const maxKnownNames = 2048;
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function lookUpName(written: string): KnownName | undefined {
  const known = knownNames.get(written);
  if (known !== undefined) return known;
  if (!token.test(written)) return undefined;
  // As a property key the name becomes V8's only copy of that text: comparing it later is comparing pointers.
  const name = Object.keys({ [written.toLowerCase()]: 0 })[0]!;
  const made = { name, kind: Object.hasOwn(kinds, name) ? kinds[name]! : HeaderKind.plain };
  // A flat copy, so that the cache doesn't hold on to the head that the name was cut from.
  if (knownNames.size < maxKnownNames && written.length <= 64) knownNames.set(Buffer.from(written, "latin1").toString("latin1"), made);
  return made;
}

const methods = new Set(
  (
    "ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE MSEARCH NOTIFY OPTIONS PATCH POST " +
    "PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE"
  ).split(" "),
);
const methodStarts = new Set([...methods].map((method) => method.charCodeAt(0)));

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a head must not hold; CR and LF are looked at line by line.
const controlCharacters = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/;
const version = /^HTTP\/[0-9]\.[0-9]$/;
const pathTarget = /^[/*][\t\f!-~]*$/;
const absoluteTarget = /^[A-Za-z]+:\/\/(?!.*@@[^/?]*)[A-Za-z0-9!$%&'()*+,\-.:;=@[\]_~]*(?:[/?][\t\f!-~]*)?$/;
const authorityTarget = /^[A-Za-z0-9!$%&'()*+,\-.:;=@[\]_~]+(?:[/?][\t\f!-~]*)?$/;
/** Of a head, looked at first. */
const headWindowBytes = 1024;
const maxChunkLine = 4096;
const maxUint64 = 2n ** 64n - 1n;

export class Http1Parser {
  readonly #options: Http1ParserOptions;
  readonly #sink: Http1ParserSink;
  #state: number = State.head;
  #pending: Buffer | null = null;
  #searchedTo = 0;
  #firstLineSeen = false;
  #remaining = 0;
  #line = "";
  #trailerBytes = 0;

  method = "";
  target = "";
  /** 0 for everything but HTTP/1.1. */
  minorVersion = 1;
  status = 0;
  /** Names in lower case, without Host. Owned by whoever took it in `onHead`. */
  headers: string[] = [];
  trailers: string[] = [];
  /** null when there was no Host line; several are joined with `,`. */
  host: string | null = null;
  /** -1 when there is none. */
  contentLength = -1;
  isChunked = false;
  /** Value of Connection, joined with `,`; "" when there was none. */
  connection = "";
  hasHopByHop = false;
  upgrade = "";
  expect = "";
  /** Where in `headers` the Connection and Upgrade lines stood, -1 for none: they are put back for an upgrade that is passed on. */
  connectionAt = -1;
  upgradeAt = -1;
  /** Tells two lines apart that stood next to each other, and so have the same place among those that are left. */
  isUpgradeFirst = false;
  headBytes = 0;
  /** What a chunked body takes beside its data. */
  framingBytes = 0;
  /** In `onMessageEnd`, and in `onHead` of a message without body: nothing follows in what was read. */
  endsChunk = false;

  constructor(options: Http1ParserOptions, sink: Http1ParserSink) {
    this.#options = options;
    this.#sink = sink;
  }

  get isIdle(): boolean {
    return this.#state === State.head && this.#pending === null;
  }

  /** Less than a head of the next message has come. */
  get isInHead(): boolean {
    return this.#pending !== null && this.#state === State.head;
  }

  get hasPending(): boolean {
    return this.#pending !== null;
  }

  get pendingBytes(): number {
    return this.#pending === null ? 0 : this.#pending.length;
  }

  /** Whether the body of the present message ends with the connection. */
  get readsUntilClose(): boolean {
    return this.#state === State.untilClose || this.#state === State.raw;
  }

  get isDone(): boolean {
    return this.#state === State.done;
  }

  /** Tells, within `onHead`, that the message has no body whatever its headers say (HEAD, 204, 304). */
  skipBody(): void {
    this.#state = State.done;
  }

  /** From here on bytes are passed on as they are: a connection that was upgraded. */
  switchToRaw(): void {
    this.#state = State.raw;
  }

  /** Takes all bytes that were kept and stops parsing. */
  takePending(): Buffer | null {
    const pending = this.#pending;
    this.#pending = null;
    return pending;
  }

  /** Parses the next message, and what already came of it. */
  next(): void {
    this.#state = State.head;
    const pending = this.#pending;
    if (pending === null) return;
    this.#pending = null;
    this.#searchedTo = 0;
    this.#firstLineSeen = false;
    this.execute(pending);
  }

  stop(): void {
    this.#state = State.dead;
    this.#pending = null;
  }

  /** The peer ended its stream. Completes a body that ends with the connection; false when the message was cut short. */
  finish(): boolean {
    if (this.#state === State.untilClose) {
      this.#state = State.done;
      this.#sink.onMessageEnd(this);
      return true;
    }
    return this.#state === State.done || this.isIdle;
  }

  /** Hot. */
  execute(chunk: Buffer): void {
    let at = 0;
    const length = chunk.length;
    while (at < length) {
      switch (this.#state) {
        case State.head:
          at = this.#head(chunk, at);
          break;
        case State.fixed: {
          const size = Math.min(this.#remaining, length - at);
          this.#remaining -= size;
          const part = at === 0 && size === length ? chunk : chunk.subarray(at, at + size);
          at += size;
          const isLast = this.#remaining === 0;
          if (isLast) {
            this.#state = State.done;
            this.endsChunk = at === length;
          }
          this.#sink.onBody(part);
          if (isLast && (this.#state as number) === State.done) this.#sink.onMessageEnd(this);
          break;
        }
        case State.chunkData: {
          const size = Math.min(this.#remaining, length - at);
          this.#remaining -= size;
          const part = chunk.subarray(at, at + size);
          at += size;
          if (this.#remaining === 0) this.#state = State.chunkEnd;
          this.#sink.onBody(part);
          break;
        }
        case State.chunkSize: {
          const from = at;
          at = this.#chunkSize(chunk, at);
          this.framingBytes += Math.min(at, length) - from;
          break;
        }
        case State.chunkEnd: {
          const end = chunk.indexOf(10, at);
          this.framingBytes += (end < 0 ? length : end + 1) - at;
          if (end < 0) return;
          at = end + 1;
          this.#line = "";
          this.#state = State.chunkSize;
          break;
        }
        case State.trailers: {
          const from = at;
          at = this.#trailerLine(chunk, at);
          this.framingBytes += Math.min(at, length) - from;
          break;
        }
        case State.untilClose:
        case State.raw:
          this.#sink.onBody(at === 0 ? chunk : chunk.subarray(at));
          return;
        case State.done:
          this.#keep(at === 0 ? chunk : chunk.subarray(at));
          return;
        default:
          return;
      }
    }
  }

  #keep(rest: Buffer): void {
    this.#pending = this.#pending === null ? Buffer.from(rest) : Buffer.concat([this.#pending, rest]);
  }

  #fail(status: number, details: string): number {
    this.#state = State.dead;
    this.#pending = null;
    this.#sink.onParseError(status, details);
    return Number.MAX_SAFE_INTEGER;
  }

  /** Parses a head that begins at `at`; returns where it ends, or past everything when more bytes are needed. */
  #head(chunk: Buffer, at: number): number {
    let start = at;
    let bytes = chunk;
    if (this.#pending !== null) {
      bytes = Buffer.concat([this.#pending, chunk.subarray(at)]);
      this.#pending = null;
      start = 0;
    } else {
      this.#searchedTo = 0;
      this.#firstLineSeen = false;
    }
    // Leading empty lines.
    if (!this.#firstLineSeen) {
      while (start < bytes.length && (bytes[start] === 13 || bytes[start] === 10)) start++;
      if (start === bytes.length) return Number.MAX_SAFE_INTEGER;
      const first = bytes[start]!;
      if (this.#options.kind === "request") {
        if (!this.#options.allowsCustomMethods && !methodStarts.has(first)) return this.#fail(400, "http1.codec_error");
      } else if (first !== 72) return this.#fail(502, "http1.codec_error");
    }
    const maxBytes = this.#options.maxHeadBytes;
    const available = bytes.length - start;
    // Hardly a head is longer than the first window; the body behind it should not become text.
    let window = this.#searchedTo + headWindowBytes;
    let text = bytes.latin1Slice(start, Math.min(bytes.length, start + window));
    let end = headEnd(text, this.#searchedTo);
    while (end < 0 && text.length < available && text.length < maxBytes + 4) {
      this.#searchedTo = Math.max(0, text.length - 3);
      window = Math.min(window * 4, maxBytes + 4);
      text = bytes.latin1Slice(start, Math.min(bytes.length, start + window));
      end = headEnd(text, this.#searchedTo);
    }
    if (end < 0) {
      if (available > maxBytes) return this.#fail(431, "http1.headers_too_large");
      if (!this.#firstLineSeen) {
        const lineEnd = text.indexOf("\n");
        if (lineEnd >= 0) {
          if (!this.#firstLine(text, lineEnd)) return Number.MAX_SAFE_INTEGER;
          this.#firstLineSeen = true;
        }
      }
      this.#searchedTo = Math.max(0, text.length - 3);
      this.#pending = Buffer.from(bytes.subarray(start));
      return Number.MAX_SAFE_INTEGER;
    }
    this.#searchedTo = 0;
    this.#firstLineSeen = false;
    if (end > maxBytes) return this.#fail(431, "http1.headers_too_large");
    this.headBytes = end;
    this.framingBytes = 0;
    if (!this.#parseHead(text, end)) return Number.MAX_SAFE_INTEGER;
    if (!this.#frame()) return Number.MAX_SAFE_INTEGER;
    const after = start + end;
    this.endsChunk = after === bytes.length;
    this.#sink.onHead(this);
    if ((this.#state as number) === State.done) this.#sink.onMessageEnd(this);
    if (bytes === chunk) return after;
    // The head spanned chunks: go on with what follows it in the joined buffer.
    if (after < bytes.length) this.execute(bytes.subarray(after));
    return Number.MAX_SAFE_INTEGER;
  }

  /** Parses the lines of `text` up to `end`. */
  #parseHead(text: string, end: number): boolean {
    let at = text.indexOf("\n");
    if (!this.#firstLine(text, at)) return false;
    at++;
    const headers: string[] = [];
    this.headers = headers;
    this.host = null;
    this.contentLength = -1;
    this.isChunked = false;
    this.connection = "";
    this.hasHopByHop = false;
    this.upgrade = "";
    this.expect = "";
    this.connectionAt = -1;
    this.upgradeAt = -1;
    let hasTransferEncoding = false;
    const head = text.length === end ? text : text.slice(0, end);
    const isClean = !controlCharacters.test(head);
    let count = 0;
    const maxHeaders = this.#options.maxHeaders;
    while (at < end) {
      let lineEnd = text.indexOf("\n", at);
      let valueEnd = text.charCodeAt(lineEnd - 1) === 13 ? lineEnd - 1 : lineEnd;
      if (valueEnd === at) break;
      const colon = text.indexOf(":", at);
      if (colon < 0 || colon >= valueEnd) return this.#codecError();
      const known = lookUpName(text.slice(at, colon));
      if (known === undefined) return this.#codecError();
      // Folded lines: the line break goes, the blank that begins the next line stays.
      let value: string | null = null;
      let next = text.charCodeAt(lineEnd + 1);
      if (next === 32 || next === 9) {
        value = text.slice(colon + 1, valueEnd);
        while (next === 32 || next === 9) {
          const from = lineEnd + 1;
          lineEnd = text.indexOf("\n", from);
          valueEnd = text.charCodeAt(lineEnd - 1) === 13 ? lineEnd - 1 : lineEnd;
          value += text.slice(from, valueEnd);
          next = text.charCodeAt(lineEnd + 1);
        }
        value = trimBlanks(value, 0, value.length);
      } else {
        value = trimBlanks(text, colon + 1, valueEnd);
      }
      at = lineEnd + 1;
      if (++count > maxHeaders) return this.#refuse(431, "http1.too_many_headers");
      const name = known.name;
      if (!isClean && controlCharacters.test(value)) return this.#refuse(400, "http1.invalid_characters");
      // Envoy's parser drops a CR that no LF follows.
      if (value.indexOf("\r") >= 0) value = trimBlanks(value.replaceAll("\r", ""), 0, value.length);
      if (this.#options.underscores !== "allow" && name.indexOf("_") >= 0) {
        if (this.#options.underscores === "reject") return this.#refuse(400, "http1.unexpected_underscore");
        continue;
      }
      switch (known.kind) {
        case HeaderKind.plain:
          headers.push(name, value);
          break;
        case HeaderKind.host:
          if (this.#options.kind === "response") headers.push(name, value);
          else this.host = this.host === null ? value : `${this.host},${value}`;
          break;
        case HeaderKind.contentLength: {
          if (this.contentLength >= 0 || !isDigits(value)) return this.#codecError();
          // A count beyond 2^53 is not exact, and will not be reached either.
          if (value.length >= 20 && BigInt(value) > maxUint64) return this.#codecError();
          this.contentLength = Number(value);
          headers.push(name, value);
          break;
        }
        case HeaderKind.transferEncoding:
          if (hasTransferEncoding || !(value.length === 7 && value.toLowerCase() === "chunked")) {
            return this.#refuse(501, "http1.invalid_transfer_encoding");
          }
          hasTransferEncoding = true;
          this.isChunked = true;
          break;
        case HeaderKind.connection:
          if (this.connectionAt < 0) this.connectionAt = headers.length;
          this.connection = this.connection === "" ? value : `${this.connection},${value}`;
          break;
        case HeaderKind.upgrade:
          if (this.upgradeAt < 0) {
            this.upgradeAt = headers.length;
            this.isUpgradeFirst = this.connectionAt < 0;
          }
          this.upgrade = this.upgrade === "" ? value : `${this.upgrade},${value}`;
          break;
        case HeaderKind.expect:
          this.expect = value;
          headers.push(name, value);
          break;
        case HeaderKind.te:
          this.hasHopByHop = true;
          headers.push(name, value);
          break;
        default:
          this.hasHopByHop = true;
          headers.push(name, value);
      }
    }
    return true;
  }

  #firstLine(text: string, lineEnd: number): boolean {
    const end = text.charCodeAt(lineEnd - 1) === 13 ? lineEnd - 1 : lineEnd;
    if (this.#options.kind === "response") return this.#statusLine(text, end);
    // The usual line: METHOD SP target SP HTTP/1.1
    if (text.charCodeAt(0) === 32 || text.charCodeAt(0) === 9) return this.#codecError();
    const blank = firstOf(text, end);
    if (blank >= 0) text = text.slice(0, end).replace(/[\t\r]/g, " ");
    const methodEnd = text.indexOf(" ");
    if (methodEnd < 0 || methodEnd > end) return this.#codecError();
    const method = text.slice(0, methodEnd);
    if (!methods.has(method) && !(this.#options.allowsCustomMethods && token.test(method))) return this.#codecError();
    let from = methodEnd + 1;
    while (from < end && isBlank(text.charCodeAt(from))) from++;
    let to = end;
    while (to > from && isBlank(text.charCodeAt(to - 1))) to--;
    let targetEnd = text.indexOf(" ", from);
    if (targetEnd < 0 || targetEnd > to) targetEnd = to;
    const target = text.slice(from, targetEnd);
    if (controlCharacters.test(target)) return this.#refuse(400, "http1.invalid_characters");
    let versionFrom = targetEnd;
    while (versionFrom < to && isBlank(text.charCodeAt(versionFrom))) versionFrom++;
    const written = text.slice(versionFrom, to);
    const first = target.charCodeAt(0);
    const isValid =
      method === "CONNECT"
        ? first === 47 || first === 42
          ? pathTarget.test(target)
          : authorityTarget.test(target)
        : first === 47
          ? pathTarget.test(target)
          : first === 42
            ? pathTarget.test(target)
            : absoluteTarget.test(target);
    if (!isValid) return this.#codecError();
    if (written === "HTTP/1.1") this.minorVersion = 1;
    else if (written === "" || version.test(written)) this.minorVersion = 0;
    else return this.#codecError();
    if ((first === 42 && method !== "OPTIONS") || (first === 47 && method === "CONNECT")) return this.#refuse(400, "http1.invalid_url");
    this.method = method;
    this.target = target;
    return true;
  }

  #statusLine(text: string, end: number): boolean {
    if (!/^HTTP\/\d\.\d /.test(text.slice(0, 9))) return this.#codecError();
    const minor = text.charCodeAt(5) === 49 ? text.charCodeAt(7) - 48 : 0;
    const status = text.slice(9, 12);
    if (end < 12 || !isDigits(status) || (end > 12 && text.charCodeAt(12) !== 32)) return this.#codecError();
    this.minorVersion = minor === 1 ? 1 : 0;
    this.status = Number(status);
    if (this.status < 100) return this.#codecError();
    return true;
  }

  /** Decides how the body is framed. */
  #frame(): boolean {
    if (this.isChunked) {
      if (this.contentLength >= 0) {
        if (!this.#options.allowsChunkedLength) return this.#refuse(400, "http1.content_length_and_chunked_not_allowed");
        this.contentLength = -1;
        dropContentLength(this.headers);
      }
      if (this.minorVersion === 0 && this.#options.kind === "request" && this.contentLength < 0) {
        // Only reached when HTTP/1.0 is accepted; otherwise the connection answers 426 in onHead.
      }
      this.#state = State.chunkSize;
      this.#line = "";
      this.trailers = [];
      this.#trailerBytes = 0;
    } else if (this.contentLength > 0) {
      this.#state = State.fixed;
      this.#remaining = this.contentLength;
    } else if (this.contentLength === 0 || this.#options.kind === "request") this.#state = State.done;
    else this.#state = State.untilClose;
    return true;
  }

  #codecError(): boolean {
    return this.#refuse(400, "http1.codec_error");
  }

  #refuse(status: number, details: string): boolean {
    this.#fail(status, details);
    return false;
  }

  #chunkSize(chunk: Buffer, at: number): number {
    const end = chunk.indexOf(10, at);
    const part = chunk.latin1Slice(at, end < 0 ? Math.min(chunk.length, at + maxChunkLine + 1) : Math.min(end, at + maxChunkLine + 1));
    const line = this.#line === "" ? part : this.#line + part;
    if (line.length > maxChunkLine) return this.#fail(400, "http1.codec_error");
    if (end < 0) {
      if (!/^[0-9a-fA-F]/.test(line)) return this.#fail(400, "http1.codec_error");
      this.#line = line;
      return Number.MAX_SAFE_INTEGER;
    }
    this.#line = "";
    const match = chunkLine.exec(line);
    if (match === null) return this.#fail(400, "http1.codec_error");
    const size = Number.parseInt(match[1]!, 16);
    if (size === 0) this.#state = State.trailers;
    else {
      this.#remaining = size;
      this.#state = State.chunkData;
    }
    return end + 1;
  }

  #trailerLine(chunk: Buffer, at: number): number {
    const end = chunk.indexOf(10, at);
    const stop = end < 0 ? chunk.length : end;
    this.#trailerBytes += stop - at;
    if (this.#trailerBytes > this.#options.maxHeadBytes) return this.#fail(431, "http1.trailers_too_large");
    this.#line += chunk.latin1Slice(at, stop);
    if (end < 0) return Number.MAX_SAFE_INTEGER;
    const line = this.#line.endsWith("\r") ? this.#line.slice(0, -1) : this.#line;
    this.#line = "";
    if (line === "") {
      this.#state = State.done;
      this.endsChunk = end + 1 === chunk.length;
      this.#sink.onMessageEnd(this);
      return end + 1;
    }
    const first = line.charCodeAt(0);
    if (isBlank(first)) {
      if (this.trailers.length === 0) return this.#fail(400, "http1.codec_error");
      if (this.#options.keepsTrailers) this.trailers[this.trailers.length - 1] += line;
      return end + 1;
    }
    const colon = line.indexOf(":");
    const known = colon > 0 ? lookUpName(line.slice(0, colon)) : undefined;
    if (known === undefined) return this.#fail(400, "http1.codec_error");
    const value = trimBlanks(line, colon + 1, line.length);
    if (controlCharacters.test(value) || value.includes("\r")) return this.#fail(400, "http1.invalid_characters");
    if (this.trailers.length / 2 >= this.#options.maxHeaders) return this.#fail(431, "http1.too_many_trailers");
    this.trailers.push(known.name, value);
    return end + 1;
  }
}

/** A chunk's size line without its LF: hex digits, then blanks or an extension, then CR. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: an extension may hold anything but CR.
const chunkLine = /^([0-9a-fA-F]{1,16})(?:[ \t]*|[ \t]*;[^\r\x00]*)\r$/;

/** Where the head's closing empty line ends, or -1. Lines may end in CRLF or LF. */
function headEnd(text: string, from: number): number {
  const usual = text.indexOf("\n\r\n", from);
  // With bare LF the head may end earlier; rare, but it decides where the next message begins.
  const bare = text.indexOf("\n\n", from);
  if (bare >= 0 && (usual < 0 || bare < usual)) return bare + 2;
  return usual < 0 ? -1 : usual + 3;
}

function dropContentLength(headers: string[]): void {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] === "content-length") {
      headers.splice(i, 2);
      return;
    }
  }
}

/** Where a TAB or a stray CR stands in the first line, -1 for nowhere; Envoy takes them for spaces. */
function firstOf(text: string, end: number): number {
  const tab = text.indexOf("\t");
  if (tab >= 0 && tab < end) return tab;
  const cr = text.indexOf("\r");
  return cr >= 0 && cr < end ? cr : -1;
}

function isBlank(code: number): boolean {
  return code === 32 || code === 9;
}

function isDigits(text: string): boolean {
  if (text === "") return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 48 || code > 57) return false;
  }
  return true;
}

/** The text from `from` to `to` without blanks at either end. */
function trimBlanks(text: string, from: number, to: number): string {
  while (from < to && isBlank(text.charCodeAt(from))) from++;
  while (to > from && isBlank(text.charCodeAt(to - 1))) to--;
  return text.slice(from, to);
}
