/**
 * Requests that the API passes on. To a Pod that is an agent they go by the agent's own stream, so that no connection has to lead to its
 * machine; to the control plane, by its Pod or by the Service `istiod`, they go nowhere at all.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { type AdminAnswer, RelayError } from "../../agents/agent-relay.ts";
import type { AgentRelays } from "../../agents/agent-relays.ts";
import type { PodName } from "../../agents/pod-name.ts";
import { DebugError } from "../../debug/handlers.ts";
import type { MonitoringPage } from "../../debug/monitoring-pages.ts";
import type { ApiContext, ApiRequest } from "../context.ts";
import { readBytes } from "../request-body.ts";
import { findResource, notFound } from "../resources.ts";
import { ApiError, type ErrorCode } from "../status.ts";
import { requireMay } from "../users.ts";
import type { ProxyPath } from "./proxy-path.ts";

/** Whom proxied requests can reach. */
export interface ProxyTargets {
  readonly relays: Pick<AgentRelays, "ask">;
  /** The Pod of this control plane. */
  readonly controlPlanePod: PodName;
  readonly systemNamespace: () => string;
  /** Rejects with DebugError. */
  readonly controlPlanePage: (path: string, query: URLSearchParams) => Promise<MonitoringPage>;
}

const monitoringPorts: ReadonlySet<string> = new Set(["15014", "http-monitoring"]);
const proxyAdminPort = 15000;

/** Writes the answer. Throws ApiError before. */
export async function proxyRequest(
  { store, targets }: ApiContext,
  target: ProxyPath,
  request: ApiRequest,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { resource, namespace, name } = target;
  const verb = request.method === "POST" ? "create" : "get";
  requireMay(request.user, { verb, group: "", resource: `${resource}/proxy`, name, namespace });
  if (request.method !== "GET" && request.method !== "POST")
    throw new ApiError(405, "the server does not allow this method on the requested resource");
  if (isControlPlane(target, targets)) return void send(response, await controlPlaneAnswer(target, request, targets));
  const { kind } = findResource("v1", resource)!;
  if (!store.get({ kind: resource === "pods" ? "Pod" : "Service", namespace, name })) throw notFound(kind, name);
  if (resource === "services")
    throw new ApiError(503, `requests to the service ${JSON.stringify(name)} are not passed on: only those to istiod are`);
  const port = target.port === "" ? proxyAdminPort : Number(target.port);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new ApiError(400, `${JSON.stringify(target.port)} is no port of a pod`);
  const query = request.query.toString();
  const path = query === "" ? target.path : `${target.path}?${query}`;
  const question = { port, method: request.method, path, body: await readBytes(message) };
  try {
    send(response, await targets.relays.ask({ namespace, name }, question));
  } catch (error) {
    if (!(error instanceof RelayError)) throw error;
    throw new ApiError(
      codeOf(error),
      `the proxy of pod ${JSON.stringify(name)} in namespace ${JSON.stringify(namespace)} can't be asked: ${error.message}`,
    );
  }
}

function codeOf({ reason }: RelayError): ErrorCode {
  switch (reason) {
    case "refused":
    case "gone":
    case "too large":
      return 503;
    case "busy":
      return 429;
    case "late":
      return 504;
    default:
      return reason satisfies never;
  }
}

function isControlPlane({ resource, namespace, name }: ProxyPath, { controlPlanePod: pod, systemNamespace }: ProxyTargets): boolean {
  if (resource === "services") return name === "istiod" && namespace === systemNamespace();
  return pod.name === name && pod.namespace === namespace;
}

async function controlPlaneAnswer({ port, path }: ProxyPath, { method, query }: ApiRequest, targets: ProxyTargets): Promise<AdminAnswer> {
  if (!monitoringPorts.has(port))
    throw new ApiError(503, `requests to port ${JSON.stringify(port)} of istiod are not passed on: only those to 15014 are`);
  if (method !== "GET") throw new ApiError(405, "the server does not allow this method on the requested resource");
  try {
    const { status, contentType, body } = await targets.controlPlanePage(path, query);
    return { status, contentType, body: Buffer.from(body) };
  } catch (error) {
    if (!(error instanceof DebugError)) throw error;
    return { status: error.status, contentType: "text/plain; charset=utf-8", body: Buffer.from(`${error.message}\n`) };
  }
}

/** What an agent says of the answer is not taken on trust. */
function send(response: ServerResponse, { status, contentType, body }: AdminAnswer): void {
  const isStatus = Number.isInteger(status) && status >= 200 && status <= 599;
  const isType = contentType !== "" && contentType.length <= 256 && /^[\x20-\x7e]+$/.test(contentType);
  response.writeHead(isStatus ? status : 502, {
    "content-type": isType ? contentType : "application/octet-stream",
    "content-length": body.length,
    "cache-control": "no-cache, private",
    "x-content-type-options": "nosniff",
  });
  response.end(body);
}
