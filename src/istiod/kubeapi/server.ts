/**
 * The Kubernetes-compatible API, over HTTPS. Callers are known by a client certificate of the API's own authority, which is not the
 * mesh's, so that no workload's certificate opens it; or by a token of a service account.
 *
 *   request ──> who (users) ──> what (request-path, verbs) ──> form (accept, present) ──> answer
 *                 writes: admission ──> managed fields ──> store ──events──> watches
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { closeHttp, listenHttp } from "../../lib/http-listen.ts";
import { listenAnywhere } from "../../lib/listen-anywhere.ts";
import { log } from "../../lib/log.ts";
import type { ServerIdentity } from "../ca/server-identity.ts";
import type { ApiContext, ApiRequest } from "./context.ts";
import type { Document } from "./discovery.ts";
import { handleRequest, staticAnswer } from "./handle.ts";
import { ApiError } from "./status.ts";
import { authenticate, refuseImpersonation } from "./users.ts";
import { WatchLimit } from "./watch-limit.ts";

const scope = log.scope("kubeapi");

const maxConnections = 4096;
const maxWatchesPerUser = 2048;

export interface KubeApiOptions {
  /** Empty: all addresses. */
  readonly host: string;
  readonly port: number;
  readonly identity: ServerIdentity;
  /** PEM of the roots by which clients are known. */
  readonly clientRoots: string;
  readonly context: ApiContext;
}

export class KubeApiServer implements AsyncDisposable {
  readonly #http: Server;
  readonly #parts = new DisposableStack();
  readonly #context: ApiContext;
  readonly #watches = new WatchLimit(maxWatchesPerUser);

  private constructor({ identity, clientRoots, context }: KubeApiOptions) {
    this.#context = context;
    const contextOf = ({ certificate, privateKey }: ServerIdentity["pair"]) => ({ cert: certificate, key: privateKey, ca: clientRoots });
    const limits = { maxHeaderSize: 16 * 1024, requestTimeout: 30_000, headersTimeout: 10_000, keepAliveTimeout: 65_000 };
    this.#http = createServer(
      { ...limits, ...contextOf(identity.pair), requestCert: true, rejectUnauthorized: false, minVersion: "TLSv1.2" },
      (request, response) => void this.#handle(request, response),
    );
    this.#http.maxConnections = maxConnections;
    identity.onPair((pair) => this.#http.setSecureContext({ ...contextOf(pair), minVersion: "TLSv1.2" }));
  }

  static async start(options: KubeApiOptions): Promise<KubeApiServer> {
    const made = new KubeApiServer(options);
    const { host, port } = options;
    if (host === "") made.#parts.use(await listenAnywhere(made.#http, { port }));
    else await listenHttp(made.#http, host, port);
    made.#http.on("error", (error) => scope.warn("a connection is lost", { reason: error.message }));
    return made;
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#parts.dispose();
    await closeHttp(this.#http);
  }

  async #handle(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const warnings: string[] = [];
    try {
      const [path = "/", queryText = ""] = (message.url ?? "/").split("?", 2);
      refuseImpersonation(message);
      const user = await authenticate(message, this.#context.tokens);
      const { method = "GET", headers } = message;
      const known = staticAnswer(method, path, headers.accept, user);
      if (known && "content" in known) return sendDocument(message, response, known);
      const request: ApiRequest = {
        method,
        query: new URLSearchParams(queryText),
        accept: headers.accept,
        userAgent: headers["user-agent"] ?? "",
        user,
        warnings,
      };
      const answer =
        known ?? (await handleRequest({ context: this.#context, user, watches: this.#watches }, path, request, message, response));
      if (!answer) return;
      if (method !== "GET" && method !== "HEAD") scope.info("done", { user: user.name, method, path, code: answer.code });
      send(response, answer.code, answer.body, warnings);
    } catch (error) {
      this.#refuse(message, response, error, warnings);
    }
  }

  #refuse(message: IncomingMessage, response: ServerResponse, error: unknown, warnings: readonly string[]): void {
    const known = error instanceof ApiError ? error : new ApiError(500, "internal error");
    if (known !== error) {
      if ((error as NodeJS.ErrnoException | undefined)?.code === "ECONNRESET" || response.destroyed) return;
      scope.error("request failed", { path: message.url, error: error instanceof Error ? (error.stack ?? error.message) : error });
    } else if (known.code >= 401 && known.code <= 403) {
      scope.warn("request refused", {
        path: message.url,
        code: known.code,
        reason: known.cause instanceof Error ? known.cause.message : known.message,
      });
    }
    if (response.headersSent) {
      response.destroy();
      return;
    }
    // A body that is not read would be taken for the next request.
    if (!message.complete) response.setHeader("connection", "close");
    if (known.details?.retryAfterSeconds !== undefined) response.setHeader("retry-after", String(known.details.retryAfterSeconds));
    send(response, known.code, known.toStatus(), warnings);
  }
}

function send(response: ServerResponse, code: number, body: unknown, warnings: readonly string[]): void {
  const bytes = Buffer.from(`${JSON.stringify(body)}\n`);
  // Answers are the caller's alone, and true only now.
  response.setHeader("cache-control", "no-cache, private");
  if (warnings.length > 0) response.setHeader("warning", warnings.map(warningHeader));
  response.writeHead(code, { "content-type": "application/json", "content-length": bytes.length }).end(bytes);
}

/** RFC 7234: a quoted string, and what a header can't hold is left out. */
function warningHeader(text: string): string {
  const printable = text.replaceAll(/[^\x20-\x7e]+/g, " ").slice(0, 4096);
  return `299 - "${printable.replaceAll(/["\\]/g, "\\$&")}"`;
}

function sendDocument(message: IncomingMessage, response: ServerResponse, { contentType, content, etag }: Document): void {
  const isPinned = message.url?.includes("?hash=") ?? false;
  const cacheControl = isPinned ? "public, immutable" : etag ? "public" : "no-cache, private";
  const headers = {
    "content-type": contentType,
    "cache-control": cacheControl,
    vary: "Accept",
    ...(etag ? { etag } : {}),
    ...(isPinned ? { expires: new Date(Date.now() + 365 * 24 * 3_600_000).toUTCString() } : {}),
  };
  if (etag && message.headers["if-none-match"]?.includes(etag)) response.writeHead(304, headers).end();
  else response.writeHead(200, { ...headers, "content-length": content.length }).end(content);
}
