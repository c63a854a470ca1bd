import type { ConfigObject, ObjectMeta } from "../kinds/object.ts";
import type { ServiceEntry } from "../kinds/service-entry.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { fqdnProblem, isDnsLabel, partialWildcardProblem, wildcardDomainProblem } from "./names.ts";
import { isHttpProtocol, isKnownProtocol, isTcpProtocol, isTlsProtocol } from "./protocols.ts";
import { checkIpOrCidr, checkPort } from "./scalars.ts";
import { checkExportTo, checkLabelSelector } from "./selection.ts";
import { checkWorkload } from "./workload-entry.ts";

export function validateServiceEntry({ spec, metadata }: ConfigObject<ServiceEntry>, report: FieldReport): void {
  checkLabelSelector(spec.workloadSelector, report.at("workloadSelector"));
  if (spec.workloadSelector && spec.endpoints.length > 0) report.error("only one of workloadSelector and endpoints may be given");
  checkHosts(spec, report.at("hosts"));
  for (const [index, address] of spec.addresses.entries()) {
    const place = report.at("addresses", index);
    checkIpOrCidr(address, place);
    if (address.includes("/") && spec.resolution !== "NONE" && spec.resolution !== "STATIC") {
      place.error(`a block of addresses is for resolution NONE and STATIC, not for ${spec.resolution}`);
    }
  }
  checkPorts(spec, metadata, report.at("ports"));
  checkResolution(spec, metadata, report);
  if (spec.resolution !== "NONE" && spec.hosts.length > 1) {
    const index = spec.ports.findIndex((port) => !isHttpProtocol(port.protocol) && !isTlsProtocol(port.protocol));
    if (index >= 0) report.at("ports", index, "protocol").error("several hosts can't be told apart on a port that is neither HTTP nor TLS");
  }
  checkExportTo(spec.exportTo, { namespace: metadata.namespace, allowsNone: true }, report.at("exportTo"));
}

function checkHosts(spec: ServiceEntry, report: FieldReport): void {
  if (spec.hosts.length === 0) report.error("is empty: a service needs at least one host");
  for (const [index, host] of spec.hosts.entries()) {
    const problem = wildcardDomainProblem(host);
    if (host === "*") report.at(index).error('"*" is no host: it would take all traffic');
    else if (problem) report.at(index).error(problem);
    else if (spec.resolution !== "DYNAMIC_DNS") {
      const partial = partialWildcardProblem(host);
      if (partial) report.at(index).warn(partial);
    }
  }
}

function checkPorts(spec: ServiceEntry, metadata: ObjectMeta, report: FieldReport): void {
  const [names, numbers] = [new Set<string>(), new Set<number>()];
  for (const [index, port] of spec.ports.entries()) {
    const place = report.at(index);
    if (!isDnsLabel(port.name)) place.at("name").error(`${JSON.stringify(port.name)} is not a port's name: letters, digits and "-"`);
    if (names.has(port.name)) place.at("name").error(`${JSON.stringify(port.name)} names an earlier port too`);
    if (numbers.has(port.number)) place.at("number").error(`${port.number} is an earlier port's number too`);
    names.add(port.name);
    numbers.add(port.number);
    checkPort(port.number, place.at("number"));
    if (port.targetPort !== 0) checkPort(port.targetPort, place.at("targetPort"));
    if (port.protocol !== "" && !isKnownProtocol(port.protocol))
      place.at("protocol").error(`${JSON.stringify(port.protocol)} is not a protocol`);
    if (spec.addresses.length === 0 && ["", "TCP"].includes(port.protocol) && !getsAddress(spec, metadata)) {
      place.warn("TCP without an address takes all traffic to this port: give addresses");
    }
  }
}

/** Whether the control plane hands out an address of its own. */
function getsAddress(spec: ServiceEntry, metadata: ObjectMeta): boolean {
  if (metadata.labels["networking.istio.io/enable-autoallocate-ip"]?.toLowerCase() === "false") return false;
  return spec.resolution !== "NONE" && spec.hosts.some((host) => !host.startsWith("*"));
}

function checkResolution(spec: ServiceEntry, metadata: ObjectMeta, report: FieldReport): void {
  const servicePorts = new Set(spec.ports.map((port) => port.name));
  const { endpoints, hosts, resolution } = spec;
  switch (resolution) {
    case "NONE":
      if (endpoints.length > 0) report.at("endpoints").error("can't be given with resolution NONE, which goes where the client wanted");
      if (spec.workloadSelector) report.at("workloadSelector").warn("has no meaning with resolution NONE");
      break;
    case "STATIC":
      for (const [index, endpoint] of endpoints.entries())
        checkWorkload(endpoint, { allowsNames: false, servicePorts }, report.at("endpoints", index));
      break;
    case "DNS":
    case "DNS_ROUND_ROBIN": {
      const unresolvable = hosts.findIndex((host) => fqdnProblem(host));
      if (endpoints.length === 0 && unresolvable >= 0)
        report.at("hosts", unresolvable).error(`must be a full name to be resolved, or endpoints must be given`);
      if (resolution === "DNS_ROUND_ROBIN" && endpoints.length > 1)
        report.at("endpoints").error("resolution DNS_ROUND_ROBIN has at most one endpoint");
      for (const [index, endpoint] of endpoints.entries())
        checkWorkload({ ...endpoint, network: "" }, { allowsNames: true, servicePorts }, report.at("endpoints", index));
      if (spec.addresses.length > 0 && hosts.length > 1 && spec.ports.some((port) => isTcpProtocol(port.protocol))) {
        report.at("hosts").warn("several hosts with addresses and a TCP port can't be told apart");
      }
      break;
    }
    case "DYNAMIC_DNS":
      checkDynamicDns(spec, metadata, report);
      break;
    default:
      resolution satisfies never;
  }
}

function checkDynamicDns(spec: ServiceEntry, metadata: ObjectMeta, report: FieldReport): void {
  for (const [index, host] of spec.hosts.entries()) {
    if (!host.startsWith("*")) report.at("hosts", index).error("must be a wildcard with resolution DYNAMIC_DNS");
  }
  if (spec.addresses.length > 0) report.at("addresses").error("can't be given with resolution DYNAMIC_DNS");
  if (spec.endpoints.length > 0) report.at("endpoints").error("can't be given with resolution DYNAMIC_DNS");
  for (const [index, port] of spec.ports.entries()) {
    if (!["http", "tls", "grpc", "http2"].includes(port.protocol.toLowerCase())) {
      report
        .at("ports", index, "protocol")
        .error(`${JSON.stringify(port.protocol)} names no host: resolution DYNAMIC_DNS is for HTTP, HTTP2, GRPC and TLS`);
    }
  }
  const waypoint = metadata.labels["istio.io/use-waypoint"] ?? "";
  if (spec.location === "MESH_INTERNAL" && waypoint !== "" && waypoint.toLowerCase() !== "none") {
    report.at("location").error("MESH_INTERNAL is not supported with resolution DYNAMIC_DNS and a waypoint");
  }
}
