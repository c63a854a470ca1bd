import type { ConfigObject } from "../kinds/object.ts";
import type { PeerAuthentication } from "../kinds/peer-authentication.ts";
import { isPlainObject } from "../schema/decode.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkPort } from "./scalars.ts";
import { checkSelector } from "./selection.ts";

export function validatePeerAuthentication({ spec, raw }: ConfigObject<PeerAuthentication>, report: FieldReport): void {
  checkSelector(spec.selector, report.at("selector"));
  const ports = Object.keys(spec.portLevelMtls);
  if (ports.length > 0 && Object.keys(spec.selector?.matchLabels ?? {}).length === 0) {
    report.at("portLevelMtls").error("needs a selector: ports are those of workloads, not of a namespace or mesh");
  }
  const written = isPlainObject(raw.spec) ? (raw.spec.portLevelMtls ?? raw.spec.port_level_mtls) : undefined;
  if (isPlainObject(written) && ports.length === 0) report.at("portLevelMtls").error("is empty");
  for (const port of ports) checkPort(Number(port), report.at("portLevelMtls", port));
}
