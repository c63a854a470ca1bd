import type { Infer } from "../schema/schema.ts";
import { authorizationPolicy } from "./authorization-policy.ts";
import { configMap } from "./config-map.ts";
import { deployment } from "./deployment.ts";
import { destinationRule } from "./destination-rule.ts";
import { endpointSlice } from "./endpoint-slice.ts";
import { endpoints } from "./endpoints.ts";
import { envoyFilter } from "./envoy-filter.ts";
import { event } from "./event.ts";
import { gateway } from "./gateway.ts";
import { ingress } from "./ingress.ts";
import { ingressClass } from "./ingress-class.ts";
import type { Kind } from "./kind.ts";
import { namespace } from "./namespace.ts";
import type { ConfigObject, KindName } from "./object.ts";
import { peerAuthentication } from "./peer-authentication.ts";
import { pod } from "./pod.ts";
import { proxyConfig } from "./proxy-config.ts";
import { requestAuthentication } from "./request-authentication.ts";
import { secret } from "./secret.ts";
import { service } from "./service.ts";
import { serviceAccount } from "./service-account.ts";
import { serviceEntry } from "./service-entry.ts";
import { sidecar } from "./sidecar.ts";
import { telemetry } from "./telemetry.ts";
import { virtualService } from "./virtual-service.ts";
import { wasmPlugin } from "./wasm-plugin.ts";
import { workloadEntry } from "./workload-entry.ts";
import { workloadGroup } from "./workload-group.ts";

/** All kinds of configuration. To add one: its file, its line here, its name in object.ts. */
const declared = {
  AuthorizationPolicy: authorizationPolicy,
  ConfigMap: configMap,
  Deployment: deployment,
  DestinationRule: destinationRule,
  EndpointSlice: endpointSlice,
  Endpoints: endpoints,
  EnvoyFilter: envoyFilter,
  Event: event,
  Gateway: gateway,
  Ingress: ingress,
  IngressClass: ingressClass,
  Namespace: namespace,
  PeerAuthentication: peerAuthentication,
  Pod: pod,
  ProxyConfig: proxyConfig,
  RequestAuthentication: requestAuthentication,
  Secret: secret,
  Service: service,
  ServiceAccount: serviceAccount,
  ServiceEntry: serviceEntry,
  Sidecar: sidecar,
  Telemetry: telemetry,
  VirtualService: virtualService,
  WasmPlugin: wasmPlugin,
  WorkloadEntry: workloadEntry,
  WorkloadGroup: workloadGroup,
} as const satisfies { [K in KindName]: { readonly kind: K } };

/** The decoded spec of a kind: `SpecOf<"VirtualService">`. */
export type SpecOf<K extends KindName> = Infer<(typeof declared)[K]["schema"]>;

/** `ObjectOf<"VirtualService">`, or with a union of names the union of objects, told apart by `kind`. */
export type ObjectOf<K extends KindName = KindName> = { [Name in K]: ConfigObject<SpecOf<Name>, Name> }[K];

export const kinds: readonly Kind[] = Object.values(declared) as unknown as readonly Kind[];

export function kindByName(name: string): Kind | undefined {
  return Object.hasOwn(declared, name) ? (declared as unknown as Record<string, Kind>)[name] : undefined;
}

/** The kind that an apiVersion and kind name, whatever the version: `networking.istio.io/v1`, `Gateway`. */
export function kindOf(apiVersion: string, name: string): Kind | undefined {
  const found = kindByName(name);
  const group = apiVersion.includes("/") ? apiVersion.slice(0, apiVersion.indexOf("/")) : "";
  return found?.group === group ? found : undefined;
}

/** Narrows an object of any kind: `if (isKind(object, "Gateway")) object.spec.servers`. */
export function isKind<K extends KindName>(object: ConfigObject, kind: K): object is ObjectOf<K> & ConfigObject {
  return object.kind === kind;
}
