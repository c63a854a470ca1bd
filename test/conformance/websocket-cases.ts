/**
 * What a client may send in a WebSocket, as Autobahn's fuzzing client does: its groups 1 to 7 and 9. The suite itself needs a Python that is
 * no more.
 */

export const opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

interface FrameOptions {
  readonly isFinal?: boolean;
  readonly reserved?: number;
  readonly isMasked?: boolean;
}

const mask = Buffer.from([0x37, 0xfa, 0x21, 0x3d]);

export function frame(
  code: number,
  payload: string | Buffer = "",
  { isFinal = true, reserved = 0, isMasked = true }: FrameOptions = {},
): Buffer {
  const bytes = typeof payload === "string" ? Buffer.from(payload, "latin1") : payload;
  const { length } = bytes;
  const size =
    length < 126
      ? [length]
      : length < 65_536
        ? [126, length >> 8, length & 255]
        : [127, 0, 0, 0, 0, length >>> 24, (length >> 16) & 255, (length >> 8) & 255, length & 255];
  size[0]! |= isMasked ? 0x80 : 0;
  const head = Buffer.from([(isFinal ? 0x80 : 0) | (reserved << 4) | code, ...size]);
  if (!isMasked) return Buffer.concat([head, bytes]);
  return Buffer.concat([head, mask, bytes.map((byte, index) => byte ^ mask[index & 3]!)]);
}

export function closeFrame(code: number, reason = ""): Buffer {
  return frame(opcode.close, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason, "latin1")]));
}

interface Step {
  readonly bytes: Buffer;
  /** Before the next step: a text that the server sends back, so that what it does of two things first is no matter of chance. */
  readonly awaits?: string;
}

export interface WebSocketCase {
  readonly name: string;
  readonly steps: readonly Step[];
  /** Sent in pieces of this size. */
  readonly pieces?: number;
}

const { text, binary, ping, pong, continuation } = opcode;
const part = { isFinal: false };

/** What the server takes, and it is asked to close; where it takes it not, it has closed by then. */
function made(name: string, ...frames: Buffer[]): WebSocketCase {
  const last = "the last of it";
  return { name, steps: [{ bytes: Buffer.concat([...frames, frame(text, last)]), awaits: last }, { bytes: closeFrame(1000) }] };
}

/** What the server closes at, once it was seen to be there. */
function wrong(name: string, ...frames: Buffer[]): WebSocketCase {
  return { name, steps: [{ bytes: frame(text, "before"), awaits: "before" }, { bytes: Buffer.concat(frames) }] };
}

const closing = (name: string, bytes: Buffer): WebSocketCase => ({ name, steps: [{ bytes }] });
const inPieces = (pieces: number, one: WebSocketCase): WebSocketCase => ({ ...one, name: `${one.name}, in pieces of ${pieces}`, pieces });

const sizes = [0, 1, 125, 126, 127, 128, 65_535, 65_536];
const pattern = (length: number) => Buffer.alloc(length, "The quick brown fox ");
const valid = "Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!! \xf0\x9f\x98\x80";
const fragmented = (code: number, payload: Buffer, length: number) =>
  Array.from({ length: Math.ceil(payload.length / length) }, (_, index) =>
    frame(index === 0 ? code : continuation, payload.subarray(index * length, (index + 1) * length), {
      isFinal: (index + 1) * length >= payload.length,
    }),
  );

