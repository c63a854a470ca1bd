import { isPrime } from "../../lib/prime.ts";
import type {
  ClientTLSSettings,
  ConnectionPoolSettings,
  LoadBalancerSettings,
  OutlierDetection,
  TrafficPolicy,
} from "../kinds/destination-rule.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkLocalityLb, checkZoneAwareLb } from "./locality.ts";
import { fqdnProblem } from "./names.ts";
import { checkDuration, checkNotNegative, checkPercent, checkPort, isIpAddress } from "./scalars.ts";

/** Envoy's largest Maglev table. */
const maxMaglevTableSize = 5_000_011;

export function checkTrafficPolicy(policy: TrafficPolicy | undefined, namespace: string, report: FieldReport): void {
  if (!policy) return;
  const { portLevelSettings, ...parts } = policy;
  if (Object.values(parts).every((part) => part === undefined) && portLevelSettings.length === 0) report.error("is empty");
  if (policy.tunnel && policy.proxyProtocol) report.error("only one of tunnel and proxyProtocol may be given");
  checkPolicyParts(policy, namespace, report);
  for (const [index, settings] of portLevelSettings.entries()) {
    const place = report.at("portLevelSettings", index);
    if (!settings.port) place.at("port").error("is missing");
    if (!settings.outlierDetection && !settings.connectionPool && !settings.loadBalancer && !settings.tls) place.error("has no settings");
    checkPolicyParts(settings, namespace, place);
  }
  if (policy.tunnel) checkTunnel(policy.tunnel, report.at("tunnel"));
}

interface PolicyParts {
  readonly outlierDetection?: OutlierDetection | undefined;
  readonly connectionPool?: ConnectionPoolSettings | undefined;
  readonly loadBalancer?: LoadBalancerSettings | undefined;
  readonly tls?: ClientTLSSettings | undefined;
}

function checkPolicyParts(parts: PolicyParts, namespace: string, report: FieldReport): void {
  checkOutlierDetection(parts.outlierDetection, report.at("outlierDetection"));
  checkConnectionPool(parts.connectionPool, report.at("connectionPool"));
  checkLoadBalancer(parts.loadBalancer, parts.outlierDetection !== undefined, report.at("loadBalancer"));
  checkClientTls(parts.tls, namespace, report.at("tls"));
}

function checkTunnel(tunnel: NonNullable<TrafficPolicy["tunnel"]>, report: FieldReport): void {
  if (!["", "CONNECT", "POST"].includes(tunnel.protocol))
    report.at("protocol").error(`${JSON.stringify(tunnel.protocol)} is neither CONNECT nor POST`);
  if (!isIpAddress(tunnel.targetHost) && fqdnProblem(tunnel.targetHost)) {
    report.at("targetHost").error(`${JSON.stringify(tunnel.targetHost)} is neither a domain name nor an IP address`);
  }
  checkPort(tunnel.targetPort, report.at("targetPort"));
}

export function checkOutlierDetection(outlier: OutlierDetection | undefined, report: FieldReport): void {
  if (!outlier) return;
  checkDuration(outlier.baseEjectionTime, report.at("baseEjectionTime"));
  checkDuration(outlier.interval, report.at("interval"));
  checkPercent(outlier.maxEjectionPercent, report.at("maxEjectionPercent"));
  checkPercent(outlier.minHealthPercent, report.at("minHealthPercent"));
  if (outlier.consecutiveErrors !== 0) {
    report.at("consecutiveErrors").warn("is deprecated: use consecutiveGatewayErrors or consecutive5xxErrors");
  }
  if (!outlier.splitExternalLocalOriginErrors && (outlier.consecutiveLocalOriginFailures ?? 0) > 0) {
    report.at("consecutiveLocalOriginFailures").error("needs splitExternalLocalOriginErrors: true");
  }
}

export function checkConnectionPool(pool: ConnectionPoolSettings | undefined, report: FieldReport): void {
  if (!pool) return;
  const { http, tcp } = pool;
  if (!http && !tcp) report.error("is empty: give http, tcp or both");
  if (http) {
    const place = report.at("http");
    for (const field of [
      "http1MaxPendingRequests",
      "http2MaxRequests",
      "maxRequestsPerConnection",
      "maxRetries",
      "maxConcurrentStreams",
    ] as const) {
      checkNotNegative(http[field], place.at(field));
    }
    checkDuration(http.idleTimeout, place.at("idleTimeout"));
    if (http.h2UpgradePolicy === "UPGRADE" && http.useClientProtocol)
      place.at("useClientProtocol").error("can't be given with h2UpgradePolicy: UPGRADE");
    if (http.http2KeepAlive) {
      for (const field of ["interval", "timeout"] as const) {
        const value = http.http2KeepAlive[field];
        if (value === undefined) place.at("http2KeepAlive", field).error("is missing");
        checkDuration(value, place.at("http2KeepAlive", field));
      }
    }
  }
  if (tcp) {
    const place = report.at("tcp");
    checkNotNegative(tcp.maxConnections, place.at("maxConnections"));
    checkDuration(tcp.connectTimeout, place.at("connectTimeout"));
    checkDuration(tcp.maxConnectionDuration, place.at("maxConnectionDuration"));
    // 0 turns the timeout off.
    if (tcp.idleTimeout !== 0) checkDuration(tcp.idleTimeout, place.at("idleTimeout"));
    checkDuration(tcp.tcpKeepalive?.time, place.at("tcpKeepalive", "time"));
    checkDuration(tcp.tcpKeepalive?.interval, place.at("tcpKeepalive", "interval"));
  }
}

