import type { AuthorizationPolicy, Condition, Operation, Rule, Source } from "../kinds/authorization-policy.ts";
import type { ConfigObject } from "../kinds/object.ts";
import { isPlainObject } from "../schema/decode.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkIpOrCidr } from "./scalars.ts";
import { checkAttachment } from "./selection.ts";

const dryRunAnnotation = "istio.io/dry-run";

/** What an external authorizer's rules can't match by: it is asked before the peer's identity is known to the rules. */
const unsupportedForCustom = [
  "namespaces",
  "notNamespaces",
  "serviceAccounts",
  "notServiceAccounts",
  "trustDomains",
  "notTrustDomains",
  "principals",
  "notPrincipals",
  "requestPrincipals",
  "notRequestPrincipals",
] as const satisfies readonly (keyof Source)[];

/** Fields of a source that mean something on a plain connection too. */
const connectionFields = [
  "principals",
  "notPrincipals",
  "ipBlocks",
  "notIpBlocks",
  "namespaces",
  "notNamespaces",
  "remoteIpBlocks",
  "notRemoteIpBlocks",
  "serviceAccounts",
  "notServiceAccounts",
] as const satisfies readonly (keyof Source)[];

export function validateAuthorizationPolicy(object: ConfigObject<AuthorizationPolicy>, report: FieldReport): void {
  const { spec } = object;
  checkAttachment(spec, report);
  checkDryRun(object, report);
  const written = isPlainObject(object.raw.spec) ? object.raw.spec : {};
  if ((spec.action === "CUSTOM" || spec.action === "DENY") && !Array.isArray(written.rules)) {
    report.at("rules").error(`is missing: ${spec.action} without rules never acts; one empty rule {} takes every request`);
  }
  if (spec.action === "CUSTOM" && !spec.provider?.name)
    report.at("provider", "name").error("is missing: CUSTOM asks an extension provider");
  if (spec.action !== "CUSTOM" && spec.provider) report.at("provider").error(`is for action CUSTOM, not for ${spec.action}`);
  for (const [index, rule] of spec.rules.entries()) {
    const place = report.at("rules", index);
    if (spec.action === "CUSTOM") checkCustomRule(rule, place);
    checkRule(rule, place);
    for (const field of ["from", "to"] as const) {
      const writtenRule = Array.isArray(written.rules) ? written.rules[index] : undefined;
      if (isPlainObject(writtenRule) && Array.isArray(writtenRule[field]) && writtenRule[field].length === 0)
        place.at(field).error("is empty: leave it out to match all");
    }
    if (spec.action === "DENY" && hasHttpAttributesOnly(rule)) {
      place.warn("on a TCP port the rule's HTTP attributes are passed over, so that it denies all connections: name the ports");
    }
  }
}

function checkDryRun({ spec, metadata }: ConfigObject<AuthorizationPolicy>, report: FieldReport): void {
  const value = metadata.annotations[dryRunAnnotation];
  if (value === undefined) return;
  if (spec.action !== "ALLOW" && spec.action !== "DENY")
    report.at("action").error(`annotation ${dryRunAnnotation} is for ALLOW and DENY, not for ${spec.action}`);
  if (!/^(1|t|T|TRUE|true|True|0|f|F|FALSE|false|False)$/.test(value))
    report.error(`annotation ${dryRunAnnotation} is neither true nor false: ${JSON.stringify(value)}`);
}

function checkCustomRule(rule: Rule, report: FieldReport): void {
  for (const [index, { source }] of rule.from.entries()) {
    for (const field of unsupportedForCustom) {
      if ((source?.[field].length ?? 0) > 0) report.at("from", index, "source", field).error("is not supported with action CUSTOM");
    }
  }
  for (const [index, { key }] of rule.when.entries()) {
    if (/^(source\.(namespace|serviceAccount|trustDomain|principal)$|request\.auth\.)/.test(key)) {
      report.at("when", index, "key").error(`${JSON.stringify(key)} is not supported with action CUSTOM`);
    }
  }
}

function checkRule(rule: Rule, report: FieldReport): void {
  for (const [index, { source }] of rule.from.entries()) {
    const place = report.at("from", index, "source");
    if (!source || isEmpty(source)) place.error("is empty");
    else checkSource(source, place);
  }
  for (const [index, { operation }] of rule.to.entries()) {
    const place = report.at("to", index, "operation");
    if (!operation || isEmpty(operation)) place.error("is empty");
    else checkOperation(operation, place);
  }
  for (const [index, condition] of rule.when.entries()) checkCondition(condition, report.at("when", index));
}

function isEmpty(message: Source | Operation): boolean {
  return Object.values(message as Record<string, readonly string[]>).every((list) => list.length === 0);
}

