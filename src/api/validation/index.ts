import type { SpecOf } from "../kinds/index.ts";
import type { ConfigObject, IstioKindName } from "../kinds/object.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { validateAuthorizationPolicy } from "./authorization-policy.ts";
import { validateDestinationRule } from "./destination-rule.ts";
import { validateEnvoyFilter } from "./envoy-filter.ts";
import { validateGateway } from "./gateway.ts";
import { validatePeerAuthentication } from "./peer-authentication.ts";
import { validateProxyConfig } from "./proxy-config.ts";
import { validateRequestAuthentication } from "./request-authentication.ts";
import { validateServiceEntry } from "./service-entry.ts";
import { validateSidecar } from "./sidecar.ts";
import { validateTelemetry } from "./telemetry.ts";
import { validateVirtualService } from "./virtual-service.ts";
import { validateWasmPlugin } from "./wasm-plugin.ts";
import { validateWorkloadEntry } from "./workload-entry.ts";
import { validateWorkloadGroup } from "./workload-group.ts";

/** Rules of a kind beyond its schema. The report stands at the object's spec. */
type Rules<K extends IstioKindName> = (object: ConfigObject<SpecOf<K>>, report: FieldReport) => void;

/**
 * The rules of every kind of Istio's; Kubernetes' records have none of their own. They are no part of the kinds' declarations,
 * so that whoever only decodes doesn't load Envoy's types, which the rules of EnvoyFilter need.
 */
export const rules: { readonly [K in IstioKindName]: Rules<K> } = {
  AuthorizationPolicy: validateAuthorizationPolicy,
  DestinationRule: validateDestinationRule,
  EnvoyFilter: validateEnvoyFilter,
  Gateway: validateGateway,
  PeerAuthentication: validatePeerAuthentication,
  ProxyConfig: validateProxyConfig,
  RequestAuthentication: validateRequestAuthentication,
  ServiceEntry: validateServiceEntry,
  Sidecar: validateSidecar,
  Telemetry: validateTelemetry,
  VirtualService: validateVirtualService,
  WasmPlugin: validateWasmPlugin,
  WorkloadEntry: validateWorkloadEntry,
  WorkloadGroup: validateWorkloadGroup,
};
