/**
 * envoy.filters.http.grpc_web: browsers speak gRPC without trailers (and, as text, in base64); servers are asked in plain gRPC. What would be
 * trailers becomes the last message of the body. Source: grpc/doc PROTOCOL-WEB.md; Envoy's grpc_web filter.
 */
import { GrpcWebSchema } from "../../../api/gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.js";
import { getHeader, removeHeader, setHeader } from "../../http/header-list.ts";
import { defineHttpFilter, type FilterStatus, type HttpFilter } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import { grpcStatusOf, percentEncoded } from "../../http/local-reply.ts";
import { isGrpcContentType } from "../../router/route.ts";
import type { HeaderList } from "../../stream-info.ts";

const binaryTypes = new Set(["application/grpc-web", "application/grpc-web+proto"]);
const textTypes = new Set(["application/grpc-web-text", "application/grpc-web-text+proto"]);
/** A message's compression flag and length. */
const prefixBytes = 5;
const trailersFlag = 0x80;
const nothing = Buffer.alloc(0);
/** As much of an answer that is no gRPC becomes its message. */
const maxMessageBytes = 16 * 1024;

/** Of one call. */
interface Call {
  readonly requestIsText: boolean;
  readonly responseIsText: boolean;
  /** Base64 that is no whole quantum yet. */
  encoded: Buffer;
  /** What is no gRPC becomes a status with its text. */
  isPlain: boolean;
  /** Of a response in text, what is no whole message yet: each message is encoded by itself. */
  partial: Buffer;
}

class GrpcWebFilter implements HttpFilter {
  readonly name: string;
  readonly #slot: number;

  constructor(name: string, slot: number) {
    this.name = name;
    this.#slot = slot;
  }

  #callOf(stream: HttpStream): Call | undefined {
    return stream.filterState?.[this.#slot] as Call | undefined;
  }

  onRequestHeaders(stream: HttpStream): FilterStatus {
    const headers = stream.info.requestHeaders;
    const type = getHeader(headers, "content-type") ?? "";
    const requestIsText = textTypes.has(type);
    if (!requestIsText && !binaryTypes.has(type)) return "continue";
    stream.filterState ??= [];
    const responseIsText = textTypes.has(getHeader(headers, "accept") ?? "");
    stream.filterState[this.#slot] = { requestIsText, responseIsText, encoded: nothing, partial: nothing, isPlain: false } satisfies Call;
    stream.isTranslated = true;
    removeHeader(headers, "content-length");
    setHeader(headers, "content-type", "application/grpc");
    setHeader(headers, "te", "trailers");
    setHeader(headers, "grpc-accept-encoding", "identity,deflate,gzip");
    return "continue";
  }

  onRequestData(stream: HttpStream, chunk: Buffer, endStream: boolean): FilterStatus | Buffer {
    const call = this.#callOf(stream);
    if (!call?.requestIsText) return "continue";
    const encoded = call.encoded.length === 0 ? chunk : Buffer.concat([call.encoded, chunk]);
    const whole = encoded.length - (encoded.length % 4);
    call.encoded = Buffer.from(encoded.subarray(whole));
    const decoded = decode(encoded.subarray(0, whole));
    if (decoded === null || (endStream && call.encoded.length > 0)) return refuse(stream);
    return decoded;
  }

  onRequestEnd(stream: HttpStream): void {
    if ((this.#callOf(stream)?.encoded.length ?? 0) > 0) refuse(stream);
  }

  onResponseHeaders(stream: HttpStream, endStream: boolean): FilterStatus {
    const call = this.#callOf(stream);
    if (call === undefined) return "continue";
    const headers = stream.info.responseHeaders;
    call.isPlain = !isGrpcContentType(getHeader(headers, "content-type") ?? "");
    removeHeader(headers, "content-length");
    setHeader(headers, "content-type", call.responseIsText ? "application/grpc-web-text+proto" : "application/grpc-web+proto");
    if (!call.isPlain) return "continue";
    if (!endStream) return "stop";
    this.#sayStatus(stream, "");
    return "continue";
  }

  onHeldResponseData(stream: HttpStream, endStream: boolean): void {
    const call = this.#callOf(stream);
    if (!call?.isPlain || !endStream) return;
    this.#sayStatus(stream, stream.takeHeldResponse().toString("latin1", 0, maxMessageBytes));
    stream.continueResponse();
  }

  #sayStatus(stream: HttpStream, text: string): void {
    const headers = stream.info.responseHeaders;
    setHeader(headers, "grpc-status", String(grpcStatusOf(stream.responseStatus)));
    if (text !== "") setHeader(headers, "grpc-message", percentEncoded(text));
    setHeader(headers, "content-length", "0");
  }

  onResponseData(stream: HttpStream, chunk: Buffer): FilterStatus | Buffer {
    const call = this.#callOf(stream);
    if (!call?.responseIsText) return "continue";
    let bytes = call.partial.length === 0 ? chunk : Buffer.concat([call.partial, chunk]);
    let text = "";
    while (bytes.length >= prefixBytes) {
      const end = prefixBytes + bytes.readUInt32BE(1);
      if (bytes.length < end) break;
      text += bytes.toString("base64", 0, end);
      bytes = bytes.subarray(end);
    }
    call.partial = Buffer.from(bytes);
    return Buffer.from(text, "latin1");
  }

  onResponseEnd(stream: HttpStream, trailers: HeaderList): Buffer | null {
    const call = this.#callOf(stream);
    if (call === undefined || trailers.length === 0) return null;
    let text = "";
    for (let i = 0; i < trailers.length; i += 2) text += `${trailers[i]}:${trailers[i + 1]}\r\n`;
    const message = Buffer.alloc(prefixBytes + text.length);
    message[0] = trailersFlag;
    message.writeUInt32BE(text.length, 1);
    message.write(text, prefixBytes, "latin1");
    return call.responseIsText ? Buffer.from(message.toString("base64"), "latin1") : message;
  }
}

/** null for what is no base64. */
function decode(encoded: Buffer): Buffer | null {
  const text = encoded.toString("latin1");
  return /^(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)*$/.test(text) ? Buffer.from(text, "base64") : null;
}

function refuse(stream: HttpStream): FilterStatus {
  stream.sendLocalReply(400, "Bad gRPC-web request, invalid base64 data.", "grpc_base_64_decode_failed");
  return "stop";
}

export const grpcWeb = defineHttpFilter({
  name: "envoy.filters.http.grpc_web",
  schema: GrpcWebSchema,
  create: (_config, { slot }, name) => new GrpcWebFilter(name, slot),
});
