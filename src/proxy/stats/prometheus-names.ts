/** Names and labels as Prometheus' text format allows them. */
import type { Tag } from "./prefix-tags.ts";

export function label({ name, value }: Tag): string {
  return `${labelName(name)}="${escapeLabel(value)}"`;
}

/** Istio's own metrics and those of Wasm come with a name of their own; everything else belongs to `envoy_`. */
const customNamespace = /^(?:istiocustom\.|wasmcustom\.)/;

export function metricName(base: string): string {
  const name = customNamespace.test(base) ? base.replace(customNamespace, "") : `envoy_${base}`;
  const clean = name.replaceAll(/[^a-zA-Z0-9_]/g, "_");
  return /^\d/.test(clean) ? `_${clean}` : clean;
}

function labelName(name: string): string {
  const clean = name.replaceAll(/[^a-zA-Z0-9_]/g, "_");
  return /^\d/.test(clean) ? `_${clean}` : clean;
}

export function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}
