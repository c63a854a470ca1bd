import type { SourcePosition } from "../config-error.ts";

/** What every stored object says about itself; fields that a source doesn't know are "" or 0. */
export interface ObjectMeta {
  name: string;
  /** "" for kinds without a namespace (Namespace itself). */
  namespace: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  /** Milliseconds since 1970; Istio breaks ties between objects by it, the older one wins. */
  creationTimestamp: number;
  uid: string;
  /** Opaque, changes with every write; the precondition of a put. */
  resourceVersion: string;
  /** Counts changes of the spec from 1. */
  generation: number;
  generateName?: string | undefined;
  finalizers?: string[] | undefined;
  ownerReferences?: Record<string, unknown>[] | undefined;
  deletionTimestamp?: number | undefined;
}

export interface ConfigObject<Spec = unknown, K extends KindName = KindName> {
  readonly kind: K;
  /** As it was written, `networking.istio.io/v1`. */
  readonly apiVersion: string;
  readonly metadata: ObjectMeta;
  /** Decoded: for Istio's kinds the message, for Kubernetes' records what a control plane reads of them. */
  readonly spec: Spec;
  readonly status?: Record<string, unknown> | undefined;
  /** As it was written, for echo. Never changed in place. */
  readonly raw: Record<string, unknown>;
  readonly position?: SourcePosition | undefined;
}

export type IstioKindName =
  | "AuthorizationPolicy"
  | "DestinationRule"
  | "EnvoyFilter"
  | "Gateway"
  | "PeerAuthentication"
  | "ProxyConfig"
  | "RequestAuthentication"
  | "ServiceEntry"
  | "Sidecar"
  | "Telemetry"
  | "VirtualService"
  | "WasmPlugin"
  | "WorkloadEntry"
  | "WorkloadGroup";

export type KubernetesKindName =
  | "ConfigMap"
  | "Deployment"
  | "EndpointSlice"
  | "Endpoints"
  | "Event"
  | "Ingress"
  | "IngressClass"
  | "Namespace"
  | "Pod"
  | "Secret"
  | "Service"
  | "ServiceAccount";

export type KindName = IstioKindName | KubernetesKindName;

/** Names an object in all of Topsail: `VirtualService/default/reviews`. */
export interface ObjectKey {
  readonly kind: KindName;
  readonly namespace: string;
  readonly name: string;
}

export function keyOf(object: ConfigObject): ObjectKey {
  return { kind: object.kind, namespace: object.metadata.namespace, name: object.metadata.name };
}

/** The key as text, for maps and messages. Neither part can hold a slash. */
export function formatKey(key: ObjectKey): string {
  return `${key.kind}/${key.namespace}/${key.name}`;
}
