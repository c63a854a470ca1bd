/**
 * A VirtualService for each host of the Ingresses, with the paths of all of them: the longest first, of the same length what is exact.
 * Source: Istio pilot/pkg/config/kube/ingress/virtualservices.go.
 */
import type { ObjectOf } from "../../../api/kinds/index.ts";
import type { IngressBackend, IngressPath } from "../../../api/kinds/ingress.ts";
import type { ConfigObject } from "../../../api/kinds/object.ts";
import type { ObjectsOf } from "../../../registry/registry.ts";
import { gatewayOf } from "./ingress-gateways.ts";
import { ingressGatewayName, madeObject } from "./made-object.ts";

const semanticsAnnotation = "internal.istio.io/route-semantics";

/** Whether prefixes of its paths end where a part of the path does. */
export function hasIngressSemantics({ metadata }: ConfigObject): boolean {
  return metadata.annotations[semanticsAnnotation] === "ingress";
}

interface HostRule {
  readonly ingress: ObjectOf<"Ingress">;
  readonly index: number;
  readonly paths: readonly IngressPath[];
}

interface IngressRoute {
  readonly match?: readonly [{ readonly uri: { readonly exact: string } | { readonly prefix: string } }];
  readonly route: readonly unknown[];
}

export function ingressVirtualServices(ingresses: readonly ObjectOf<"Ingress">[], objects: ObjectsOf, domain: string) {
  const byHost = new Map<string, HostRule[]>();
  for (const ingress of ingresses) {
    for (const [index, { host, http }] of ingress.spec.rules.entries()) {
      if (!http) continue;
      const rule = { ingress, index, paths: http.paths };
      const known = byHost.get(host || "*");
      if (known) known.push(rule);
      else byHost.set(host || "*", [rule]);
    }
  }
  const portOf = namedPorts(objects);
  return [...byHost].flatMap(([host, rules]) => virtualService(host, rules.sort(byAge), portOf, domain) ?? []);
}

type PortOf = (namespace: string, service: string, name: string) => number | undefined;

function virtualService(host: string, rules: readonly HostRule[], portOf: PortOf, domain: string): ObjectOf<"VirtualService"> | undefined {
  const { name, namespace } = rules[0]!.ingress.metadata;
  const http = rules.flatMap(({ ingress, paths }) => paths.flatMap((path) => routeOf(path, ingress.metadata.namespace, portOf, domain)));
  return madeObject("VirtualService", {
    name: `${host.replaceAll(".", "-")}-${name}-${ingressGatewayName}`,
    namespace,
    annotations: { [semanticsAnnotation]: "ingress" },
    spec: { hosts: [host], gateways: [gatewayOf(namespace, name)], http: http.sort(byPath) },
  });
}

/** The oldest Ingress's first; the rest is to have one order always. */
function byAge(a: HostRule, b: HostRule): number {
  const [one, other] = [a.ingress.metadata, b.ingress.metadata];
  return (
    one.creationTimestamp - other.creationTimestamp ||
    compare(one.name, other.name) ||
    compare(one.namespace, other.namespace) ||
    a.index - b.index
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function byPath(a: IngressRoute, b: IngressRoute): number {
  const [one, other] = [precedence(a), precedence(b)];
  return other.length - one.length || Number(other.isExact) - Number(one.isExact);
}

function precedence({ match }: IngressRoute): { readonly length: number; readonly isExact: boolean } {
  const uri = match?.[0].uri;
  if (uri === undefined) return { length: 0, isExact: false };
  return "exact" in uri ? { length: uri.exact.length, isExact: true } : { length: uri.prefix.length, isExact: false };
}

function routeOf({ path, pathType, backend }: IngressPath, namespace: string, portOf: PortOf, domain: string): IngressRoute[] {
  const destination = destinationOf(backend, namespace, portOf, domain);
  if (!destination) return [];
  const uri = uriMatch(path, pathType);
  return [{ ...(uri ? { match: [{ uri }] as const } : {}), route: [{ destination, weight: 100 }] }];
}

/** Undefined: every path. */
function uriMatch(path: string, pathType: string): { readonly exact: string } | { readonly prefix: string } | undefined {
  if (pathType === "Exact") return { exact: path };
  if (pathType === "Prefix") return { prefix: path };
  if (["", "*", "/*", ".*"].includes(path)) return undefined;
  const isPrefix = path.endsWith(".*") || path.endsWith("/*");
  return isPrefix ? { prefix: path.slice(0, -2) } : { exact: path };
}

function destinationOf(backend: IngressBackend | undefined, namespace: string, portOf: PortOf, domain: string) {
  const service = backend?.service;
  if (!service || service.name === "") return undefined;
  const { number: given = 0, name = "" } = service.port ?? {};
  const number = given > 0 ? given : portOf(namespace, service.name, name);
  return number === undefined ? undefined : { host: `${service.name}.${namespace}.svc.${domain}`, port: { number } };
}

function namedPorts(objects: ObjectsOf): PortOf {
  let services: Map<string, ObjectOf<"Service">> | undefined;
  return (namespace, service, name) => {
    services ??= new Map(
      (objects("Service") as ObjectOf<"Service">[]).map((one) => [`${one.metadata.namespace}/${one.metadata.name}`, one]),
    );
    return services.get(`${namespace}/${service}`)?.spec.ports.find((port) => port.name === name)?.port;
  };
}
