/**
 * Extension providers that CUSTOM policies name: services that decide about requests. What is wrong with one is found out here, before
 * anybody relies on it. Source: Istio pilot/pkg/security/authz/builder/extauthz.go.
 */
import { outboundCluster } from "../../../api/cluster-name.ts";
import { StatusCode } from "../../../api/gen/envoy/type/v3/http_status_pb.js";
import type {
  EnvoyExternalAuthorizationGrpcProvider,
  EnvoyExternalAuthorizationHttpProvider,
  MeshConfigExtensionProvider,
} from "../../../api/mesh/mesh-config.ts";
import { isDnsLabel } from "../../../api/validation/names.ts";
import type { PushContext } from "../../push/push-context.ts";

interface Destination {
  /** Of the service. */
  readonly host: string;
  readonly cluster: string;
}

export type Authorizer =
  | (Destination & { readonly kind: "http"; readonly config: EnvoyExternalAuthorizationHttpProvider })
  | (Destination & { readonly kind: "grpc"; readonly config: EnvoyExternalAuthorizationGrpcProvider });

export interface UnusableAuthorizer {
  readonly kind: "unusable";
  /** A sentence without its end. */
  readonly problem: string;
}

const known = new WeakMap<PushContext, Map<string, Authorizer | UnusableAuthorizer>>();

/** The provider of that name, or why there is none that can be asked. */
export function authorizer(name: string, push: PushContext): Authorizer | UnusableAuthorizer {
  const byName = known.get(push) ?? new Map<string, Authorizer | UnusableAuthorizer>();
  known.set(push, byName);
  const found = byName.get(name) ?? resolve(name, push);
  byName.set(name, found);
  return found;
}

function resolve(name: string, push: PushContext): Authorizer | UnusableAuthorizer {
  const named = push.mesh.extensionProviders.filter((provider) => provider.name === name);
  const [provider] = named;
  if (!provider) return unusable("meshConfig.extensionProviders has none of that name");
  if (named.length > 1) return unusable(`meshConfig.extensionProviders has ${named.length} of that name`);
  if (!isDnsLabel(name)) return unusable("the name is no DNS label, which it must be to mark requests");
  return ofProvider(provider, push);
}

function ofProvider(
  { envoyExtAuthzHttp, envoyExtAuthzGrpc }: MeshConfigExtensionProvider,
  push: PushContext,
): Authorizer | UnusableAuthorizer {
  const config = envoyExtAuthzHttp ?? envoyExtAuthzGrpc;
  if (!config) return unusable("it is no authorizer: neither envoyExtAuthzHttp nor envoyExtAuthzGrpc");
  const problem = problemOf(config) ?? (envoyExtAuthzHttp && problemOfHttp(envoyExtAuthzHttp));
  if (problem) return unusable(problem);
  const destination = destinationOf(config.service, config.port, push);
  if (typeof destination === "string") return unusable(destination);
  if (envoyExtAuthzHttp) return { kind: "http", ...destination, config: envoyExtAuthzHttp };
  return { kind: "grpc", ...destination, config: envoyExtAuthzGrpc! };
}

function unusable(problem: string): UnusableAuthorizer {
  return { kind: "unusable", problem };
}

/** `namespace/host`, or a host that is in one namespace only. */
function destinationOf(service: string, port: number, { registry }: PushContext): Destination | string {
  const slash = service.indexOf("/");
  const host = service.slice(slash + 1).toLowerCase();
  const found = registry.byHost(host).filter(({ namespace }) => slash < 0 || namespace === service.slice(0, slash));
  const [only] = found;
  if (!only) return `there is no service ${JSON.stringify(service)}`;
  if (found.length > 1) return `service ${JSON.stringify(host)} is in several namespaces: write namespace/host`;
  return { host: only.host, cluster: outboundCluster(only.host, port) };
}

function problemOf(config: EnvoyExternalAuthorizationHttpProvider | EnvoyExternalAuthorizationGrpcProvider): string | undefined {
  const { service, port, statusOnError, timeout, includeRequestBodyInCheck } = config;
  if (service === "") return "service is missing";
  if (port < 1 || port > 65_535) return `port ${port} is no port`;
  if (timeout !== undefined && timeout <= 0) return "timeout must be above 0";
  if (statusOnError !== "" && !(/^\d{3}$/.test(statusOnError) && Number(statusOnError) in StatusCode)) {
    return `statusOnError ${JSON.stringify(statusOnError)} is no status`;
  }
  if (includeRequestBodyInCheck?.maxRequestBytes === 0) return "includeRequestBodyInCheck.maxRequestBytes must be above 0";
  return undefined;
}

function problemOfHttp(config: EnvoyExternalAuthorizationHttpProvider): string | undefined {
  if (config.pathPrefix !== "" && !config.pathPrefix.startsWith("/")) return "pathPrefix must begin with /";
  const lists = [
    "includeHeadersInCheck",
    "includeRequestHeadersInCheck",
    "headersToUpstreamOnAllow",
    "headersToDownstreamOnDeny",
    "headersToDownstreamOnAllow",
  ] as const;
  const all = lists.find((list) => config[list].includes("*"));
  return all && `${all}: "*" alone is not supported, only name, name* and *name`;
}
