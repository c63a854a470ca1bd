import { enumeration, type Infer, mapByNumber, message } from "../schema/schema.ts";
import { workloadSelectorSchema } from "./selectors.ts";

export const mutualTLSModeSchema = enumeration("UNSET", "DISABLE", "PERMISSIVE", "STRICT");
export type MutualTLSMode = Infer<typeof mutualTLSModeSchema>;

export const mutualTLSSchema = message("MutualTLS", {
  mode: mutualTLSModeSchema,
});
export type MutualTLS = Infer<typeof mutualTLSSchema>;

export const peerAuthenticationSchema = message("PeerAuthentication", {
  selector: workloadSelectorSchema,
  mtls: mutualTLSSchema,
  portLevelMtls: mapByNumber(mutualTLSSchema),
});
export type PeerAuthentication = Infer<typeof peerAuthenticationSchema>;
