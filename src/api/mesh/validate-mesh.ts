import { X509Certificate } from "node:crypto";
import { HostPortError, parseHostPort } from "../../lib/host-port.ts";
import { splitCertificates } from "../../lib/pem.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkLocalityLb, checkZoneAwareLb } from "../validation/locality.ts";
import { fqdnProblem, isDnsLabel, reportProblem, wildcardDomainProblem } from "../validation/names.ts";
import { checkRetries } from "../validation/retries.ts";
import { checkDuration, checkIpOrCidr, checkNotNegative, checkPort, isIpAddress } from "../validation/scalars.ts";
import { checkClientTls, checkConnectionPool, checkOutlierDetection } from "../validation/traffic-policy.ts";
import type { EffectiveMeshConfig } from "./decode-mesh.ts";
import type { CertificateData } from "./mesh-config.ts";
import type { MeshNetworks } from "./mesh-networks.ts";
import type { ProxyConfig } from "./proxy-config.ts";

const maxConnectTimeoutMs = 3_600_000;

/** What BoringSSL knows. */
const curves = new Set(["P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"]);

export function validateMeshConfig(mesh: EffectiveMeshConfig, report: FieldReport): void {
  checkPort(mesh.proxyListenPort, report.at("proxyListenPort"));
  checkPort(mesh.proxyInboundListenPort, report.at("proxyInboundListenPort"));
  checkDuration(mesh.connectTimeout, report.at("connectTimeout"));
  if (mesh.connectTimeout > maxConnectTimeoutMs) report.at("connectTimeout").error("must be at most 1h");
  if (mesh.protocolDetectionTimeout !== 0) checkDuration(mesh.protocolDetectionTimeout, report.at("protocolDetectionTimeout"));
  checkTrustDomain(mesh.trustDomain, report.at("trustDomain"));
  for (const [index, alias] of mesh.trustDomainAliases.entries()) checkTrustDomain(alias, report.at("trustDomainAliases", index));
  for (const [index, { hosts }] of mesh.serviceSettings.entries()) {
    for (const [at, host] of hosts.entries()) reportProblem(report.at("serviceSettings", index, "hosts", at), wildcardDomainProblem(host));
  }
  checkLocalityLb(mesh.localityLbSetting, true, report.at("localityLbSetting"));
  checkZoneAwareLb(mesh.zoneAwareLbSetting, true, report.at("zoneAwareLbSetting"));
  checkProxyConfig(mesh.defaultConfig, report.at("defaultConfig"));
  checkTls(mesh, report);
  for (const [index, data] of mesh.caCertificates.entries()) checkTrustAnchor(data, report.at("caCertificates", index));
  checkConnectionPool(mesh.defaultTrafficPolicy?.connectionPool, report.at("defaultTrafficPolicy", "connectionPool"));
  checkOutlierDetection(mesh.defaultTrafficPolicy?.outlierDetection, report.at("defaultTrafficPolicy", "outlierDetection"));
  checkRetries(mesh.defaultHttpRetryPolicy, report.at("defaultHttpRetryPolicy"));
  checkRetries(mesh.defaultInboundHttpRetryPolicy, report.at("defaultInboundHttpRetryPolicy"));
  const names = new Set<string>();
  for (const [index, { name }] of mesh.extensionProviders.entries()) {
    // Istio only logs what is wrong with providers, for nobody may use them.
    if (name === "") report.at("extensionProviders", index, "name").warn("is missing");
    else if (names.has(name)) report.at("extensionProviders", index, "name").warn(`${JSON.stringify(name)} names an earlier provider too`);
    names.add(name);
  }
}

function checkTls(mesh: EffectiveMeshConfig, report: FieldReport): void {
  if ((mesh.meshMTLS?.ecdhCurves.length ?? 0) > 0) report.at("meshMTLS", "ecdhCurves").error("can't be chosen for the mesh's own TLS");
  const seen = new Set<string>();
  for (const [index, curve] of (mesh.tlsDefaults?.ecdhCurves ?? []).entries()) {
    const place = report.at("tlsDefaults", "ecdhCurves", index);
    if (!curves.has(curve)) place.warn(`${JSON.stringify(curve)} is not a known curve`);
    else if (seen.has(curve)) place.warn(`${JSON.stringify(curve)} is given twice`);
    seen.add(curve);
  }
}

function checkTrustAnchor({ pem, spiffeBundleUrl, trustDomains }: CertificateData, report: FieldReport): void {
  if (pem) {
    const certificates = splitCertificates(pem);
    if (certificates.length === 0) report.at("pem").error("holds no certificate in PEM");
    for (const certificate of certificates) {
      try {
        if (!new X509Certificate(certificate).ca) report.at("pem").error("holds a certificate that is not one of an authority");
      } catch {
        report.at("pem").error("holds a certificate that can't be read");
      }
    }
  } else if (spiffeBundleUrl) {
    if (!URL.canParse(spiffeBundleUrl) || new URL(spiffeBundleUrl).protocol !== "https:")
      report.at("spiffeBundleUrl").error(`${JSON.stringify(spiffeBundleUrl)} is no https URL`);
  } else report.error("needs pem or spiffeBundleUrl");
  for (const [index, domain] of trustDomains.entries()) checkTrustDomain(domain, report.at("trustDomains", index));
}

