/**
 * Probes of the application that others send to the status port, `/app-health/NAME/readyz`: the agent asks in their place, past the proxy,
 * which takes connections whatever the application does and wants mutual TLS. Kubernetes' kubelet in Istio; a load balancer or a monitor here.
 * Source: Istio pilot/cmd/pilot-agent/status/server.go.
 */
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { log } from "../../lib/log.ts";
import { EnvironmentError } from "../environment-values.ts";
import { GrpcProbe } from "./grpc-probe.ts";
import type { Probe, ProbeTarget } from "./probe.ts";
import { TcpProbe } from "./tcp-probe.ts";

const scope = log.scope("probes");

const variable = "ISTIO_KUBE_APP_PROBERS";
const pathPattern = /^\/(app-health|app-lifecycle)\/[^/]+\/(livez|readyz|startupz|prestopz|poststartz)$/;
const maxProbers = 256;
/** Kubernetes'. */
const defaultTimeoutSeconds = 1;
const maxRedirects = 10;
const maxBodyBytes = 10 * 1024;

interface HttpGet {
  readonly path: string;
  readonly port: number;
  readonly isTls: boolean;
}

interface Prober {
  readonly timeoutMs: number;
  readonly ask: { readonly http: HttpGet } | { readonly probeAt: (target: ProbeTarget) => Probe };
}

export interface AppAnswer {
  readonly status: number;
  readonly body: Buffer;
}

export interface AppProbesOptions {
  /** Where the application is by now. */
  readonly target: () => ProbeTarget;
  /** By which probes come here, and which the application is not to see as its own. */
  readonly statusPort: number;
}

export type AppProbeSettings = ReadonlyMap<string, Prober>;

export function isAppProbePath(path: string): boolean {
  return path.startsWith("/app-health/") || path.startsWith("/app-lifecycle/");
}

/**
 * Reads `{"/app-health/web/readyz": {"httpGet": {"path": "/ready", "port": 8080}, "timeoutSeconds": 2}}`, or with tcpSocket or grpc. Throws
 * EnvironmentError.
 */
export function parseAppProbes(text: string | undefined): AppProbeSettings {
  if (text === undefined) return new Map();
  let settings: unknown;
  try {
    settings = JSON.parse(text);
  } catch (cause) {
    throw wrong(`is no JSON: ${(cause as Error).message}`);
  }
  const entries = Object.entries(objectIn(settings, ""));
  if (entries.length > maxProbers) throw wrong(`more than ${maxProbers} probes`);
  return new Map(entries.map(([path, prober]) => [path, parseProber(path, prober)]));
}

function parseProber(path: string, value: unknown): Prober {
  if (!pathPattern.test(path)) throw wrong(`"${path}" is no path of the form /app-health/NAME/readyz`);
  const { httpGet, tcpSocket, grpc, timeoutSeconds = 0 } = objectIn(value, path);
  if (!(Number.isInteger(timeoutSeconds) && (timeoutSeconds as number) >= 0 && (timeoutSeconds as number) <= 3600))
    throw wrong(`${path}: timeoutSeconds: ${JSON.stringify(timeoutSeconds)} is no number of seconds`);
  const timeoutMs = ((timeoutSeconds as number) || defaultTimeoutSeconds) * 1000;
  const kinds = [httpGet, tcpSocket, grpc].filter((kind) => kind !== undefined && kind !== null);
  if (kinds.length !== 1) throw wrong(`${path}: has to have one of httpGet, tcpSocket and grpc`);
  if (httpGet) return { timeoutMs, ask: { http: parseHttpGet(path, objectIn(httpGet, `${path}: httpGet`)) } };
  if (tcpSocket) {
    const port = parsePort(`${path}: tcpSocket`, objectIn(tcpSocket, `${path}: tcpSocket`).port);
    return { timeoutMs, ask: { probeAt: (target) => new TcpProbe({ host: "", port }, target) } };
  }
  const { port: grpcPort, service } = objectIn(grpc, `${path}: grpc`);
  const port = parsePort(`${path}: grpc`, grpcPort);
  const name = typeof service === "string" ? service : "";
  return { timeoutMs, ask: { probeAt: (target) => new GrpcProbe({ port, service: name }, target) } };
}

