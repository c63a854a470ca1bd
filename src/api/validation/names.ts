import { isIP } from "node:net";
import type { FieldReport } from "../schema/field-report.ts";

const dnsLabel = /^[a-z0-9A-Z](?:[-a-z0-9A-Z]{0,61}[a-z0-9A-Z])?$/;
/** A label that may start with a wildcard: `*` or `*-prod`. */
const wildcardLabel = /^(?:\*|(?:\*|\*-)?(?:[a-zA-Z0-9](?:[-a-z0-9A-Z]*[a-z0-9A-Z])?))$/;
/** Names of Kubernetes objects: what can be a DNS name, so nothing that could leave a directory. */
const objectName = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;

/** RFC 1123: at most 63 letters, digits and hyphens, no hyphen at either end. */
export function isDnsLabel(text: string): boolean {
  return dnsLabel.test(text);
}

function isWildcardDnsLabel(text: string): boolean {
  return text.length <= 63 && wildcardLabel.test(text);
}

/** Why the text is not a fully qualified domain name; undefined when it is one. A dot at the end is fine. */
export function fqdnProblem(text: string): string | undefined {
  return lengthProblem(text) ?? labelsProblem(text, text);
}

/** As `fqdnProblem`, but the first label may be a wildcard or start with one: `*.example.com`. */
export function wildcardDomainProblem(text: string): string | undefined {
  const problem = lengthProblem(text);
  if (problem) return problem;
  const dot = text.indexOf(".");
  const first = dot < 0 ? text : text.slice(0, dot);
  if (!isWildcardDnsLabel(first)) return `${JSON.stringify(text)} is not a host name: label ${JSON.stringify(first)} is not valid`;
  return dot < 0 ? undefined : labelsProblem(text, text.slice(dot + 1));
}

function lengthProblem(text: string): string | undefined {
  if (text === "") return "is empty where a host name is needed";
  return text.length > 255 ? `host name ${JSON.stringify(`${text.slice(0, 40)}...`)} is longer than 255 characters` : undefined;
}

function labelsProblem(whole: string, rest: string): string | undefined {
  const labels = rest.split(".");
  const last = labels[labels.length - 1] as string;
  if (/^[+-]?\d+$/.test(last)) return `${JSON.stringify(whole)} is not a host name: the last label can't be a number`;
  const bad = labels.findIndex((label, index) => !isDnsLabel(label) && !(label === "" && index === labels.length - 1));
  return bad < 0 ? undefined : `${JSON.stringify(whole)} is not a host name: label ${JSON.stringify(labels[bad])} is not valid`;
}

/**
 * Checks `namespace/host`, where the namespace is `*`, `.`, a label, or for a Sidecar `~`, and the host may start with a
 * wildcard. A Gateway's hosts may leave the namespace out.
 */
export function checkNamespacedHost(text: string, report: FieldReport, options: { readonly forGateway: boolean }): void {
  const parts = text.split("/");
  if (parts.length === 1 && options.forGateway) {
    checkHostPart(text, report, options);
    return;
  }
  const [namespace, host] = parts;
  if (parts.length !== 2 || !namespace || !host) {
    report.error(`${JSON.stringify(text)} must be of the form namespace/host`);
    return;
  }
  // In a Sidecar `~` before a namespace leaves out what other entries import; alone it means all namespaces.
  const meant = options.forGateway ? namespace : namespace.replace(/^~/, "") || "*";
  if (meant !== "*" && meant !== "." && !isDnsLabel(meant)) {
    report.error(`namespace ${JSON.stringify(namespace)} of ${JSON.stringify(text)} is not valid`);
  }
  checkHostPart(host, report, options);
}

function checkHostPart(host: string, report: FieldReport, options: { readonly forGateway: boolean }): void {
  if (options.forGateway && isIP(host) !== 0) return;
  const problem = wildcardDomainProblem(host) ?? partialWildcardProblem(host);
  if (problem) report.error(problem);
  else if (host !== "*" && !host.includes(".")) report.error(`${JSON.stringify(host)} is a short name: a full domain name is needed here`);
}

/** A wildcard that is only part of a label, `*-prod.example.com`. */
export function partialWildcardProblem(host: string): string | undefined {
  const isPartial = host.includes("*") && host !== "*" && !host.startsWith("*.");
  return isPartial ? `${JSON.stringify(host)}: a wildcard stands for whole labels, "*.example.com"` : undefined;
}

export function reportProblem(report: FieldReport, problem: string | undefined): void {
  if (problem !== undefined) report.error(problem);
}

export function checkObjectName(name: string, report: FieldReport): void {
  if (name === "") report.error("is missing");
  else if (name.length > 253 || !objectName.test(name)) {
    report.error(
      `${JSON.stringify(name.slice(0, 80))} is not a name: at most 253 lower-case letters, digits, "-" and ".", starting and ending with a letter or digit`,
    );
  }
}

export function checkNamespaceName(name: string, report: FieldReport): void {
  if (name !== name.toLowerCase() || !isDnsLabel(name)) {
    report.error(`${JSON.stringify(name.slice(0, 80))} is not a namespace: at most 63 lower-case letters, digits and "-"`);
  }
}
