/** What the services of the sample mesh have in common: how one answers, and how one calls another. */
import { createServer, request as httpRequest, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { closeHttp, listenHttp } from "../lib/http-listen.ts";

export interface SampleOptions {
  /** `v1` unless said otherwise. */
  readonly version: string;
  /** Name of the workload in answers, as a pod's name would be. */
  readonly workload: string;
  /**
   * Where calls to other services go, `http://127.0.0.1:9080`, with the service's name as Host: a proxy of the mesh. Without it
   * they go to the service's own name, as in a mesh that redirects traffic.
   */
  readonly via?: string | undefined;
  /** Completes short names in calls, `default.svc.cluster.local`. */
  readonly domain?: string | undefined;
}

/** A service answers by method and path; `undefined` is a 404. */
export type SampleHandler = (
  request: SampleRequest,
  options: SampleOptions,
) => Promise<SampleResponse | undefined> | SampleResponse | undefined;

export interface SampleRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
  readonly remoteAddress: string;
}

export interface SampleResponse {
  readonly status?: number;
  readonly headers?: Record<string, string | string[]>;
  readonly body?: string | Buffer;
}

export function json(value: unknown, status = 200): SampleResponse {
  return { status, headers: { "content-type": "application/json" }, body: JSON.stringify(value) };
}

export function html(body: string, status = 200): SampleResponse {
  return { status, headers: { "content-type": "text/html; charset=utf-8" }, body };
}

/** Headers that a service hands on with the calls that it makes, or traces break and routing by user stops at the first hop. */
const propagated = [
  "x-request-id",
  "x-b3-traceid",
  "x-b3-spanid",
  "x-b3-parentspanid",
  "x-b3-sampled",
  "x-b3-flags",
  "b3",
  "traceparent",
  "tracestate",
  "end-user",
  "user-agent",
  "authorization",
  "cookie",
];

const maxBodyBytes = 1024 * 1024;
const callTimeoutMs = 10_000;

export interface CallAnswer {
  readonly status: number;
  readonly body: string;
  /** Why there was no answer, where that is known: ECONNRESET. */
  readonly error?: string;
}

/** Calls `http://<service><path>`; resolves with status 503 and no body where nobody answers. `service` may carry a port. */
export function call(
  service: string,
  path: string,
  caller: SampleRequest,
  options: SampleOptions,
  extra: Record<string, string> = {},
): Promise<CallAnswer> {
  const authority = options.domain && !service.includes(".") ? service.replace(/^[^:]+/, (name) => `${name}.${options.domain}`) : service;
  const target = new URL(path, options.via ?? `http://${authority}`);
  const headers: Record<string, string> = { ...extra, host: authority };
  for (const name of propagated) {
    const value = caller.headers[name];
    if (typeof value === "string" && headers[name] === undefined) headers[name] = value;
  }
  return new Promise((resolve) => {
    const unanswered = (error?: NodeJS.ErrnoException) => resolve({ status: 503, body: "", ...(error?.code ? { error: error.code } : {}) });
    const call = httpRequest(target, { headers, timeout: callTimeoutMs }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? 503, body: Buffer.concat(chunks).toString("utf8") }));
      response.on("error", unanswered);
    });
    call.on("timeout", () => call.destroy());
    call.on("error", unanswered);
    call.end();
  });
}

export class SampleServer implements AsyncDisposable {
  readonly port: number;
  readonly #http: Server;

  private constructor(http: Server, port: number) {
    this.#http = http;
    this.port = port;
  }

  static async start(handler: SampleHandler, options: SampleOptions, host: string, port: number): Promise<SampleServer> {
    // A server that closes what is idle after five seconds, as Node's, closes in the moment in which a proxy asks again: that is a 503.
    const http = createServer({ keepAliveTimeout: 0 }, (request, response) => void serve(handler, options, request, response));
    const bound = await listenHttp(http, host, port);
    return new SampleServer(http, bound);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeHttp(this.#http);
  }
}

async function serve(handler: SampleHandler, options: SampleOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const body = await readBody(request);
    if (!body) return void response.writeHead(413).end();
    const answer = await handler(
      {
        method: request.method ?? "GET",
        url: new URL(request.url ?? "/", "http://sample"),
        headers: request.headers,
        body,
        remoteAddress: request.socket.remoteAddress ?? "",
      },
      options,
    );
    const {
      status = 200,
      headers = {},
      body: content = "",
    } = answer ?? { status: 404, headers: { "content-type": "text/plain" }, body: "not found\n" };
    response
      .writeHead(status, { ...headers, "content-length": Buffer.byteLength(content) })
      .end(request.method === "HEAD" ? undefined : content);
  } catch {
    // A malformed URL or an aborted body is the client's doing; a sample has nothing better to say.
    if (!response.headersSent) response.writeHead(400);
    response.end();
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBodyBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
