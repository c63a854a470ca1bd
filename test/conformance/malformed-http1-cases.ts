/**
 * Byte streams that are not, or just barely, HTTP/1.1, each with what Envoy 1.40 makes of it.
 *
 * In the bytes `@` is the case's own path, `/c12`; every request that may come of them begins with it, `@/smuggled` the ones that only a
 * second reading of the stream would find. Characters stand for bytes (latin1).
 *
 * `outcome`: status codes in order, then what becomes of the connection. `silent`: no answer so far, it waits.
 */
export interface MalformedCase {
  readonly name: string;
  readonly bytes: string;
  readonly outcome: string;
  readonly listener?: "strict" | "lenient";
  /** `fin`: the client ends its direction behind the bytes. `bytewise`: a packet for each byte. */
  readonly how?: "fin" | "bytewise" | "reset";
  /** How many requests reach the upstream, where a race decides: then only the upper bound counts. */
  readonly atMost?: number;
}

const post = "POST @ HTTP/1.1\r\nhost: a\r\n";
const get = "GET @ HTTP/1.1\r\nhost: a\r\n";
const smuggled = "GET @/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

export const malformedCases: readonly MalformedCase[] = [
  { name: "a plain request", bytes: `${get}\r\n`, outcome: "200 open" },
  // --- framing: length against chunks
  { name: "CL and TE", bytes: `${post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`, outcome: "400 close" },
  { name: "TE and CL", bytes: `${post}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n${smuggled}`, outcome: "400 close" },
  {
    name: "CL and TE where that is allowed",
    listener: "lenient",
    bytes: `${post}content-length: 40\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    outcome: "200 200 open",
  },
  { name: "two CL, the same", bytes: `${post}content-length: 2\r\ncontent-length: 2\r\n\r\nab`, outcome: "400 close" },
  { name: "two CL, different", bytes: `${post}content-length: 2\r\ncontent-length: 40\r\n\r\nab${smuggled}`, outcome: "400 close" },
  { name: "a list in CL", bytes: `${post}content-length: 2, 2\r\n\r\nab`, outcome: "400 close" },
  { name: "negative CL", bytes: `${post}content-length: -1\r\n\r\nab`, outcome: "400 close" },
  { name: "CL with a plus", bytes: `${post}content-length: +2\r\n\r\nab`, outcome: "400 close" },
  { name: "hexadecimal CL", bytes: `${post}content-length: 0x2\r\n\r\nab`, outcome: "400 close" },
  { name: "CL beyond 64 bits", bytes: `${post}content-length: 99999999999999999999\r\n\r\nab`, outcome: "400 close" },
  { name: "empty CL", bytes: `${post}content-length:\r\n\r\n`, outcome: "400 close" },
  { name: "CL with leading zeros", bytes: `${post}content-length: 0002\r\n\r\nab`, outcome: "200 open" },
  { name: "CL with a space inside", bytes: `${post}content-length: 1 2\r\n\r\nab`, outcome: "400 close" },
  { name: "CL of GET", bytes: `${get}content-length: 2\r\n\r\nab${smuggled}`, outcome: "200 200 open" },
  { name: "space before the colon of CL", bytes: `${post}content-length : 2\r\n\r\nab`, outcome: "400 close" },
  { name: "tab before the colon of TE", bytes: `${post}transfer-encoding\t: chunked\r\n\r\n0\r\n\r\n`, outcome: "400 close" },
  { name: "TE identity", bytes: `${post}transfer-encoding: identity\r\n\r\n`, outcome: "501 close" },
  { name: "TE gzip, chunked", bytes: `${post}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n`, outcome: "501 close" },
  { name: "TE chunked, identity", bytes: `${post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`, outcome: "501 close" },
  { name: "TE twice", bytes: `${post}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, outcome: "501 close" },
  { name: "TE in capitals", bytes: `${post}Transfer-Encoding: CHUNKED\r\n\r\n2\r\nab\r\n0\r\n\r\n`, outcome: "200 open" },
  { name: "TE with a vertical tab", bytes: `${post}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n${smuggled}`, outcome: "400 close" },
  { name: "TE folded", bytes: `${post}transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n`, outcome: "200 open" },
  { name: "TE with an underscore", bytes: `${post}transfer_encoding: chunked\r\ncontent-length: 2\r\n\r\nab`, outcome: "200 open" },
  { name: "TE on HTTP/1.0", bytes: "POST @ HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", outcome: "426 close" },
  {
    name: "TE on HTTP/1.0 where that is allowed",
    listener: "lenient",
    bytes: "POST @ HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    outcome: "200 close",
  },
  { name: "TE of GET", bytes: `${get}transfer-encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`, outcome: "200 200 open" },
  // --- chunks
  { name: "a chunk size that is none", bytes: `${post}transfer-encoding: chunked\r\n\r\nxyz\r\nab\r\n0\r\n\r\n`, outcome: "400 close" },
  { name: "an empty chunk size", bytes: `${post}transfer-encoding: chunked\r\n\r\n\r\nab\r\n0\r\n\r\n`, outcome: "400 close" },
  { name: "a negative chunk size", bytes: `${post}transfer-encoding: chunked\r\n\r\n-2\r\nab\r\n0\r\n\r\n`, outcome: "400 close" },
  { name: "a chunk size with 0x", bytes: `${post}transfer-encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n`, outcome: "400 close" },
  {
    name: "a chunk size beyond 64 bits",
    bytes: `${post}transfer-encoding: chunked\r\n\r\n10000000000000002\r\nab\r\n0\r\n\r\n`,
    outcome: "400 close",
  },
  {
    name: "a chunk size with leading zeros",
    bytes: `${post}transfer-encoding: chunked\r\n\r\n0000002\r\nab\r\n0\r\n\r\n`,
    outcome: "200 open",
  },
  {
    name: "a chunk size in capitals, blanks behind it",
    bytes: `${post}transfer-encoding: chunked\r\n\r\nA \r\n0123456789\r\n0\r\n\r\n`,
    outcome: "200 open",
  },
  { name: "a chunk extension", bytes: `${post}transfer-encoding: chunked\r\n\r\n2;name=value\r\nab\r\n0\r\n\r\n`, outcome: "200 open" },
  {
    name: "a chunk extension with a bare LF",
    bytes: `${post}transfer-encoding: chunked\r\n\r\n2;a\nab\r\n0\r\n\r\n${smuggled}`,
    outcome: "400 close",
  },
  {
    name: "a chunk extension with a bare CR",
    bytes: `${post}transfer-encoding: chunked\r\n\r\n2;a\rb\r\nab\r\n0\r\n\r\n`,
    outcome: "400 close",
  },
  { name: "bare LF behind a chunk size", bytes: `${post}transfer-encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n`, outcome: "400 close" },
  { name: "bare LF behind a chunk", bytes: `${post}transfer-encoding: chunked\r\n\r\n2\r\nab\n0\r\n\r\n`, outcome: "200 open" },
  { name: "a chunk longer than it says", bytes: `${post}transfer-encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n`, outcome: "200 open" },
  { name: "a chunk shorter than it says", bytes: `${post}transfer-encoding: chunked\r\n\r\n5\r\nab\r\n0\r\n\r\n`, outcome: "400 close" },
  { name: "trailers", bytes: `${post}transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-trailer: 1\r\n\r\n`, outcome: "200 open" },
  { name: "a bad trailer", bytes: `${post}transfer-encoding: chunked\r\n\r\n0\r\nbad trailer: 1\r\n\r\n`, outcome: "400 close" },
  {
    name: "a framing header as trailer",
    bytes: `${post}transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 40\r\n\r\n${smuggled}`,
    outcome: "200 200 open",
  },
  { name: "huge trailers", bytes: `${post}transfer-encoding: chunked\r\n\r\n0\r\nx: ${"a".repeat(70_000)}\r\n\r\n`, outcome: "431 close" },
  // --- line ends and folds
  { name: "bare LF everywhere", bytes: "GET @ HTTP/1.1\nhost: a\n\n", outcome: "200 open" },
  { name: "bare CR as line end", bytes: "GET @ HTTP/1.1\rhost: a\r\r", outcome: "silent" },
  { name: "bare CR in a value", bytes: `${get}x-a: b\rx-b: c\r\n\r\n`, outcome: "200 open" },
  { name: "bare CR before CRLF", bytes: `${get}x-a: b\r\r\n\r\n`, outcome: "200 open" },
  { name: "a folded value", bytes: `${get}x-a: b\r\n c\r\n\r\n`, outcome: "200 open" },
  { name: "a value folded with TAB", bytes: `${get}x-a: b\r\n\tc\r\n\r\n`, outcome: "200 open" },
  { name: "a fold of nothing", bytes: `${get}x-a: b\r\n \r\n\r\n`, outcome: "200 open" },
  { name: "a first header that is folded", bytes: "GET @ HTTP/1.1\r\n host: a\r\nx: y\r\n\r\n", outcome: "400 close" },
  { name: "empty lines before the request", bytes: `\r\n\r\n${get}\r\n`, outcome: "200 open" },
  { name: "a LF before the request", bytes: `\n${get}\r\n`, outcome: "200 open" },
  { name: "spaces before the request", bytes: `  ${get}\r\n`, outcome: "400 close" },
  // --- header names and values
  { name: "a header without colon", bytes: `${get}nocolon\r\n\r\n`, outcome: "400 close" },
  { name: "an empty header name", bytes: `${get}: value\r\n\r\n`, outcome: "400 close" },
  { name: "a space in a header name", bytes: `${get}x a: b\r\n\r\n`, outcome: "400 close" },
  { name: "a separator in a header name", bytes: `${get}x(a): b\r\n\r\n`, outcome: "400 close" },
  { name: "an 8-bit byte in a header name", bytes: `${get}x\xe9: b\r\n\r\n`, outcome: "400 close" },
  { name: "a NUL in a header name", bytes: `${get}x\0a: b\r\n\r\n`, outcome: "400 close" },
  { name: "a NUL in a value", bytes: `${get}x-a: b\0c\r\n\r\n`, outcome: "400 close" },
  { name: "a DEL in a value", bytes: `${get}x-a: b\x7fc\r\n\r\n`, outcome: "400 close" },
  { name: "8-bit bytes in a value", bytes: `${get}x-a: \x80\xff\xe9\r\n\r\n`, outcome: "200 open" },
  { name: "an empty value", bytes: `${get}x-a:\r\nx-b: \r\n\r\n`, outcome: "200 open" },
  { name: "a pseudo header", bytes: `${get}:path: /other\r\n\r\n`, outcome: "400 close" },
  { name: "101 headers", bytes: `${get}${Array.from({ length: 100 }, (_, i) => `x-${i}: 1\r\n`).join("")}\r\n`, outcome: "431 close" },
  { name: "a head of 59 KiB", bytes: `${get}x-a: ${"a".repeat(59 * 1024)}\r\n\r\n`, outcome: "200 open" },
  { name: "a head of 61 KiB", bytes: `${get}x-a: ${"a".repeat(61 * 1024)}\r\n\r\n`, outcome: "431 close" },
  { name: "a head without end", bytes: `${get}x-a: ${"a".repeat(200_000)}`, outcome: "431 close" },
  { name: "a header name of 61 KiB", bytes: `${get}${"n".repeat(61 * 1024)}: 1\r\n\r\n`, outcome: "431 close" },
  { name: "a path of 50 KiB", bytes: `GET @/${"p".repeat(50 * 1024)} HTTP/1.1\r\nhost: a\r\n\r\n`, outcome: "200 open" },
  { name: "a path of 70 KiB", bytes: `GET @/${"p".repeat(70 * 1024)} HTTP/1.1\r\nhost: a\r\n\r\n`, outcome: "431 close" },
  { name: "a long head byte by byte", how: "bytewise", bytes: `${get}x-a: ${"a".repeat(2000)}\r\n\r\n`, outcome: "200 open" },
  {
    name: "a chunked body byte by byte",
    how: "bytewise",
    bytes: `${post}transfer-encoding: chunked\r\n\r\n2;ext\r\nab\r\n1\r\nc\r\n0\r\n\r\n`,
    outcome: "200 open",
  },
  // --- host
  { name: "no host", bytes: "GET @ HTTP/1.1\r\n\r\n", outcome: "400 close" },
  { name: "an empty host", bytes: "GET @ HTTP/1.1\r\nhost:\r\n\r\n", outcome: "200 open" },
  { name: "two hosts", bytes: `${get}host: b\r\n\r\n`, outcome: "200 open" },
  { name: "a host with a space", bytes: "GET @ HTTP/1.1\r\nhost: a b\r\n\r\n", outcome: "400 close" },
  { name: "a host with a slash", bytes: "GET @ HTTP/1.1\r\nhost: a/b\r\n\r\n", outcome: "400 close" },
  { name: "a host with user information", bytes: "GET @ HTTP/1.1\r\nhost: u@@a\r\n\r\n", outcome: "200 open" },
  { name: "a host with an 8-bit byte", bytes: "GET @ HTTP/1.1\r\nhost: \xe9\r\n\r\n", outcome: "400 close" },
  // --- methods and targets
  { name: "an unknown method", bytes: "FOO @ HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "a method in small letters", bytes: "get @ HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "a method with a separator", bytes: "G(ET @ HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "a method alone", bytes: "GET\r\n\r\n", outcome: "400 close" },
  { name: "PRI, the preface of HTTP/2, alone", bytes: "PRI * HTTP/2.0\r\n\r\n", outcome: "silent" },
  { name: "CONNECT", bytes: "CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "404 close" },
  { name: "CONNECT with a path", bytes: "CONNECT @ HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "absolute form", bytes: "GET http://other.example@?q=1 HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "200 open" },
  { name: "absolute form without path", bytes: "GET http://other.example HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "200 open", atMost: 0 },
  { name: "absolute form of another scheme", bytes: "GET https://other.example@ HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "200 open" },
  { name: "a target without slash", bytes: "GET abc HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "an asterisk with GET", bytes: "GET * HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "a space in the target", bytes: "GET @ b HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "two spaces before the version", bytes: "GET @  HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "200 open" },
  { name: "a TAB for the space", bytes: "GET\t@ HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "200 open" },
  { name: "a NUL in the target", bytes: "GET @\0b HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "an 8-bit byte in the target", bytes: "GET @\xe9 HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "a fragment", bytes: "GET @#frag HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "quotes and angles in the target", bytes: 'GET @"<>{}|^` HTTP/1.1\r\nhost: a\r\n\r\n', outcome: "200 open" },
  { name: "percent signs that escape nothing", bytes: "GET @%zz%2%00%0d%0a HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "200 open" },
  { name: "dots and slashes of all kinds", bytes: "GET @/..%2f%2e%2e\\..//x HTTP/1.1\r\nhost: a\r\n\r\n", outcome: "200 open" },
  // --- versions
  { name: "HTTP/1.0", bytes: "GET @ HTTP/1.0\r\nhost: a\r\n\r\n", outcome: "426 close" },
  { name: "HTTP/0.9", bytes: "GET @\r\n\r\n", outcome: "426 close" },
  { name: "HTTP/1.2", bytes: "GET @ HTTP/1.2\r\nhost: a\r\n\r\n", outcome: "426 close" },
  { name: "HTTP/2.0", bytes: "GET @ HTTP/2.0\r\nhost: a\r\n\r\n", outcome: "426 close" },
  { name: "a version in small letters", bytes: "GET @ http/1.1\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "a version with two digits", bytes: "GET @ HTTP/1.10\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "another protocol", bytes: "GET @ RTSP/1.0\r\nhost: a\r\n\r\n", outcome: "400 close" },
  { name: "HTTP/1.0 where that is allowed", listener: "lenient", bytes: "GET @ HTTP/1.0\r\n\r\n", outcome: "400 close" },
  {
    name: "HTTP/1.0 with keep-alive where that is allowed",
    listener: "lenient",
    bytes: "GET @ HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
    outcome: "200 open",
  },
  { name: "HTTP/0.9 where 1.0 is allowed", listener: "lenient", bytes: "GET @\r\n\r\n", outcome: "400 close" },
  // --- connection
  { name: "two requests at once", bytes: `${get}\r\n${get}\r\n`, outcome: "200 200 open" },
  {
    name: "five requests at once, one with a body",
    bytes: `${get}\r\n${post}content-length: 2\r\n\r\nab${get}\r\n${get}\r\nHEAD @ HTTP/1.1\r\nhost: a\r\n\r\n`,
    outcome: "200 200 200 200 200 open",
  },
  { name: "a good request and a bad one", bytes: `${get}\r\nBAD\r\n\r\n`, outcome: "200 400 close" },
  { name: "a request behind one that closes", bytes: `${get}connection: close\r\n\r\n${smuggled}`, outcome: "200 close" },
  { name: "Connection names Host", bytes: `${get}connection: host\r\n\r\n`, outcome: "400 close" },
  {
    name: "Connection names Content-Length",
    bytes: `${post}connection: content-length\r\ncontent-length: 2\r\n\r\nab`,
    outcome: "200 open",
  },
  {
    name: "Connection names X-Forwarded-For",
    bytes: `${get}connection: x-forwarded-for\r\nx-forwarded-for: 1.2.3.4\r\n\r\n`,
    outcome: "400 close",
  },
  {
    name: "Connection names Host and Content-Length",
    bytes: `${post}connection: host, content-length\r\ncontent-length: 2\r\n\r\nab`,
    outcome: "400 close",
  },
  { name: "Expect: 100-continue", bytes: `${post}expect: 100-continue\r\ncontent-length: 2\r\n\r\nab`, outcome: "100 200 open" },
  { name: "Expect of something else", bytes: `${post}expect: miracles\r\ncontent-length: 2\r\n\r\nab`, outcome: "200 open" },
  { name: "an upgrade that is not allowed", bytes: `${get}connection: upgrade\r\nupgrade: websocket\r\n\r\n`, outcome: "403 close" },
  {
    name: "an upgrade to h2c with a body",
    bytes: `${post}connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\ncontent-length: 2\r\n\r\nab`,
    outcome: "200 open",
  },
  { name: "Upgrade without Connection", bytes: `${get}upgrade: websocket\r\n\r\n`, outcome: "200 open" },
  { name: "half a request line", bytes: "GET @ HT", outcome: "silent" },
  { name: "half a head", bytes: get, outcome: "silent" },
  { name: "half a body", bytes: `${post}content-length: 10\r\n\r\nab`, outcome: "silent" },
  { name: "half a head, then FIN", how: "fin", bytes: get, outcome: "close" },
  { name: "half a body, then FIN", how: "fin", bytes: `${post}content-length: 10\r\n\r\nab`, outcome: "close", atMost: 0 },
  { name: "a request, then FIN", how: "fin", bytes: `${get}\r\n`, outcome: "close", atMost: 1 },
  { name: "nothing, then FIN", how: "fin", bytes: "", outcome: "close" },
  { name: "TLS on a plaintext port", bytes: "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", outcome: "400 close" },
  { name: "binary garbage", bytes: "\xff\xfe\x00\x01\x02\x03\r\n\r\n", outcome: "400 close" },
];
