import { type Infer, int32, map, message, optional, string } from "../schema/schema.ts";
import { defineIstioKind } from "./kind.ts";
import { workloadSelectorSchema } from "./selectors.ts";

export const proxyImageSchema = message("ProxyImage", {
  imageType: string(),
});
export type ProxyImage = Infer<typeof proxyImageSchema>;

const proxyConfigSchema = message("ProxyConfig", {
  selector: workloadSelectorSchema,
  concurrency: optional(int32()),
  environmentVariables: map(string()),
  image: proxyImageSchema,
});
export type ProxyConfig = Infer<typeof proxyConfigSchema>;

export const proxyConfig = defineIstioKind({
  kind: "ProxyConfig",
  group: "networking.istio.io",
  versions: ["v1beta1"],
  plural: "proxyconfigs",
  schema: proxyConfigSchema,
});
