/** A service of the mesh and its endpoints, whatever kind of object they came from. Plain data; made by registry/build. */

import type { Locality } from "../api/node.ts";
import { perObject } from "../lib/per-object.ts";
import type { Protocol } from "./protocol.ts";

export interface ServicePort {
  readonly name: string;
  /** The port that clients use. */
  readonly number: number;
  readonly protocol: Protocol;
  /** Port of the workload where it is a number for all of them; else `number`. Named target ports are resolved per endpoint. */
  readonly targetPort: number;
}

/** Whence clients learn addresses: an EDS table, a DNS name, or the connection's own destination. */
export type Resolution = "STATIC" | "DNS" | "DNS_ROUND_ROBIN" | "NONE" | "DYNAMIC_DNS";

/** Where an object may be seen: in all namespaces, in those named, or in none. */
export type Visibility =
  | { readonly kind: "public" }
  | { readonly kind: "none" }
  | { readonly kind: "namespaces"; readonly namespaces: ReadonlySet<string> };

export interface Service {
  /** Fully qualified: `reviews.default.svc.cluster.local`, `*.example.com`. */
  readonly host: string;
  readonly namespace: string;
  /** Name of the object that it came from. */
  readonly name: string;
  readonly registry: "Kubernetes" | "External";
  readonly ports: readonly ServicePort[];
  /** Virtual addresses: IPs or CIDRs. Empty: none of its own. What a proxy uses is the registry's `addressesFor`. */
  readonly addresses: readonly string[];
  /** What it was given for want of them, see allocated-addresses.ts. */
  readonly allocatedAddresses: readonly string[];
  readonly resolution: Resolution;
  readonly isHeadless: boolean;
  /** Of a headless one: names lead to endpoints that are not ready, too. */
  readonly publishesNotReady: boolean;
  /** The name that a Service of type ExternalName stands for; else "". */
  readonly aliasOf: string;
  /** MESH_EXTERNAL: no mutual TLS is assumed. */
  readonly isExternal: boolean;
  readonly visibility: Visibility;
  readonly creationTimestamp: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly subjectAltNames: readonly string[];
  readonly selector: Readonly<Record<string, string>>;
}

/** `withheld`: an endpoint that nobody is told of, since its agent has not said that it is well. */
export type HealthStatus = "healthy" | "unhealthy" | "draining" | "withheld";

export interface Endpoint {
  /** IP, absolute `unix://` path, or in DNS services a host name. */
  readonly address: string;
  /** 0 for a unix socket. */
  readonly port: number;
  /** Name of the service port that it serves. */
  readonly portName: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly locality: Locality;
  readonly network: string;
  readonly weight: number;
  readonly serviceAccount: string;
  readonly namespace: string;
  readonly workloadName: string;
  /** `db-0.db`, of a pod that has a name of its own in a headless service. */
  readonly podHost?: string;
  readonly health: HealthStatus;
  /** `istio` when the workload takes mutual TLS, else `disabled`. */
  readonly tlsMode: "istio" | "disabled";
}

/** Key of a service in maps: one host may exist in several namespaces. */
export function serviceKey(host: string, namespace: string): string {
  return `${namespace}/${host}`;
}

/** Clients find it by its endpoints' addresses: its name has none of its own, and connections go where the client wanted. */
export function isNamedByEndpoints({ resolution, addresses }: Service): boolean {
  return resolution === "NONE" && addresses.length === 0;
}

/** The host of a Service of Kubernetes'. `domain`: `cluster.local`. */
export function kubernetesHost({ name, namespace }: { readonly name: string; readonly namespace: string }, domain: string): string {
  return `${name}.${namespace}.svc.${domain}`;
}

const trimmed = perObject((_: Service) => new Map<string, Service>());

/** The service with those of its ports alone, the same object whoever asks; undefined when none is left. It has the same endpoints. */
export function trimmedTo(service: Service, keeps: (port: ServicePort) => boolean): Service | undefined {
  const ports = service.ports.filter(keeps);
  if (ports.length === 0) return undefined;
  if (ports.length === service.ports.length) return service;
  const key = ports.map((port) => service.ports.indexOf(port)).join();
  const known = trimmed(service);
  const found = known.get(key) ?? { ...service, ports };
  known.set(key, found);
  return found;
}

export function isVisible(visibility: Visibility, namespace: string): boolean {
  switch (visibility.kind) {
    case "public":
      return true;
    case "none":
      return false;
    case "namespaces":
      return visibility.namespaces.has(namespace);
    default:
      return visibility satisfies never;
  }
}

/** From an `exportTo` list; empty means the mesh's default, and that empty means everybody. */
export function visibilityOf(exportTo: readonly string[], namespace: string, meshDefault: readonly string[] = []): Visibility {
  const list = exportTo.length > 0 ? exportTo : meshDefault;
  if (list.length === 0 || list.includes("*")) return { kind: "public" };
  if (list.includes("~")) return { kind: "none" };
  return { kind: "namespaces", namespaces: new Set(list.map((entry) => (entry === "." ? namespace : entry))) };
}

export function selectorMatches(selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean {
  for (const key in selector) {
    if (labels[key] !== selector[key]) return false;
  }
  return true;
}
