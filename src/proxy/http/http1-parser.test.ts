import { describe, expect, it } from "vitest";
import { Http1Parser, type Http1ParserOptions, type Http1ParserSink } from "./http1-parser.ts";

const defaults: Http1ParserOptions = {
  kind: "request",
  maxHeadBytes: 60 * 1024,
  maxHeaders: 100,
  keepsTrailers: true,
  allowsChunkedLength: false,
  allowsCustomMethods: false,
  underscores: "allow",
};

/** Feeds the bytes in pieces and tells what the parser saw; bodies are joined, so that the pieces leave no trace. */
function parse(text: string, pieceBytes: number, options: Partial<Http1ParserOptions> = {}): string[] {
  const events: string[] = [];
  let body = "";
  const sink: Http1ParserSink = {
    onHead(parser) {
      const what = options.kind === "response" ? String(parser.status) : `${parser.method} ${parser.target} host=${parser.host}`;
      events.push(`${what} ${JSON.stringify(parser.headers)}`);
      body = "";
    },
    onBody(chunk) {
      body += chunk.toString("latin1");
    },
    onMessageEnd(parser) {
      events.push(`end body=${JSON.stringify(body)} trailers=${JSON.stringify(parser.isChunked ? parser.trailers : [])}`);
      done = true;
    },
    onParseError(status, details) {
      events.push(`error ${status} ${details}`);
    },
  };
  let done = false;
  const parser = new Http1Parser({ ...defaults, ...options }, sink);
  const bytes = Buffer.from(text, "latin1");
  const settle = () => {
    while (done) {
      done = false;
      parser.next();
    }
  };
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    parser.execute(bytes.subarray(at, at + pieceBytes));
    settle();
  }
  return events;
}

const get = "GET /a?b HTTP/1.1\r\nHost: h\r\nX-A:  1 \t\r\nx-a: 2\r\n\r\n";

const accepted: Record<string, [string, string[]]> = {
  "a plain request": [get, ['GET /a?b host=h ["x-a","1","x-a","2"]', 'end body="" trailers=[]']],
  "a fixed body": [
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    ['POST / host=h ["content-length","5"]', 'end body="hello" trailers=[]'],
  ],
  "chunks, extensions and trailers": [
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n6;e=1\r\n world\r\n0\r\nX-T: 1\r\n\r\n",
    ["POST / host=h []", 'end body="hello world" trailers=["x-t","1"]'],
  ],
  "a chunk that overruns its size": [
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloWORLD\r\n0\r\n\r\n",
    ["POST / host=h []", 'end body="hello" trailers=[]'],
  ],
  "pipelined requests": [
    `${get}POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nxGET /3 HTTP/1.1\r\nHost: i\r\n\r\n`,
    [
      'GET /a?b host=h ["x-a","1","x-a","2"]',
      'end body="" trailers=[]',
      'POST /2 host=h ["content-length","1"]',
      'end body="x" trailers=[]',
      "GET /3 host=i []",
      'end body="" trailers=[]',
    ],
  ],
  "bare LF, which ends a head early": [
    "GET /1 HTTP/1.1\nHost: a\n\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\n",
    ["GET /1 host=a []", 'end body="" trailers=[]', "GET /2 host=b []", 'end body="" trailers=[]'],
  ],
  "folded lines": ["GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\tc\r\n\r\n", ['GET / host=h ["x","a b\\tc"]', 'end body="" trailers=[]']],
  "empty lines before a request": [`\r\n\r\n${get}`, ['GET /a?b host=h ["x-a","1","x-a","2"]', 'end body="" trailers=[]']],
  "two Host lines": ["GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", ["GET / host=a,b []", 'end body="" trailers=[]']],
};

