import type { Gateway, Server } from "../kinds/gateway.ts";
import type { ConfigObject } from "../kinds/object.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkNamespacedHost, isDnsLabel } from "./names.ts";
import { isHttpProtocol, isKnownProtocol, isTlsProtocol, protocolNames } from "./protocols.ts";
import { checkPort, checkUnixPath, isIpAddress, unixPrefix } from "./scalars.ts";
import { checkServerTls } from "./server-tls.ts";

export function validateGateway(object: ConfigObject<Gateway>, report: FieldReport): void {
  if (!isDnsLabel(object.metadata.name)) report.error(`a Gateway's name can't have dots: ${JSON.stringify(object.metadata.name)}`);
  if (object.spec.servers.length === 0) report.at("servers").error("is empty: a gateway needs at least one server");
  const portNames = new Set<string>();
  for (const [index, server] of object.spec.servers.entries()) {
    const place = report.at("servers", index);
    checkServer(server, place);
    if (!server.port) continue;
    if (portNames.has(server.port.name))
      place.at("port", "name").error(`${JSON.stringify(server.port.name)} names another server's port too`);
    portNames.add(server.port.name);
  }
}

function checkServer(server: Server, report: FieldReport): void {
  if (server.hosts.length === 0) report.at("hosts").error("is empty: a server needs at least one host");
  for (const [index, host] of server.hosts.entries()) checkNamespacedHost(host, report.at("hosts", index), { forGateway: true });
  checkBind(server, report);
  if (server.tls) checkServerTls(server.tls, report.at("tls"));
  if (!server.port) {
    report.at("port").error("is missing");
    return;
  }
  checkServerPort(server, report.at("port"));
  if (isKnownProtocol(server.port.protocol)) checkTlsFitsProtocol(server, server.port.protocol, report);
}

function checkServerPort(server: Server, report: FieldReport): void {
  const port = server.port as NonNullable<Server["port"]>;
  if (!isKnownProtocol(port.protocol))
    report.at("protocol").error(`${JSON.stringify(port.protocol)} is not a protocol: one of ${protocolNames}`);
  if (port.number > 0 || !server.bind.startsWith(unixPrefix)) checkPort(port.number, report.at("number"));
  if (port.targetPort > 0) report.at("targetPort").error("has no meaning for a gateway");
  if (port.name === "") report.at("name").error("is missing");
}

function checkBind(server: Server, report: FieldReport): void {
  const place = report.at("bind");
  if (server.bind.startsWith(unixPrefix)) {
    checkUnixPath(server.bind.slice(unixPrefix.length), place);
    if (server.port && server.port.number !== 0) report.at("port", "number").error("must be 0 for a Unix socket");
  } else if (server.bind !== "" && !isIpAddress(server.bind)) {
    place.error(`${JSON.stringify(server.bind)} is neither an IP address nor a Unix socket (unix:///path)`);
  }
}

function checkTlsFitsProtocol(server: Server, protocol: string, report: FieldReport): void {
  const { tls } = server;
  if (isTlsProtocol(protocol)) {
    if (!tls) report.at("tls").error(`is missing: ${protocol} needs TLS settings`);
  } else if (tls) {
    const isPassthrough = tls.mode === "PASSTHROUGH" || tls.mode === "AUTO_PASSTHROUGH";
    const hasFiles = tls.caCertificates !== "" || tls.privateKey !== "" || tls.serverCertificate !== "";
    if (!isHttpProtocol(protocol)) report.at("tls").error(`can't be given for ${protocol}, only for HTTPS and TLS`);
    else if (!isPassthrough || hasFiles) report.at("tls").error(`can't be given for ${protocol}, but for httpsRedirect`);
  }
  if (tls?.httpsRedirect && !isHttpProtocol(protocol)) report.at("tls", "httpsRedirect").warn("has a meaning for HTTP servers only");
}