export const webSocketCases: readonly WebSocketCase[] = [
  // 1: sizes
  ...sizes.flatMap((size) => [
    made(`text of ${size}`, frame(text, pattern(size))),
    made(`binary of ${size}`, frame(binary, Buffer.alloc(size, 0xfe))),
  ]),
  inPieces(997, made("text of 65536", frame(text, pattern(65_536)))),
  inPieces(1, made("text of 300", frame(text, pattern(300)))),
  // 2: pings and pongs
  ...[0, 5, 125].map((size) => made(`a ping of ${size}`, frame(ping, Buffer.alloc(size, 0xfe)))),
  made("a ping that is too long", frame(ping, Buffer.alloc(126, 0xfe))),
  made("a pong that nobody asked for", frame(pong, "unasked"), frame(ping, "asked")),
  made("ten pings", ...Array.from({ length: 10 }, (_, index) => frame(ping, `ping ${index}`))),
  inPieces(1, made("ten pings", ...Array.from({ length: 10 }, (_, index) => frame(ping, `ping ${index}`)))),
  // 3: reserved bits
  ...[1, 2, 3, 4, 5, 6, 7].map((reserved) => wrong(`reserved bits ${reserved}`, frame(text, "hello", { reserved }), frame(ping, "after"))),
  // 4: reserved opcodes
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((code) => wrong(`opcode ${code}`, frame(code, "hello"), frame(ping, "after"))),
  // 5: fragments
  made("a text in two", frame(text, "frag", part), frame(continuation, "ment")),
  inPieces(1, made("a text in two", frame(text, "frag", part), frame(continuation, "ment"))),
  made("a ping between", frame(text, "frag", part), frame(ping, "between"), frame(continuation, "ment")),
  made("a ping in two", frame(ping, "frag", part), frame(continuation, "ment")),
  made("a pong in two", frame(pong, "frag", part), frame(continuation, "ment")),
  made("a continuation of nothing", frame(continuation, "ment")),
  made("a continuation of nothing, not the last", frame(continuation, "ment", part), frame(text, "hello")),
  made("a text within a text", frame(text, "frag", part), frame(text, "hello")),
  made(
    "five fragments with pings",
    ...["a", "b", "c", "d"].flatMap((one, index) => [frame(index === 0 ? text : continuation, one, part), frame(ping, one)]),
    frame(continuation, "e"),
  ),
  made("empty fragments", frame(text, "", part), frame(continuation, "", part), frame(continuation, "")),
  // 6: UTF-8
  made("valid UTF-8", frame(text, valid)),
  made("valid UTF-8 cut in a character", frame(text, valid.slice(0, 7), part), frame(continuation, valid.slice(7))),
  made("valid UTF-8, a byte a frame", ...fragmented(text, Buffer.from(valid, "latin1"), 1)),
  made("a surrogate", frame(text, "\xed\xa0\x80edited")),
  made("an overlong slash", frame(text, "\xc0\xaf")),
  made("beyond Unicode", frame(text, "\xf4\x90\x80\x80")),
  made("a character cut short", frame(text, "\xce\xba\xe1\xbd")),
  made("bad bytes in the second fragment", frame(text, "\xce\xba", part), frame(continuation, "\xed\xa0\x80")),
  made("bad bytes that are binary", frame(binary, "\xff\xfe\xfd")),
  // 7: closing
  ...[1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999].map((code) => ({
    name: `close ${code}`,
    steps: [{ bytes: closeFrame(code, "bye") }],
  })),
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535].map((code) => ({
    name: `close ${code}, which is none`,
    steps: [{ bytes: closeFrame(code) }],
  })),
  closing("close without a code", frame(opcode.close)),
  closing("close with half a code", frame(opcode.close, "\x03")),
  closing("close with the longest reason", closeFrame(1000, "x".repeat(123))),
  closing("close with a reason too long", closeFrame(1000, "x".repeat(124))),
  closing("close with a reason that is no UTF-8", closeFrame(1000, "\xed\xa0\x80")),
  closing("frames after the close", Buffer.concat([closeFrame(1000), frame(text, "late"), frame(ping, "later")])),
  made("a message before the close", frame(text, "hello")),
  wrong("a frame without mask", frame(text, "hello", { isMasked: false })),
  // 9: large messages
  ...[256, 1024, 4096, 16_384].map((kibibytes) =>
    made(`${kibibytes} KiB in one frame`, frame(binary, Buffer.alloc(kibibytes * 1024, 0xfe))),
  ),
  ...[64, 1024, 65_536].map((length) =>
    made(`1 MiB in frames of ${length}`, ...fragmented(binary, Buffer.alloc(1024 * 1024, 0xfe), length)),
  ),
  inPieces(10_007, made("1 MiB in one frame", frame(text, pattern(1024 * 1024)))),
  made("500 messages at once", ...Array.from({ length: 500 }, (_, index) => frame(index % 2 === 0 ? text : binary, `message ${index}`))),
  made("500 messages of 4 KiB at once", ...Array.from({ length: 500 }, () => frame(text, pattern(4096)))),
];
