import { enumeration, type Infer, list, map, message, string, uint32 } from "../schema/schema.ts";
import { connectionPoolSettingsSchema } from "./destination-rule.ts";
import { serverTLSSettingsSchema } from "./gateway.ts";
import { defineIstioKind } from "./kind.ts";
import { destinationSchema } from "./virtual-service.ts";

export const workloadSelectorSchema = message("WorkloadSelector", {
  labels: map(string()),
});
export type WorkloadSelector = Infer<typeof workloadSelectorSchema>;

const sidecarPortSchema = message("SidecarPort", {
  number: uint32(),
  protocol: string(),
  name: string(),
  targetPort: uint32(),
});
export type SidecarPort = Infer<typeof sidecarPortSchema>;

const captureModeSchema = enumeration("DEFAULT", "IPTABLES", "NONE");
export type CaptureMode = Infer<typeof captureModeSchema>;

const istioIngressListenerSchema = message("IstioIngressListener", {
  port: sidecarPortSchema,
  bind: string(),
  captureMode: captureModeSchema,
  defaultEndpoint: string(),
  tls: serverTLSSettingsSchema,
  connectionPool: connectionPoolSettingsSchema,
});
export type IstioIngressListener = Infer<typeof istioIngressListenerSchema>;

const istioEgressListenerSchema = message("IstioEgressListener", {
  port: sidecarPortSchema,
  bind: string(),
  captureMode: captureModeSchema,
  hosts: list(string()),
});
export type IstioEgressListener = Infer<typeof istioEgressListenerSchema>;

const outboundTrafficPolicyModeSchema = enumeration("REGISTRY_ONLY", "ALLOW_ANY");
export type OutboundTrafficPolicyMode = Infer<typeof outboundTrafficPolicyModeSchema>;

const outboundTrafficPolicySchema = message("OutboundTrafficPolicy", {
  mode: outboundTrafficPolicyModeSchema,
  egressProxy: destinationSchema,
});
export type OutboundTrafficPolicy = Infer<typeof outboundTrafficPolicySchema>;

const sidecarSchema = message("Sidecar", {
  workloadSelector: workloadSelectorSchema,
  ingress: list(istioIngressListenerSchema),
  egress: list(istioEgressListenerSchema),
  inboundConnectionPool: connectionPoolSettingsSchema,
  outboundTrafficPolicy: outboundTrafficPolicySchema,
});
export type Sidecar = Infer<typeof sidecarSchema>;

export const sidecar = defineIstioKind({
  kind: "Sidecar",
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  plural: "sidecars",
  schema: sidecarSchema,
});
