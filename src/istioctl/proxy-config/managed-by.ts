import { fieldAt } from "../output/json-fields.ts";

const istioConfig = "/apis/networking.istio.io/";

/** `name.namespace` of the object of Istio's that a cluster or route comes from, which its metadata names; "" when it names none. */
export function managedBy(message: unknown): string {
  const config = fieldAt(message, "metadata", "filter_metadata", "istio", "config");
  if (config === undefined) return "";
  if (typeof config !== "string" || !config.startsWith(istioConfig)) return "<unknown>";
  const pieces = config.split("/");
  return pieces.length === 8 ? `${pieces[7]}.${pieces[5]}` : "";
}
