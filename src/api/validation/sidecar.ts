import type { ConfigObject } from "../kinds/object.ts";
import type { IstioEgressListener, IstioIngressListener, Sidecar, SidecarPort } from "../kinds/sidecar.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkDestination } from "./destination.ts";
import { checkNamespacedHost, fqdnProblem, isDnsLabel } from "./names.ts";
import { isHttpProtocol, isKnownProtocol, isTlsProtocol } from "./protocols.ts";
import { checkPort, checkUnixPath, isIpAddress, unixPrefix } from "./scalars.ts";
import { checkLabelSelector } from "./selection.ts";
import { checkServerTls } from "./server-tls.ts";
import { checkConnectionPool } from "./traffic-policy.ts";

export function validateSidecar({ spec, metadata }: ConfigObject<Sidecar>, report: FieldReport): void {
  checkLabelSelector(spec.workloadSelector, report.at("workloadSelector"));
  if (spec.egress.length === 0 && spec.ingress.length === 0 && !spec.outboundTrafficPolicy && !spec.inboundConnectionPool) {
    report.error("is empty: give ingress, egress, outboundTrafficPolicy or inboundConnectionPool");
  }
  const ingressPorts = new Set<number>();
  for (const [index, listener] of spec.ingress.entries()) checkIngress(listener, ingressPorts, report.at("ingress", index));
  checkConnectionPool(spec.inboundConnectionPool, report.at("inboundConnectionPool"));

  const [egressPorts, sockets] = [new Set<number>(), new Set<string>()];
  for (const [index, listener] of spec.egress.entries()) {
    const place = report.at("egress", index);
    if (!listener.port) {
      if (index < spec.egress.length - 1) place.at("port").error("is missing: only the last listener can do without");
    } else {
      checkEgressPort(listener, listener.port, place);
      const [seen, value] = listener.port.number === 0 ? [sockets, listener.bind] : [egressPorts, listener.port.number];
      if ((seen as Set<unknown>).has(value)) place.at("port").error(`${JSON.stringify(value)} is an earlier listener's too`);
      (seen as Set<unknown>).add(value);
    }
    checkEgressHosts(listener.hosts, metadata.namespace, place.at("hosts"));
  }
  checkOutboundPolicy(spec.outboundTrafficPolicy, report.at("outboundTrafficPolicy"));
}

function checkIngress(listener: IstioIngressListener, ports: Set<number>, report: FieldReport): void {
  const { port, tls, connectionPool } = listener;
  if (!port) {
    report.at("port").error("is missing");
    return;
  }
  checkPortName(port, report.at("port"));
  checkPort(port.number, report.at("port", "number"));
  checkBindAddress(listener.bind, report.at("bind"));
  if (ports.has(port.number)) report.at("port", "number").error(`${port.number} is an earlier listener's port too`);
  ports.add(port.number);
  checkDefaultEndpoint(listener.defaultEndpoint, report.at("defaultEndpoint"));
  if (tls) {
    const place = report.at("tls");
    for (const field of ["subjectAltNames", "credentialName", "credentialNames", "tlsCertificates"] as const) {
      if (tls[field].length > 0) place.at(field).error("is not supported for a sidecar");
    }
    if (tls.httpsRedirect) place.at("httpsRedirect").error("is not supported for a sidecar");
    if (tls.mode === "ISTIO_MUTUAL" || tls.mode === "AUTO_PASSTHROUGH")
      place.at("mode").error(`${tls.mode} is not supported for a sidecar`);
    if (!isTlsProtocol(port.protocol)) place.error(`can't be given for ${port.protocol || "an unknown protocol"}, only for HTTPS and TLS`);
    checkServerTls(tls, place);
  }
  checkConnectionPool(connectionPool, report.at("connectionPool"));
  if (connectionPool?.http && !isHttpProtocol(port.protocol))
    report.at("connectionPool", "http").warn(`has no meaning: the port's protocol is ${port.protocol || "not given"}`);
}

/** Where the application listens: an address of the workload's own, or a Unix socket. */
function checkDefaultEndpoint(endpoint: string, report: FieldReport): void {
  if (endpoint === "") return;
  if (endpoint.startsWith(unixPrefix)) {
    checkUnixPath(endpoint.slice(unixPrefix.length), report);
    return;
  }
  const match = /^(?:127\.0\.0\.1|0\.0\.0\.0|\[::1?\])?:(\d+)$/.exec(endpoint);
  if (match) checkPort(Number(match[1]), report);
  else report.error(`${JSON.stringify(endpoint)} is not 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///path`);
}

function checkPortName(port: SidecarPort, report: FieldReport): void {
  if (port.name !== "" && !isDnsLabel(port.name)) report.at("name").error(`${JSON.stringify(port.name)} is not a port's name`);
  if (port.protocol !== "" && !isKnownProtocol(port.protocol))
    report.at("protocol").error(`${JSON.stringify(port.protocol)} is not a protocol`);
  if (port.targetPort > 0) report.at("targetPort").error("has no meaning for a sidecar");
}

function checkBindAddress(bind: string, report: FieldReport): void {
  if (bind !== "" && !isIpAddress(bind)) report.error(`${JSON.stringify(bind)} is not an IP address`);
}

function checkEgressPort(listener: IstioEgressListener, port: SidecarPort, report: FieldReport): void {
  checkPortName(port, report.at("port"));
  if (port.number !== 0) {
    checkPort(port.number, report.at("port", "number"));
    checkBindAddress(listener.bind, report.at("bind"));
    return;
  }
  if (listener.bind.startsWith(unixPrefix)) checkUnixPath(listener.bind.slice(unixPrefix.length), report.at("bind"));
  else report.at("bind").error("must be a Unix socket (unix:///path) when the port is 0");
  if (listener.captureMode === "IPTABLES") report.at("captureMode").error("a Unix socket captures nothing: must be DEFAULT or NONE");
}

function checkEgressHosts(hosts: readonly string[], namespace: string, report: FieldReport): void {
  if (hosts.length === 0) report.error("is empty: a listener needs at least one host");
  const seen = new Map<string, Set<string>>();
  for (const [index, entry] of hosts.entries()) {
    const place = report.at(index);
    checkNamespacedHost(entry, place, { forGateway: false });
    const [owner = "", host] = entry.split("/");
    if (host === undefined || owner.startsWith("~")) continue;
    const meant = owner === "." ? namespace : owner;
    const known = seen.get(meant) ?? new Set();
    if (known.has(host) || known.has("*") || (host === "*" && known.size > 0))
      place.warn(`${JSON.stringify(entry)} is covered by another host`);
    seen.set(meant, known.add(host));
  }
  if (seen.get("*")?.has("*") && seen.size > 1) report.warn('"*/*" selects everything: the other hosts have no meaning');
}

function checkOutboundPolicy(policy: Sidecar["outboundTrafficPolicy"], report: FieldReport): void {
  if (!policy?.egressProxy) return;
  const place = report.at("egressProxy");
  if (policy.mode !== "ALLOW_ANY") place.error("is for mode ALLOW_ANY");
  if (fqdnProblem(policy.egressProxy.host)) place.at("host").error(`${JSON.stringify(policy.egressProxy.host)} is not a full domain name`);
  if (!policy.egressProxy.port) place.at("port").error("is missing");
  checkDestination(policy.egressProxy, place);
}
