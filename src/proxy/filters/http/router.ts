/** envoy.filters.http.router: the last filter of every chain. What it does for one request is in router-request.ts. */
import { RouterSchema } from "../../../api/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { type AccessLog, compileAccessLog } from "../../accesslog/access-log.ts";
import type { CompileContext } from "../../compile-context.ts";
import { defineHttpFilter, type TerminalFilter, type TimeoutKind } from "../../http/http-filter.ts";
import type { HttpStream } from "../../http/http-stream.ts";
import type { Cluster } from "../../upstream/cluster.ts";
import { RouterRequest } from "./router-request.ts";

export class RouterFilter implements TerminalFilter {
  readonly name: string;
  readonly isTerminal = true;
  readonly clusters: ReadonlyMap<string, Cluster>;
  readonly suppressesEnvoyHeaders: boolean;
  readonly upstreamLogs: readonly AccessLog[];
  readonly warn: (message: string) => void;

  constructor(name: string, suppressesEnvoyHeaders: boolean, upstreamLogs: readonly AccessLog[], context: CompileContext) {
    this.name = name;
    this.clusters = context.clusters;
    this.suppressesEnvoyHeaders = suppressesEnvoyHeaders;
    this.upstreamLogs = upstreamLogs;
    this.warn = context.warn;
  }

  onRequestHeaders(stream: HttpStream, endStream: boolean): void {
    const request = new RouterRequest(this, stream);
    stream.router = request;
    request.start(endStream);
  }

  onRequestData(stream: HttpStream, chunk: Buffer, endStream: boolean): void {
    stream.router?.sendData(chunk, endStream);
  }

  onRequestTrailers(stream: HttpStream, trailers: string[]): void {
    stream.router?.sendEnd(trailers);
  }

  onRequestReadComplete(stream: HttpStream): void {
    stream.router?.flush();
  }

  onDownstreamDrain(stream: HttpStream): void {
    stream.router?.resumeUpstream();
  }

  onTimeout(stream: HttpStream, which: TimeoutKind): void {
    stream.router?.timedOut(which);
  }

  onStreamEnd(stream: HttpStream): void {
    stream.router?.abandon();
  }
}

export const router = defineHttpFilter({
  name: "envoy.filters.http.router",
  schema: RouterSchema,
  create: (config, context, name) =>
    new RouterFilter(
      name,
      config.suppressEnvoyHeaders,
      config.upstreamLog.map((log) => compileAccessLog(log, context.accessLog)),
      context,
    ),
});
