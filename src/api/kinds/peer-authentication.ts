import { enumeration, type Infer, mapByNumber, message } from "../schema/schema.ts";
import { ageColumn, defineIstioKind } from "./kind.ts";
import { workloadSelectorSchema } from "./selectors.ts";

const mutualTLSModeSchema = enumeration("UNSET", "DISABLE", "PERMISSIVE", "STRICT");
export type MutualTLSMode = Infer<typeof mutualTLSModeSchema>;

const mutualTLSSchema = message("MutualTLS", {
  mode: mutualTLSModeSchema,
});
export type MutualTLS = Infer<typeof mutualTLSSchema>;

const peerAuthenticationSchema = message("PeerAuthentication", {
  selector: workloadSelectorSchema,
  mtls: mutualTLSSchema,
  portLevelMtls: mapByNumber(mutualTLSSchema),
});
export type PeerAuthentication = Infer<typeof peerAuthenticationSchema>;

export const peerAuthentication = defineIstioKind({
  kind: "PeerAuthentication",
  group: "security.istio.io",
  versions: ["v1", "v1beta1"],
  plural: "peerauthentications",
  shortNames: ["pa"],
  columns: [{ name: "Mode", type: "string", jsonPath: ".spec.mtls.mode", description: "The mutual TLS mode" }, ageColumn],
  schema: peerAuthenticationSchema,
});
