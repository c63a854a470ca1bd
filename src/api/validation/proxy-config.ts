import type { ConfigObject } from "../kinds/object.ts";
import type { ProxyConfig } from "../kinds/proxy-config.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkNotNegative } from "./scalars.ts";
import { checkSelector } from "./selection.ts";

export function validateProxyConfig({ spec }: ConfigObject<ProxyConfig>, report: FieldReport): void {
  checkSelector(spec.selector, report.at("selector"));
  checkNotNegative(spec.concurrency, report.at("concurrency"));
}
