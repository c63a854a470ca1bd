import type { ConfigObject } from "../kinds/object.ts";
import type { Metrics, Telemetry, Tracing } from "../kinds/telemetry.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkAttachment } from "./selection.ts";

export function validateTelemetry({ spec }: ConfigObject<Telemetry>, report: FieldReport): void {
  checkAttachment(spec, report);
  if (spec.tracing.length > 1) report.at("tracing").warn("more than one entry is not supported: only the first is used");
  for (const [index, tracing] of spec.tracing.entries()) checkTracing(tracing, report.at("tracing", index));
  for (const [index, metrics] of spec.metrics.entries()) checkMetrics(metrics, report.at("metrics", index));
  for (const [index, logging] of spec.accessLogging.entries()) {
    const place = report.at("accessLogging", index);
    checkProviders(logging.providers, place.at("providers"));
    if (logging.filter && logging.filter.expression.trim() === "") place.at("filter", "expression").error("is empty");
  }
}

function checkProviders(providers: readonly { readonly name: string }[], report: FieldReport): void {
  for (const [index, { name }] of providers.entries()) if (name === "") report.at(index, "name").error("is missing");
}

function checkTracing(tracing: Tracing, report: FieldReport): void {
  if (tracing.providers.length > 1) report.at("providers").warn("more than one provider is not supported: only the first is used");
  checkProviders(tracing.providers, report.at("providers"));
  const sampling = tracing.randomSamplingPercentage ?? 0;
  if (!(sampling >= 0 && sampling <= 100))
    report.at("randomSamplingPercentage").error(`${sampling} is not a percentage: must be between 0 and 100`);
  for (const [name, tag] of Object.entries(tracing.customTags)) {
    const place = report.at("customTags", name);
    if (name === "") place.error("a tag needs a name");
    if (tag.literal?.value === "") place.at("literal", "value").error("is missing");
    if (tag.formatter?.value === "") place.at("formatter", "value").error("is missing");
    if (tag.header?.name === "") place.at("header", "name").error("is missing");
    if (tag.environment?.name === "") place.at("environment", "name").error("is missing");
  }
}

function checkMetrics(metrics: Metrics, report: FieldReport): void {
  checkProviders(metrics.providers, report.at("providers"));
  for (const [index, override] of metrics.overrides.entries()) {
    const place = report.at("overrides", index);
    if (override.match?.customMetric === "") place.at("match", "customMetric").error("is empty");
    for (const [name, tag] of Object.entries(override.tagOverrides)) {
      const tagPlace = place.at("tagOverrides", name);
      if (name === "") tagPlace.warn("a tag needs a name");
      if (tag.operation === "UPSERT" && tag.value === "") tagPlace.at("value").error("is missing: UPSERT sets it");
      if (tag.operation === "REMOVE" && tag.value !== "") tagPlace.at("value").error("can't be given with REMOVE");
    }
  }
}
