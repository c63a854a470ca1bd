/** Answers that the proxy gives itself: their shape, the gRPC form of it, and `local_reply_config`. */
import { ConfigError } from "../../api/config-error.ts";
import type { LocalReplyConfig } from "../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { compileSubstitutionFormat } from "../accesslog/access-log.ts";
import { type AccessLogPredicate, compileAccessLogFilter } from "../accesslog/access-log-filter.ts";
import type { CompiledFormat } from "../accesslog/format.ts";
import type { CompileContext } from "../compile-context.ts";
import { readDataSource } from "../data-source.ts";
import { applyHeaderEdits, compileHeaderEdits, type HeaderEdit } from "../router/header-mutation.ts";
import type { HeaderList } from "../stream-info.ts";
import { getHeader, removeHeader, removeHeaders, setHeader } from "./header-list.ts";
import type { HttpStream } from "./http-stream.ts";

interface Body {
  readonly format: CompiledFormat;
  readonly contentType: string;
}

interface Mapper {
  readonly matches: AccessLogPredicate;
  readonly status: number;
  readonly text: string | null;
  readonly body: Body | null;
  readonly edits: readonly HeaderEdit[];
}

export interface LocalReplies {
  readonly mappers: readonly Mapper[];
  readonly body: Body | null;
}

export function compileLocalReplies(config: LocalReplyConfig | undefined, context: CompileContext): LocalReplies | null {
  if (config === undefined) return null;
  return {
    mappers: config.mappers.map((mapper) => {
      if (mapper.filter === undefined) throw new ConfigError("ResponseMapper: filter: value is required");
      const override = mapper.bodyFormatOverride;
      return {
        matches: compileAccessLogFilter(mapper.filter, context.accessLog),
        status: mapper.statusCode ?? 0,
        text: readDataSource(mapper.body)?.toString("latin1") ?? null,
        body: override === undefined ? null : compileBody(override),
        edits: compileHeaderEdits(mapper.headersToAdd, []),
      };
    }),
    body: config.bodyFormat === undefined ? null : compileBody(config.bodyFormat),
  };
}

function compileBody(format: NonNullable<LocalReplyConfig["bodyFormat"]>): Body {
  const isJson = format.format.case === "jsonFormat";
  return { format: compileSubstitutionFormat(format), contentType: format.contentType || (isJson ? "application/json" : "text/plain") };
}

export interface BuiltReply {
  readonly status: number;
  readonly headers: HeaderList;
  readonly body: Buffer;
}

const grpcStatuses: Readonly<Record<number, number>> = { 400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14 };

/** What gRPC makes of an HTTP status. */
export function grpcStatusOf(status: number): number {
  return grpcStatuses[status] ?? 2;
}

const noBody = Buffer.alloc(0);
/** Nobody who adds headers to a reply can know that it has no body. */
const bodyHeaders = new Set(["content-length", "content-type"]);

/** `text` is latin1. Headers of the reply's own come first, then `extra`'s. */
export function buildLocalReply(stream: HttpStream, status: number, text: string, extra: HeaderList | null): BuiltReply {
  const { info } = stream;
  const headers: HeaderList = [];
  info.localReplyBody = text;
  info.responseCode = status;
  info.responseHeaders = headers;
  // A route that forwards has its headers added to every answer; redirects and direct responses bring theirs in `extra`.
  if (stream.choice !== null) {
    if (stream.choice.edits.response.length > 0) applyHeaderEdits(stream.choice.edits.response, headers, info);
    if (stream.route!.responseEdits.length > 0) applyHeaderEdits(stream.route!.responseEdits, headers, info);
  }
  if (extra !== null) headers.push(...extra);
  let contentType = "text/plain";
  const config = stream.manager.localReplies;
  if (config !== null) {
    let body = config.body;
    for (const mapper of config.mappers) {
      if (!mapper.matches(info, "NotSet")) continue;
      if (mapper.text !== null) text = mapper.text;
      info.localReplyBody = text;
      applyHeaderEdits(mapper.edits, headers, info);
      if (mapper.status !== 0) {
        status = mapper.status;
        info.responseCode = status;
      }
      if (mapper.body !== null) body = mapper.body;
      break;
    }
    if (body !== null) {
      text = body.format(info);
      contentType = body.contentType;
    }
  }
  if (stream.isGrpc && !stream.isTranslated) {
    removeHeader(headers, "content-length");
    const grpcStatus = stream.localReplyGrpcStatus >= 0 ? stream.localReplyGrpcStatus : grpcStatusOf(status);
    headers.push("content-type", "application/grpc", "grpc-status", String(grpcStatus));
    // The line end of JSON formats is none of the message.
    if (contentType === "application/json" && text.endsWith("\n")) text = text.slice(0, -1);
    if (text !== "") headers.push("grpc-message", percentEncoded(text));
    return { status: 200, headers, body: noBody };
  }
  if (text === "") {
    removeHeaders(headers, bodyHeaders);
    return { status, headers, body: noBody };
  }
  const body = Buffer.from(text, "latin1");
  setHeader(headers, "content-length", String(body.length));
  // A content type that the route has added stays, unless the body's format has one of its own.
  if (contentType !== "text/plain" || getHeader(headers, "content-type") === undefined) setHeader(headers, "content-type", contentType);
  return { status, headers, body };
}

/** grpc-message: printable ASCII but `%` as it is, the rest as %XX. */
export function percentEncoded(text: string): string {
  return text.replace(/[^ -$&-~]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`);
}
