/**
 * Proxies print their configuration with the field names of the proto files, istioctl with those of JSON: `lbEndpoints` for `lb_endpoints`.
 * Only names of fields are changed: what is data (labels, metadata, names of filters) stays. No message type has to be known for it.
 */
import { stringify } from "yaml";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** Fields that hold a Struct or a map, whose keys are the user's. */
const dataFields: ReadonlySet<string> = new Set(["filter_metadata", "metadata", "static_layer", "typed_filter_metadata", "labels"]);
const fieldName = /^[a-z][a-z0-9]*(?:_[a-z0-9]+)+$/;

export function toJsonNames(value: Json): Json {
  if (Array.isArray(value)) return value.map(toJsonNames);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => {
      const shown = fieldName.test(name) ? name.replaceAll(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()) : name;
      return [shown, dataFields.has(name) && !isMetadataMessage(inner) ? inner : toJsonNames(inner)];
    }),
  );
}

/** Envoy's Metadata is a message with a map in it; a node's metadata is the map. */
function isMetadataMessage(value: Json): boolean {
  return typeof value === "object" && value !== null && ("filter_metadata" in value || "typed_filter_metadata" in value);
}

/** As Go writes it: four spaces, and what HTML could misread escaped. */
export function jsonText(value: Json): string {
  return `${JSON.stringify(value, null, 4).replaceAll(/[<>&\u2028\u2029]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`)}\n`;
}

/** As Go's sigs.k8s.io/yaml writes it: keys sorted, lists not indented. */
export function yamlText(value: Json): string {
  return `${stringify(value, { sortMapEntries: true, indentSeq: false, lineWidth: 0 })}\n`;
}
