import type { ConfigObject } from "../kinds/object.ts";
import type { WasmPlugin } from "../kinds/wasm-plugin.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkPort } from "./scalars.ts";
import { checkAttachment } from "./selection.ts";

const maxNameLength = 256;
/** Kubernetes' bound on the name of a Secret. */
const maxSecretNameLength = 253;

export function validateWasmPlugin({ spec }: ConfigObject<WasmPlugin>, report: FieldReport): void {
  checkAttachment(spec, report);
  checkUrl(spec.url, report.at("url"));
  if (spec.sha256 !== "" && !/^[a-f0-9]{64}$/.test(spec.sha256)) report.at("sha256").error("is not a SHA-256 sum: 64 digits 0-9 and a-f");
  if (spec.imagePullSecret.length > maxSecretNameLength)
    report.at("imagePullSecret").error(`is longer than ${maxSecretNameLength} characters`);
  if (spec.pluginName.length > maxNameLength) report.at("pluginName").error(`is longer than ${maxNameLength} characters`);
  const names = new Set<string>();
  for (const [index, variable] of (spec.vmConfig?.env ?? []).entries()) {
    const place = report.at("vmConfig", "env", index);
    if (variable.name === "") place.at("name").error("is missing");
    if (variable.name.length > maxNameLength) place.at("name").error(`is longer than ${maxNameLength} characters`);
    if (names.has(variable.name)) place.at("name").error(`${JSON.stringify(variable.name)} is given twice`);
    names.add(variable.name);
    if (variable.valueFrom !== "INLINE" && variable.value !== "")
      place.at("value").error(`can't be given with valueFrom: ${variable.valueFrom}`);
  }
  for (const [index, { ports }] of spec.match.entries()) {
    for (const [at, port] of ports.entries()) checkPort(port.number, report.at("match", index, "ports", at, "number"));
  }
}

/** An image without a scheme, `registry/name:tag`, is one of OCI's. */
function checkUrl(url: string, report: FieldReport): void {
  if (url === "") {
    report.error("is missing");
    return;
  }
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(url)?.[1];
  if (scheme !== undefined && !["file", "http", "https", "oci"].includes(scheme))
    report.error(`scheme ${JSON.stringify(scheme)} is not supported: one of file, http, https, oci`);
  else if (/%(?![0-9A-Fa-f]{2})/.test(url) || !URL.canParse(scheme === undefined ? `oci://${url}` : url))
    report.error(`${JSON.stringify(url)} is not a URL`);
}