const refused: Record<string, [string, string]> = {
  "both lengths": [
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    "400 http1.content_length_and_chunked_not_allowed",
  ],
  "two lengths": ["POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", "400 http1.codec_error"],
  "a list of lengths": ["POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2, 2\r\n\r\n", "400 http1.codec_error"],
  "a length with a sign": ["POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +2\r\n\r\n", "400 http1.codec_error"],
  "a length beyond 64 bits": ["POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551616\r\n\r\n", "400 http1.codec_error"],
  "blank before colon": ["GET / HTTP/1.1\r\nHost : h\r\n\r\n", "400 http1.codec_error"],
  "an unknown transfer coding": [
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "501 http1.invalid_transfer_encoding",
  ],
  "a transfer coding twice": [
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "501 http1.invalid_transfer_encoding",
  ],
  "an unknown method": ["BREW / HTTP/1.1\r\nHost: h\r\n\r\n", "400 http1.codec_error"],
  "a target without slash": ["GET abc HTTP/1.1\r\nHost: h\r\n\r\n", "400 http1.codec_error"],
  "NUL in a value": ["GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", "400 http1.invalid_characters"],
  "a line without colon": ["GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", "400 http1.codec_error"],
  "a blank that begins the first header": ["GET / HTTP/1.1\r\n X: y\r\n\r\n", "400 http1.codec_error"],
  TLS: ["\x16\x03\x01\x02\x00\x01", "400 http1.codec_error"],
};

describe("Http1Parser", () => {
  for (const [name, [text, events]] of Object.entries(accepted)) {
    it(`reads ${name} alike, however the bytes are cut`, () => {
      for (const pieceBytes of [text.length, 1, 2, 3, 7, 16]) expect(parse(text, pieceBytes)).toEqual(events);
    });
  }

  for (const [name, [text, error]] of Object.entries(refused)) {
    it(`refuses ${name}, however the bytes are cut`, () => {
      for (const pieceBytes of [text.length, 1, 5]) expect(parse(text, pieceBytes)).toEqual([`error ${error}`]);
    });
  }

  for (const size of ["zz", "-5", "0x5", " 5", "", "fffffffffffffffff", "5;a\rb"]) {
    it(`refuses the chunk size ${JSON.stringify(size)}`, () => {
      const head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
      expect(parse(`${head}${size}\r\nhello\r\n0\r\n\r\n`, 1000).at(-1)).toBe("error 400 http1.codec_error");
    });
  }

  it("refuses bare LF within chunk framing", () => {
    const head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    expect(parse(`${head}5\nhello\r\n0\r\n\r\n`, 1000).at(-1)).toBe("error 400 http1.codec_error");
  });

  it("limits a head's bytes, finished or not", () => {
    const long = `GET / HTTP/1.1\r\nHost: h\r\nX: ${"y".repeat(2000)}`;
    for (const text of [`${long}\r\n\r\n`, long]) {
      expect(parse(text, 500, { maxHeadBytes: 1024 })).toEqual(["error 431 http1.headers_too_large"]);
    }
  });

  it("limits the number of headers", () => {
    const head = (count: number) => `GET / HTTP/1.1\r\n${"X: y\r\n".repeat(count - 1)}Host: h\r\n\r\n`;
    expect(parse(head(100), 1000)).toHaveLength(2);
    expect(parse(head(101), 1000)).toEqual(["error 431 http1.too_many_headers"]);
  });

  it("drops or refuses names with underscores when told to", () => {
    const text = "GET / HTTP/1.1\r\nHost: h\r\na_b: 1\r\nc: 2\r\n\r\n";
    expect(parse(text, 100, { underscores: "drop" })[0]).toBe('GET / host=h ["c","2"]');
    expect(parse(text, 100, { underscores: "reject" })).toEqual(["error 400 http1.unexpected_underscore"]);
  });

  it("reads responses with and without reason", () => {
    const head = (line: string) => parse(`${line}\r\nContent-Length: 2\r\n\r\nhi`, 1000, { kind: "response" });
    expect(head("HTTP/1.1 200 Fine")).toEqual(['200 ["content-length","2"]', 'end body="hi" trailers=[]']);
    expect(head("HTTP/1.1 200")).toEqual(['200 ["content-length","2"]', 'end body="hi" trailers=[]']);
    expect(head("HTTP/1.1 2000 X")).toEqual(["error 400 http1.codec_error"]);
    expect(head("hello")).toEqual(["error 502 http1.codec_error"]);
  });
});