function parseHttpGet(path: string, { path: asked = "/", port, scheme = "HTTP" }: Record<string, unknown>): HttpGet {
  if (typeof asked !== "string" || /[\s#]/.test(asked)) throw wrong(`${path}: httpGet.path: ${JSON.stringify(asked)} is no path`);
  if (scheme !== "HTTP" && scheme !== "HTTPS" && scheme !== "")
    throw wrong(`${path}: httpGet.scheme: ${JSON.stringify(scheme)} is neither HTTP nor HTTPS`);
  return {
    path: asked.startsWith("/") ? asked : `/${asked}`,
    port: parsePort(`${path}: httpGet`, port),
    isTls: scheme === "HTTPS",
  };
}

/** A name would be one of a container's ports, which nobody knows here. */
function parsePort(at: string, port: unknown): number {
  if (!(Number.isInteger(port) && (port as number) >= 1 && (port as number) <= 65535))
    throw wrong(`${at}.port: ${JSON.stringify(port)} is no port's number`);
  return port as number;
}

function objectIn(value: unknown, at: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(`${at ? `${at}: ` : ""}is no JSON object`);
  return value as Record<string, unknown>;
}

function wrong(reason: string): EnvironmentError {
  return new EnvironmentError(`${variable}: ${reason}`);
}

export class AppProbes {
  readonly #settings: AppProbeSettings;
  readonly #options: AppProbesOptions;

  constructor(settings: AppProbeSettings, options: AppProbesOptions) {
    this.#settings = settings;
    this.#options = options;
  }

  /** Never rejects. */
  async answer(path: string, { headers }: Pick<IncomingMessage, "headers">): Promise<AppAnswer> {
    const prober = this.#settings.get(path);
    if (!prober) return { status: 400, body: Buffer.from(`app prober config does not exists for ${path}`) };
    const signal = AbortSignal.timeout(prober.timeoutMs);
    const target = this.#options.target();
    if ("probeAt" in prober.ask) {
      const problem = await prober.ask.probeAt(target).check(signal);
      if (problem === undefined) return { status: 200, body: Buffer.alloc(0) };
      return failed(path, problem);
    }
    try {
      return await this.#get(prober.ask.http, target, headers, signal);
    } catch (error) {
      return failed(path, signal.aborted ? "no answer in time" : error instanceof Error ? error.message : String(error));
    }
  }

  /** As a kubelet takes redirects: on the same host they are followed, and one that leads elsewhere is a good answer. */
  async #get(http: HttpGet, target: ProbeTarget, headers: IncomingHttpHeaders, signal: AbortSignal): Promise<AppAnswer> {
    const host = target.host.includes(":") ? `[${target.host}]` : target.host;
    let url = new URL(`${http.isTls ? "https" : "http"}://${host}:${http.port}${http.path}`);
    const { hostname } = url;
    for (let redirects = 0; ; redirects++) {
      const { status, body, location } = await getOnce(url, target, forwarded(headers, this.#hostFor(http, headers.host)), signal);
      if (status < 300 || status >= 400) return { status, body };
      const next = location === undefined ? undefined : URL.parse(location, url);
      if (!next || next.hostname !== hostname || !/^https?:$/.test(next.protocol)) return { status: 200, body: Buffer.alloc(0) };
      if (redirects === maxRedirects) throw new Error(`more than ${maxRedirects} redirects`);
      url = next;
    }
  }

  /** The application hears its own port where the caller named this one. */
  #hostFor({ port }: HttpGet, asked: string | undefined): string | undefined {
    const suffix = `:${this.#options.statusPort}`;
    return asked?.endsWith(suffix) ? `${asked.slice(0, -suffix.length)}:${port}` : asked;
  }
}

function failed(path: string, reason: string): AppAnswer {
  scope.error("probe of the application failed", { path, reason });
  return { status: 500, body: Buffer.alloc(0) };
}

/** Of one connection (RFC 9110 7.6.1), or of a body that is not passed on. */
const ownHeaders: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "expect",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

function forwarded(headers: IncomingHttpHeaders, host: string | undefined): Record<string, string | string[]> {
  const passed: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) if (value !== undefined && !ownHeaders.has(name)) passed[name] = value;
  return { ...passed, ...(host === undefined ? {} : { host }), connection: "close" };
}

interface Response extends AppAnswer {
  readonly location: string | undefined;
}

function getOnce(url: URL, { from }: ProbeTarget, headers: Record<string, string | string[]>, signal: AbortSignal): Promise<Response> {
  return new Promise((resolve, reject) => {
    const options = {
      agent: false as const,
      headers,
      signal,
      // As a kubelet's: the application is next door, its certificate is for those who call it by its name.
      rejectUnauthorized: false,
      ...(from ? { localAddress: from } : {}),
    };
    const request = (url.protocol === "https:" ? requestHttps : requestHttp)(url, options, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      const end = () => {
        const { statusCode: status = 500, headers: answered } = response;
        resolve({ status, body: Buffer.concat(chunks).subarray(0, maxBodyBytes), location: answered.location });
      };
      response.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes < maxBodyBytes) return;
        end();
        response.destroy();
      });
      response.on("end", end);
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end();
  });
}