function checkSource(source: Source, report: FieldReport): void {
  checkNoEmptyValues(source, report);
  const hasIdentities = [source.principals, source.notPrincipals, source.namespaces, source.notNamespaces].some((list) => list.length > 0);
  if (hasIdentities && source.serviceAccounts.length + source.notServiceAccounts.length > 0) {
    report.error("serviceAccounts can't be given with principals or namespaces");
  }
  for (const field of ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"] as const)
    checkValues(source[field], report.at(field), checkIpOrCidr);
  for (const field of ["serviceAccounts", "notServiceAccounts"] as const) checkServiceAccounts(source[field], report.at(field));
  for (const field of ["trustDomains", "notTrustDomains"] as const) {
    checkValues(source[field], report.at(field), (value, place) => {
      checkWildcard(value, place);
      if (value.includes("/")) place.error(`${JSON.stringify(value)} is not a trust domain`);
    });
  }
}

function checkOperation(operation: Operation, report: FieldReport): void {
  checkNoEmptyValues(operation, report);
  for (const field of ["ports", "notPorts"] as const) checkValues(operation[field], report.at(field), checkPortText);
  for (const field of ["paths", "notPaths"] as const) checkValues(operation[field], report.at(field), checkPathTemplate);
}

function checkNoEmptyValues(message: Source | Operation, report: FieldReport): void {
  for (const [field, values] of Object.entries(message as Record<string, readonly string[]>)) {
    for (const [index, value] of values.entries()) if (value === "") report.at(field, index).error("is empty");
  }
}

/** Empty values are told of elsewhere. */
function checkValues(values: readonly string[], report: FieldReport, check: (value: string, place: FieldReport) => void): void {
  for (const [index, value] of values.entries()) if (value !== "") check(value, report.at(index));
}

/** `account` in the policy's namespace, or `namespace/account`; no wildcards. */
function checkServiceAccounts(values: readonly string[], report: FieldReport): void {
  if (values.length > 16) report.error("has more than 16 values");
  checkValues(values, report, (value, place) => {
    if (value.includes("*")) place.error(`${JSON.stringify(value)}: wildcards are not supported here`);
    else if (value.length > 320 || !/^[^/]+(\/[^/]+)?$/.test(value))
      place.error(`${JSON.stringify(value)} is not of the form account or namespace/account`);
  });
}

/** `x`, `x*`, `*x` or `*`. */
function checkWildcard(value: string, report: FieldReport): void {
  if (value.replace(/^\*|\*$/, "").includes("*"))
    report.error(`${JSON.stringify(value)}: one wildcard may stand, at the start or at the end`);
}

function checkPortText(value: string, report: FieldReport): void {
  if (!/^\d{1,5}$/.test(value) || Number(value) > 65535) report.error(`${JSON.stringify(value)} is not a port`);
}

/** `{*}` stands for a segment of a path, `{**}` as the last one for all that follow. */
function checkPathTemplate(path: string, report: FieldReport): void {
  const isTemplate = path.includes("{*}") || path.includes("{**}");
  const segments = path.replaceAll(/^\/+|\/+$/g, "").split("/");
  const restAt = segments.indexOf("{**}");
  for (const [index, segment] of segments.entries()) {
    if (segment === "{*}" || segment === "{**}") {
      if (restAt >= 0 && index > restAt) {
        report.error(`${JSON.stringify(path)}: no template may follow {**}`);
        return;
      }
    } else if (/[{}]/.test(segment)) {
      report.error(`${JSON.stringify(path)}: braces are for the templates {*} and {**} alone`);
      return;
    } else if (isTemplate && !/^[-a-zA-Z0-9._~%!$&'()+,;:@=]+$/.test(segment)) {
      report.error(`${JSON.stringify(path)}: ${JSON.stringify(segment)} can't be a segment of a path`);
      return;
    }
  }
}

function checkCondition({ key, values, notValues }: Condition, report: FieldReport): void {
  if (key === "") {
    report.at("key").error("is missing");
    return;
  }
  if (values.length + notValues.length === 0) report.error(`has no values for ${JSON.stringify(key)}`);
  const known = attributes.find(([pattern]) => pattern.test(key));
  if (!known) {
    report.at("key").error(`${JSON.stringify(key)} is not a known attribute`);
    return;
  }
  for (const [field, list] of [
    ["values", values],
    ["notValues", notValues],
  ] as const) {
    for (const [index, value] of list.entries()) {
      if (value === "") report.at(field, index).error("is empty");
      else known[1]?.(value, report.at(field, index));
    }
    if (key === "source.serviceAccount") checkServiceAccounts(list, report.at(field));
  }
}

const attributes: readonly (readonly [RegExp, ((value: string, report: FieldReport) => void)?])[] = [
  [/^request\.headers\[.+\]$/],
  [/^request\.auth\.claims(\[.+\])+$/],
  [/^request\.auth\.(principal|audiences|presenter)$/],
  [/^(source|remote|destination)\.ip$/, checkIpOrCidr],
  [/^source\.(namespace|serviceAccount|principal)$/],
  [/^source\.trustDomain$/, checkWildcard],
  [/^destination\.port$/, checkPortText],
  [/^connection\.sni$/],
  [/^experimental\.envoy\.filters\..*\[.+\]$/],
];

function hasHttpAttributesOnly(rule: Rule): boolean {
  const sources = rule.from.flatMap(({ source }) => source ?? []);
  const operations = rule.to.flatMap(({ operation }) => operation ?? []);
  const sourcesReach = sources.some((source) => connectionFields.some((field) => source[field].length > 0));
  const operationsReach = operations.some((operation) => operation.ports.length + operation.notPorts.length > 0);
  return (sources.length > 0 && operations.length === 0 && !sourcesReach) || (operations.length > 0 && !operationsReach);
}
