/** The Kubernetes API as istioctl needs it: an object read, an object posted, a pod's port asked. Ours or a cluster's. */
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { isPlainObject } from "../../api/schema/decode.ts";
import { CliError } from "../cli-error.ts";
import type { KubeAccess } from "./kubeconfig.ts";

export type KubeObject = Record<string, unknown>;

/** What the API answered instead of what was asked for. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  /** HTTP status. */
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

const timeoutMs = 15_000;
const maxAnswerBytes = 32 * 1024 * 1024;

export class KubeClient {
  readonly #access: KubeAccess;

  constructor(access: KubeAccess) {
    this.#access = access;
  }

  /** Throws KubeError for an answer that is none, CliError when nobody answers. */
  get(path: string): Promise<KubeObject> {
    return this.#call("GET", path);
  }

  post(path: string, body: KubeObject): Promise<KubeObject> {
    return this.#call("POST", path, body);
  }

  /** What somebody behind the API answers, as it is. */
  async text(method: "GET" | "POST", path: string): Promise<string> {
    const { code, text } = await this.#exchange(method, path, undefined);
    if (code >= 400) throw new KubeError(code, messageOf(parsed(text)) ?? (text.trim().slice(0, 1000) || `status ${code}`));
    return text;
  }

  async #call(method: string, path: string, body?: KubeObject): Promise<KubeObject> {
    const { code, text } = await this.#exchange(method, path, body);
    const answer = parsed(text);
    if (code >= 400) throw new KubeError(code, messageOf(answer) ?? `status ${code}`);
    if (!isPlainObject(answer)) throw new CliError(`${this.#access.server.origin}${path} answered with something else than an object`);
    return answer;
  }

  #exchange(method: string, path: string, body: KubeObject | undefined): Promise<{ code: number; text: string }> {
    const { server, root, certificate, key, token, verifiesServer, serverName } = this.#access;
    const base = server.pathname.replace(/\/$/, "");
    const options = {
      method,
      host: server.hostname.replace(/^\[|\]$/g, ""),
      port: server.port || (server.protocol === "https:" ? 443 : 80),
      path: `${base}${path}`,
      agent: false as const,
      signal: AbortSignal.timeout(timeoutMs),
      headers: {
        accept: "application/json",
        ...(body ? { "content-type": "application/json" } : {}),
        ...(token ? { authorization: `Bearer ${token}` } : {}),
      },
      ...(root ? { ca: root } : {}),
      ...(certificate && key ? { cert: certificate, key } : {}),
      ...(serverName ? { servername: serverName } : {}),
      rejectUnauthorized: verifiesServer,
    };
    return new Promise((resolve, reject) => {
      const failed = (error: Error) => reject(new CliError(`${server.origin} can't be called: ${error.message}`, { cause: error }));
      const call = (server.protocol === "https:" ? requestHttps : requestHttp)(options, (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on("data", (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > maxAnswerBytes) response.destroy(new Error(`it answers with more than ${maxAnswerBytes} bytes`));
          else chunks.push(chunk);
        });
        response.once("error", failed);
        response.once("end", () => resolve({ code: response.statusCode ?? 0, text: Buffer.concat(chunks).toString("utf8") }));
      });
      call.once("error", failed);
      call.end(body && JSON.stringify(body));
    });
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Of a Status. */
function messageOf(answer: unknown): string | undefined {
  return isPlainObject(answer) && typeof answer.message === "string" ? answer.message : undefined;
}

/** Path of an object: `objectPath("v1", "istio-system", "configmaps", "istio")`. */
export function objectPath(groupVersion: string, namespace: string, plural: string, name: string, subresource?: string): string {
  const root = groupVersion.includes("/") ? `/apis/${groupVersion}` : `/api/${groupVersion}`;
  const parts = ["namespaces", namespace, plural, name, ...(subresource ? [subresource] : [])];
  return `${root}/${parts.map(encodeURIComponent).join("/")}`;
}
