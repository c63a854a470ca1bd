/**
 * The Kubernetes-compatible API, over HTTPS: so far what provisioning a machine needs. Callers are known by a client certificate of
 * the API's own authority, which is not the mesh's: no workload's certificate opens it.
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { closeHttp, listenHttp } from "../../lib/http-listen.ts";
import { log } from "../../lib/log.ts";
import { revision, version } from "../../lib/version.ts";
import type { ServerIdentity } from "../ca/server-identity.ts";
import type { ServiceAccountTokens } from "../ca/service-account-tokens.ts";
import { readObject } from "./request-body.ts";
import { ApiError } from "./status.ts";
import { requestToken, tokenPath } from "./token-request.ts";

const scope = log.scope("kubeapi");
/** Kubernetes' group of those who may do everything. */
export const adminGroup = "system:masters";

export interface KubeApiOptions {
  readonly host: string;
  readonly port: number;
  readonly identity: ServerIdentity;
  /** PEM of the roots by which clients are known. */
  readonly clientRoots: string;
  readonly tokens: ServiceAccountTokens;
}

export class KubeApiServer implements AsyncDisposable {
  readonly #http: Server;
  readonly #options: KubeApiOptions;

  private constructor(options: KubeApiOptions) {
    this.#options = options;
    const contextOf = ({ certificate, privateKey }: ServerIdentity["pair"]) => ({
      cert: certificate,
      key: privateKey,
      ca: options.clientRoots,
    });
    const limits = { maxHeaderSize: 16 * 1024, requestTimeout: 30_000 };
    this.#http = createServer(
      { ...limits, ...contextOf(options.identity.pair), requestCert: true, rejectUnauthorized: false, minVersion: "TLSv1.2" },
      (request, response) => void this.#handle(request, response),
    );
    this.#http.maxConnections = 1024;
    options.identity.onPair((pair) => this.#http.setSecureContext({ ...contextOf(pair), minVersion: "TLSv1.2" }));
  }

  static async start(options: KubeApiOptions): Promise<KubeApiServer> {
    const made = new KubeApiServer(options);
    await listenHttp(made.#http, options.host, options.port);
    return made;
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeHttp(this.#http);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      answer(response, request.method === "POST" ? 201 : 200, await this.#route(request));
    } catch (error) {
      const known = error instanceof ApiError ? error : new ApiError(500, "internal error");
      if (known !== error)
        scope.error("request failed", { path: request.url, error: error instanceof Error ? (error.stack ?? error.message) : error });
      answer(response, known.code, known.toStatus());
    }
  }

  async #route(request: IncomingMessage): Promise<unknown> {
    const path = URL.parse(request.url ?? "/", "https://localhost")?.pathname ?? "";
    if (path === "/version" && request.method === "GET") return versionInfo;
    if (path === "/openid/v1/jwks" && request.method === "GET") return this.#options.tokens.jwks();
    const user = userOf(request.socket as TLSSocket);
    if (!user) throw new ApiError(401, "Unauthorized");
    if (!user.groups.includes(adminGroup)) throw new ApiError(403, `User "${user.name}" may do nothing here`);
    const account = tokenPath.exec(path)?.groups as { namespace: string; serviceAccount: string } | undefined;
    if (!account) throw new ApiError(404, "the server could not find the requested resource");
    if (request.method !== "POST") throw new ApiError(405, "the server does not allow this method on the requested resource");
    const issued = await requestToken(this.#options.tokens, account, await readObject(request));
    scope.info("token issued", { user: user.name, ...account });
    return issued;
  }
}

const versionInfo = {
  major: "1",
  minor: "34",
  gitVersion: `v1.34.0+topsail-${version}`,
  gitCommit: revision,
  platform: `linux/${process.arch}`,
};

interface User {
  readonly name: string;
  readonly groups: readonly string[];
}

/** By the certificate of the connection, if it leads to the API's root. */
function userOf(socket: TLSSocket): User | undefined {
  if (!socket.authorized) return undefined;
  const { subject } = socket.getPeerCertificate();
  if (!subject?.CN) return undefined;
  const groups = subject.O as string | readonly string[] | undefined;
  return { name: String(subject.CN), groups: groups === undefined ? [] : typeof groups === "string" ? [groups] : groups };
}

function answer(response: ServerResponse, code: number, body: unknown): void {
  response.writeHead(code, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
}
