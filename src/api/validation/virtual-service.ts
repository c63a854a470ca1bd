import type { ConfigObject } from "../kinds/object.ts";
import type { L4MatchAttributes, RouteDestination, TLSMatchAttributes, VirtualService } from "../kinds/virtual-service.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkDestination, checkGatewayNames, checkTotalWeight } from "./destination.ts";
import { claimPrefix } from "./headers.ts";
import { checkHttpRoute } from "./http-route.ts";
import { checkLabels } from "./labels.ts";
import { fqdnProblem, isDnsLabel, wildcardDomainProblem } from "./names.ts";
import { checkIpOrCidr, checkPort, isIpAddress } from "./scalars.ts";
import { checkExportTo } from "./selection.ts";
import { warnUnreachableRoutes } from "./unreachable-routes.ts";

export function validateVirtualService({ spec, metadata }: ConfigObject<VirtualService>, report: FieldReport): void {
  const isDelegate = spec.hosts.length === 0;
  if (isDelegate) {
    for (const field of ["gateways", "tls", "tcp"] as const) {
      if (spec[field].length > 0) report.at(field).error("can't be given without hosts: what others delegate to has http routes alone");
    }
  }
  // Without `mesh` among its gateways it is for gateways only; with it, or without any, sidecars follow it too.
  const isForGateways = spec.gateways.length > 0 && !spec.gateways.includes("mesh");
  checkGatewayNames(spec.gateways, report.at("gateways"));
  checkHosts(spec, isForGateways, report.at("hosts"));
  if (spec.http.length + spec.tls.length + spec.tcp.length === 0) report.error("has no routes: give http, tls or tcp");
  for (const [index, route] of spec.http.entries()) checkHttpRoute(route, isDelegate, report.at("http", index));
  if (!isForGateways) checkClaims(spec, report);
  for (const [index, route] of spec.tls.entries()) {
    const place = report.at("tls", index);
    if (route.match.length === 0) place.at("match").error("is empty: a TLS route matches by SNI hosts");
    for (const [at, match] of route.match.entries()) checkTlsMatch(match, spec, isForGateways, place.at("match", at));
    checkDestinations(route.route, place.at("route"));
  }
  for (const [index, route] of spec.tcp.entries()) {
    const place = report.at("tcp", index);
    for (const [at, match] of route.match.entries()) checkConnectionMatch(match, place.at("match", at));
    checkDestinations(route.route, place.at("route"));
  }
  checkExportTo(spec.exportTo, { namespace: metadata.namespace }, report.at("exportTo"));
  warnUnreachableRoutes(spec, report);
}

function checkHosts(spec: VirtualService, isForGateways: boolean, report: FieldReport): void {
  const sniHosts = spec.tls.some((route) => route.match.some((match) => match.sniHosts.length > 0));
  let areValid = true;
  for (const [index, host] of spec.hosts.entries()) {
    const problem = isForGateways && sniHosts ? sniHostProblem(host) : wildcardDomainProblem(host);
    const isBareWildcard = host === "*" && !isForGateways;
    if (problem && !isIpAddress(host)) report.at(index).error(problem);
    else if (isBareWildcard) report.at(index).error('"*" is for gateways: a sidecar would take all traffic by it');
    areValid &&= (!problem || isIpAddress(host)) && !isBareWildcard;
  }
  if (!areValid) return;
  for (const [index, host] of spec.hosts.entries()) {
    const earlier = spec.hosts.slice(0, index).find((other) => hostsOverlap(host, other));
    if (earlier !== undefined) report.at(index).error(`${JSON.stringify(host)} overlaps with ${JSON.stringify(earlier)}`);
  }
}

/** Whether some host fits both patterns. */
export function hostsOverlap(a: string, b: string): boolean {
  if (a.startsWith("*") && b.startsWith("*")) return a.slice(1).endsWith(b.slice(1)) || b.slice(1).endsWith(a.slice(1));
  if (a.startsWith("*")) return b.endsWith(a.slice(1));
  if (b.startsWith("*")) return a.endsWith(b.slice(1));
  return a === b;
}

/** Whether every host that fits `a` fits `b` too. */
export function isHostSubset(a: string, b: string): boolean {
  if (b.startsWith("*")) return a === b || (a.startsWith("*") ? a.slice(1) : a).endsWith(b.slice(1));
  return a === b;
}

/** Gateways between networks route by generated names, `outbound_.80_._.reviews.default.svc.cluster.local`. */
function sniHostProblem(host: string): string | undefined {
  if (!host.startsWith("outbound_")) return wildcardDomainProblem(host);
  const [, port = "", , name = ""] = host.split("_").map((part) => part.replaceAll(/^\.|\.$/g, ""));
  return /^\d+$/.test(port) ? fqdnProblem(name) : `${JSON.stringify(host)} is not of the form outbound_.PORT_._.HOST`;
}

/** Claims are known where the token is checked before routing: at gateways. */
function checkClaims(spec: VirtualService, report: FieldReport): void {
  for (const [index, route] of spec.http.entries()) {
    for (const [at, match] of route.match.entries()) {
      for (const field of ["headers", "withoutHeaders"] as const) {
        for (const name of Object.keys(match[field])) {
          if (name.startsWith(claimPrefix)) {
            report
              .at("http", index, "match", at, field, name)
              .error("matching by claims is for gateways: the route must name gateways, and not mesh");
          }
        }
      }
    }
  }
}

function checkTlsMatch(match: TLSMatchAttributes, spec: VirtualService, isForGateways: boolean, report: FieldReport): void {
  if (match.sniHosts.length === 0) report.at("sniHosts").error("is empty");
  for (const [index, host] of match.sniHosts.entries()) {
    const place = report.at("sniHosts", index);
    const problem = isForGateways ? sniHostProblem(host) : wildcardDomainProblem(host);
    if (isIpAddress(host)) place.warn(`${JSON.stringify(host)} is an IP address, which clients don't send as SNI`);
    else if (problem) place.error(problem);
    else if (!spec.hosts.some((other) => isHostSubset(host, other)))
      place.error(`${JSON.stringify(host)} is covered by none of the hosts ${spec.hosts.join(", ")}`);
  }
  checkConnectionMatch(match, report);
}

function checkConnectionMatch(match: L4MatchAttributes | TLSMatchAttributes, report: FieldReport): void {
  for (const [index, subnet] of match.destinationSubnets.entries()) checkIpOrCidr(subnet, report.at("destinationSubnets", index));
  if ("sourceSubnet" in match && match.sourceSubnet !== "") checkIpOrCidr(match.sourceSubnet, report.at("sourceSubnet"));
  if (match.port !== 0) checkPort(match.port, report.at("port"));
  checkLabels(match.sourceLabels, report.at("sourceLabels"));
  checkGatewayNames(match.gateways, report.at("gateways"));
  if (match.sourceNamespace !== "" && !isDnsLabel(match.sourceNamespace)) {
    report.at("sourceNamespace").error(`${JSON.stringify(match.sourceNamespace)} is not a namespace`);
  }
}

function checkDestinations(destinations: readonly RouteDestination[], report: FieldReport): void {
  if (destinations.length === 0) report.error("is empty: the route leads nowhere");
  for (const [index, { destination }] of destinations.entries()) {
    if (destination) checkDestination(destination, report.at(index, "destination"));
    else report.at(index, "destination").error("is missing");
  }
  checkTotalWeight(destinations, report);
}
