/** Frames of HTTP/2 (RFC 9113, 4 and 6), and the numbers in them. */

export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  resetStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flag = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
  enableConnectProtocol: 8,
} as const;

export const errorCode = {
  none: 0,
  protocol: 1,
  internal: 2,
  flowControl: 3,
  streamClosed: 5,
  frameSize: 6,
  refusedStream: 7,
  cancel: 8,
  compression: 9,
  enhanceYourCalm: 11,
} as const;
export type ErrorCode = (typeof errorCode)[keyof typeof errorCode];

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
export const frameHeadBytes = 9;
/** Until the other side allows more; we never do. */
export const defaultMaxFrameBytes = 16_384;
export const defaultWindow = 65_535;
export const largestWindow = 0x7fff_ffff;

const byte = Array.from({ length: 256 }, (_, value) => String.fromCharCode(value));

/** 31 or 32 bits as four characters of latin1. */
export function word(value: number): string {
  return byte[value >>> 24]! + byte[(value >>> 16) & 0xff]! + byte[(value >>> 8) & 0xff]! + byte[value & 0xff]!;
}

/** A frame's head as latin1, for a transport that gathers text. `stream`: of `word`. Hot. */
export function frameHead(length: number, type: number, flags: number, stream: string): string {
  return byte[length >>> 16]! + byte[(length >>> 8) & 0xff]! + byte[length & 0xff]! + byte[type]! + byte[flags]! + stream;
}

const connection = word(0);

export function windowUpdate(stream: string, bytes: number): string {
  return frameHead(4, frameType.windowUpdate, 0, stream) + word(bytes);
}

export function resetStream(stream: string, code: ErrorCode): string {
  return frameHead(4, frameType.resetStream, 0, stream) + word(code);
}

export function goAway(lastStreamId: number, code: ErrorCode): string {
  return frameHead(8, frameType.goAway, 0, connection) + word(lastStreamId) + word(code);
}

/** `payload`: eight characters. */
export function ping(payload: string): string {
  return frameHead(8, frameType.ping, 0, connection) + payload;
}

export function pingAck(payload: Buffer): string {
  return frameHead(8, frameType.ping, flag.ack, connection) + payload.latin1Slice();
}

export const settingsAck = frameHead(0, frameType.settings, flag.ack, connection);

export function settings(values: readonly (readonly [id: number, value: number])[]): string {
  const body = values.map(([id, value]) => word(id).slice(2) + word(value)).join("");
  return frameHead(body.length, frameType.settings, 0, connection) + body;
}

/** A header block as HEADERS, and CONTINUATION where one frame can't hold it. */
export function headerFrames(stream: string, block: string, endStream: boolean, maxFrameBytes: number): string {
  const flags = endStream ? flag.endStream : 0;
  if (block.length <= maxFrameBytes) return frameHead(block.length, frameType.headers, flags | flag.endHeaders, stream) + block;
  let frames = frameHead(maxFrameBytes, frameType.headers, flags, stream) + block.slice(0, maxFrameBytes);
  for (let at = maxFrameBytes; at < block.length; at += maxFrameBytes) {
    const part = block.slice(at, at + maxFrameBytes);
    const isLast = at + maxFrameBytes >= block.length;
    frames += frameHead(part.length, frameType.continuation, isLast ? flag.endHeaders : 0, stream) + part;
  }
  return frames;
}
