/**
 * What clients do about mutual TLS with a service, where no DestinationRule tells them.
 * Source: Istio pilot/pkg/model/push_context.go (BestEffortInferServiceMTLSMode), pilot/pkg/xds/endpoints/mtls_checker.go.
 */
import type { ClientTLSSettingsMode, TrafficPolicy } from "../../api/kinds/destination-rule.ts";
import type { Endpoint, Service, ServicePort } from "../../registry/service.ts";
import { modeOfPort } from "./peer-authentication.ts";
import type { PushContext } from "./push-context.ts";

/** Whether connections to the service are encrypted without being told to, to those of its endpoints that can. */
export function usesAutoMutualTls(service: Service, port: ServicePort, policy: TrafficPolicy | undefined, push: PushContext): boolean {
  if (push.mesh.enableAutoMtls === false || service.isExternal) return false;
  const isPassthrough = service.resolution === "NONE" || policy?.loadBalancer?.simple === "PASSTHROUGH";
  if (isPassthrough) {
    // The client chooses the endpoint, and nobody knows which: all of them have to be able.
    const endpoints = push.registry.endpoints(service).filter(({ portName }) => portName === port.name);
    if (endpoints.length === 0 || endpoints.some(({ tlsMode }) => tlsMode !== "istio")) return false;
  }
  return push.peerAuthentications.forNamespace(service.namespace) !== "DISABLE";
}

/** Whether the endpoint takes mutual TLS from a client whose rule says `ruleMode`; undefined: no rule speaks of TLS. */
export function takesMutualTls(endpoint: Endpoint, ruleMode: ClientTLSSettingsMode | undefined, push: PushContext): boolean {
  if (endpoint.tlsMode !== "istio") return false;
  if (ruleMode !== undefined) return ruleMode === "ISTIO_MUTUAL";
  return modeOfPort(push.peerAuthentications.forWorkload(endpoint.namespace, endpoint.labels), endpoint.port) !== "DISABLE";
}
