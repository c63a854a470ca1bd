import { enumeration, type Infer, int32, list, message, optional, string, struct } from "../schema/schema.ts";
import { defineIstioKind } from "./kind.ts";
import { policyTargetReferenceSchema, portSelectorSchema, workloadModeSchema, workloadSelectorSchema } from "./selectors.ts";

const pullPolicySchema = enumeration("UNSPECIFIED_POLICY", "IfNotPresent", "Always");
export type PullPolicy = Infer<typeof pullPolicySchema>;

const pluginPhaseSchema = enumeration("UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS");
export type PluginPhase = Infer<typeof pluginPhaseSchema>;

const failStrategySchema = enumeration("FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD");
export type FailStrategy = Infer<typeof failStrategySchema>;

const envValueSourceSchema = enumeration("INLINE", "HOST");
export type EnvValueSource = Infer<typeof envValueSourceSchema>;

const envVarSchema = message("EnvVar", {
  name: string(),
  valueFrom: envValueSourceSchema,
  value: string(),
});
export type EnvVar = Infer<typeof envVarSchema>;

const vmConfigSchema = message("VmConfig", {
  env: list(envVarSchema),
});
export type VmConfig = Infer<typeof vmConfigSchema>;

const trafficSelectorSchema = message("TrafficSelector", {
  mode: workloadModeSchema,
  ports: list(portSelectorSchema),
});
export type TrafficSelector = Infer<typeof trafficSelectorSchema>;

const pluginTypeSchema = enumeration("UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK");
export type PluginType = Infer<typeof pluginTypeSchema>;

const wasmPluginSchema = message("WasmPlugin", {
  selector: workloadSelectorSchema,
  targetRef: policyTargetReferenceSchema,
  targetRefs: list(policyTargetReferenceSchema),
  url: string(),
  sha256: string(),
  imagePullPolicy: pullPolicySchema,
  imagePullSecret: string(),
  verificationKey: string(),
  pluginConfig: struct(),
  pluginName: string(),
  phase: pluginPhaseSchema,
  priority: optional(int32()),
  failStrategy: failStrategySchema,
  vmConfig: vmConfigSchema,
  match: list(trafficSelectorSchema),
  type: pluginTypeSchema,
});
export type WasmPlugin = Infer<typeof wasmPluginSchema>;

export const wasmPlugin = defineIstioKind({
  kind: "WasmPlugin",
  group: "extensions.istio.io",
  versions: ["v1alpha1"],
  plural: "wasmplugins",
  schema: wasmPluginSchema,
});