function checkLoadBalancer(settings: LoadBalancerSettings | undefined, hasOutlierDetection: boolean, report: FieldReport): void {
  if (!settings) return;
  if (settings.consistentHash) checkConsistentHash(settings.consistentHash, report.at("consistentHash"));
  if (settings.localityLbSetting && settings.zoneAwareLbSetting)
    report.error("only one of localityLbSetting and zoneAwareLbSetting may be given");
  checkLocalityLb(settings.localityLbSetting, hasOutlierDetection, report.at("localityLbSetting"));
  checkZoneAwareLb(settings.zoneAwareLbSetting, hasOutlierDetection, report.at("zoneAwareLbSetting"));
  for (const field of ["weightExpirationPeriod", "weightStabilizationPeriod", "weightUpdatePeriod"] as const) {
    checkDuration(settings.backendUtilization?.[field], report.at("backendUtilization", field));
  }
  const { warmup } = settings;
  if (!warmup) return;
  const place = report.at("warmup");
  if (warmup.duration === undefined) place.at("duration").error("is missing");
  checkDuration(warmup.duration, place.at("duration"));
  checkPercent(warmup.minimumPercent, place.at("minimumPercent"));
  if (warmup.aggression !== undefined && !(warmup.aggression > 0)) place.at("aggression").error("must be greater than 0");
}

function checkConsistentHash(hash: NonNullable<LoadBalancerSettings["consistentHash"]>, report: FieldReport): void {
  if (hash.httpCookie) {
    const place = report.at("httpCookie");
    if (hash.httpCookie.name === "") place.at("name").error("is missing");
    const names = new Set<string>();
    for (const [index, { name }] of hash.httpCookie.attributes.entries()) {
      if (name === "") place.at("attributes", index, "name").error("is missing");
      else if (names.has(name)) place.at("attributes", index, "name").error(`${JSON.stringify(name)} is given twice`);
      names.add(name);
    }
  }
  if (hash.minimumRingSize !== 0) {
    report.at("minimumRingSize").warn("is deprecated: use ringHash.minimumRingSize");
    if (hash.ringHash || hash.maglev) report.error("only one of minimumRingSize, ringHash and maglev may be given");
  }
  if (hash.maglev) {
    const { tableSize } = hash.maglev;
    if (tableSize >= maxMaglevTableSize || !isPrime(tableSize)) {
      report.at("maglev", "tableSize").error(`${tableSize} is not a prime number below ${maxMaglevTableSize}`);
    }
  }
}

export function checkClientTls(tls: ClientTLSSettings | undefined, namespace: string, report: FieldReport): void {
  if (!tls) return;
  if (tls.credentialName.startsWith("configmap://")) {
    const [owner = "", name = "", ...rest] = tls.credentialName.slice("configmap://".length).split("/");
    if (rest.length > 0 || owner === "") report.at("credentialName").error("must be of the form configmap://namespace/name");
    else if (name !== "" && owner !== namespace)
      report.at("credentialName").error(`names a ConfigMap outside of namespace ${JSON.stringify(namespace)}`);
  }
  const isOneWay = tls.mode === "SIMPLE";
  const isMutual = tls.mode === "MUTUAL";
  if (tls.insecureSkipVerify && (isOneWay || isMutual)) {
    for (const field of ["caCertificates", "subjectAltNames", ...(isOneWay ? (["credentialName"] as const) : [])] as const) {
      if (tls[field].length > 0) report.at(field).error("can't be given with insecureSkipVerify, which checks nothing");
    }
  }
  if ((isOneWay || isMutual) && tls.credentialName !== "") {
    for (const field of ["clientCertificate", "privateKey", "caCertificates", "caCrl"] as const) {
      if (tls[field] !== "") report.at(field).error("can't be given with credentialName, which holds it");
    }
  } else if (isMutual) {
    for (const field of ["clientCertificate", "privateKey"] as const) {
      if (tls[field] === "") report.at(field).error("is missing: MUTUAL needs it, or a credentialName");
    }
  }
}