function checkTrustDomain(domain: string, report: FieldReport): void {
  const labels = domain.split(".");
  const isValid = domain !== "" && labels.every((label, index) => isDnsLabel(label) || (label === "" && index === labels.length - 1));
  if (!isValid) report.error(`${JSON.stringify(domain)} is not a trust domain`);
}

function checkProxyConfig(config: ProxyConfig, report: FieldReport): void {
  for (const field of ["configPath", "binaryPath", "discoveryAddress"] as const)
    if (config[field] === "") report.at(field).error("is empty");
  if (config.serviceCluster === "") report.at("serviceCluster").error("is empty");
  checkDuration(config.drainDuration, report.at("drainDuration"));
  if ((config.drainDuration ?? 0) % 1000 !== 0) report.at("drainDuration").error("must be whole seconds");
  checkPort(config.proxyAdminPort, report.at("proxyAdminPort"));
  checkPort(config.statusPort, report.at("statusPort"));
  if (config.controlPlaneAuthPolicy === "INHERIT") report.at("controlPlaneAuthPolicy").error("must be NONE or MUTUAL_TLS");
  checkNotNegative(config.concurrency, report.at("concurrency"));
  const tracing = report.at("tracing");
  checkAddress(config.discoveryAddress, report.at("discoveryAddress"));
  checkAddress(config.statsdUdpAddress, report.at("statsdUdpAddress"));
  checkAddress(config.envoyMetricsService?.address, report.at("envoyMetricsService", "address"));
  checkAddress(config.envoyAccessLogService?.address, report.at("envoyAccessLogService", "address"));
  checkAddress(config.tracing?.zipkin?.address, tracing.at("zipkin", "address"));
  checkAddress(config.tracing?.datadog?.address, tracing.at("datadog", "address"));
  checkAddress(config.tracing?.lightstep?.address, tracing.at("lightstep", "address"));
  if (config.tracing?.lightstep?.accessToken === "") tracing.at("lightstep", "accessToken").error("is missing");
  checkClientTls(config.tracing?.tlsSettings, "", tracing.at("tlsSettings"));
  for (const provider of ["cryptomb", "qat"] as const) {
    const settings = config.privateKeyProvider?.[provider];
    if (settings && !settings.pollDelay) report.at("privateKeyProvider", provider, "pollDelay").error("must be given and not be 0");
  }
  checkConnectionSettings(config, report.at("connectionSettings"));
}

function checkConnectionSettings(config: ProxyConfig, report: FieldReport): void {
  const settings = config.connectionSettings;
  if (!settings) return;
  for (const [field, value] of Object.entries(settings)) {
    if (typeof value !== "number") continue;
    const least = field.endsWith("WindowSize") ? 65_535 : /Limit$|MaxConcurrentStreams$/.test(field) ? 1 : 0;
    if (value < least) report.at(field).error(`${value} is too small: must be at least ${least}`);
  }
}

/** `host:port`; `$(HOST_IP)` stands for an address that is known later. */
function checkAddress(address: string | undefined, report: FieldReport): void {
  if (address === undefined || address === "") return;
  let host: string;
  try {
    ({ host } = parseHostPort(address.replace("$(HOST_IP)", "127.0.0.1"), "address", "connect"));
  } catch (error) {
    if (!(error instanceof HostPortError)) throw error;
    report.error(error.reason);
    return;
  }
  if (!isIpAddress(host) && fqdnProblem(host)) report.error(`${JSON.stringify(host)} is neither a host name nor an IP address`);
}

export function validateMeshNetworks({ networks }: MeshNetworks, report: FieldReport): void {
  for (const [name, network] of Object.entries(networks)) {
    const place = report.at("networks", name);
    for (const [index, endpoint] of network.endpoints.entries()) {
      if (endpoint.fromCidr !== undefined) checkIpOrCidr(endpoint.fromCidr, place.at("endpoints", index, "fromCidr"));
      if (endpoint.fromRegistry !== undefined && !isDnsLabel(endpoint.fromRegistry)) {
        place.at("endpoints", index, "fromRegistry").error(`${JSON.stringify(endpoint.fromRegistry)} is not a registry's name`);
      }
    }
    for (const [index, gateway] of network.gateways.entries()) {
      const at = place.at("gateways", index);
      if (gateway.registryServiceName !== undefined) reportProblem(at.at("registryServiceName"), fqdnProblem(gateway.registryServiceName));
      if (gateway.address !== undefined && !isIpAddress(gateway.address)) reportProblem(at.at("address"), fqdnProblem(gateway.address));
      checkPort(gateway.port, at.at("port"));
    }
  }
}
