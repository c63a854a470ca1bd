/**
 * Between codec and filters: the checks that answer a request at once, and the headers that say who asks (reference 2.1, 2.3
 * and 2.4). The order is Envoy's, because what one step removes the next must not see.
 */
import { randomUUID } from "node:crypto";
import { isIP } from "node:net";
import type { HeaderList } from "../stream-info.ts";
import { clientCertificateHeader } from "../tls/client-certificate-header.ts";
import type { ConnectionManager } from "./connection-manager.ts";
import { appendVia } from "./connection-manager-headers.ts";
import { getHeader, hasHeader, removeHeader, removeHeaders, setHeader } from "./header-list.ts";
import type { HttpStream } from "./http-stream.ts";
import { normalizePath } from "./path-normalization.ts";

const authority = /^[A-Za-z0-9\-._~%!$&'()*+,;=:@[\]]*$/;

/** Headers that only internal callers may send. */
const internalOnly = new Set([
  "x-envoy-internal",
  "x-envoy-expected-rq-timeout-ms",
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-upstream-rq-per-try-timeout-ms",
  "x-envoy-upstream-rq-timeout-alt-response",
  "x-envoy-upstream-alt-stat-name",
  "x-envoy-max-retries",
  "x-envoy-retry-on",
  "x-envoy-retry-grpc-on",
  "x-envoy-retriable-status-codes",
  "x-envoy-retriable-header-names",
  "x-envoy-hedge-on-per-try-timeout",
  "x-envoy-ip-tags",
  "x-envoy-original-url",
  "x-envoy-force-trace",
]);
const edgeOnly = new Set([
  ...internalOnly,
  "x-envoy-decorator-operation",
  "x-envoy-original-path",
  "x-envoy-original-host",
  "x-envoy-downstream-service-cluster",
  "x-envoy-downstream-service-node",
]);
const hopByHop = new Set(["keep-alive", "proxy-connection", "http2-settings"]);

/** What a request says of its connection, which is not among its headers. */
export interface RequestFraming {
  /** null: it names none. */
  readonly host: string | null;
  readonly expect: string;
  /** The rest only HTTP/1 has: "" for what is not there. */
  readonly connection: string;
  readonly upgrade: string;
  readonly hasHopByHop: boolean;
  /** Where among the headers they stood. */
  readonly connectionAt: number;
  readonly upgradeAt: number;
  readonly isUpgradeFirst: boolean;
}

/** False when the request was answered. Fills `stream.info` and `stream.route`. Hot. */
export function prepareRequest(stream: HttpStream, framing: RequestFraming): boolean {
  const { manager, info } = stream;
  if (!manager.proxies100Continue && framing.expect !== "" && framing.expect.toLowerCase() === "100-continue") {
    removeHeader(info.requestHeaders, "expect");
  }
  if (!checkHost(stream, framing)) return false;
  if (!checkPath(stream)) return false;
  if (manager.stripsMatchingPort || manager.stripsAnyPort || manager.stripsTrailingDot) stripHost(stream);
  // An upgrade to h2c is never taken: the request goes on as if it had not been asked for.
  if (framing.upgrade !== "" && isUpgradeRequest(framing) && framing.upgrade.toLowerCase() !== "h2c") {
    stream.upgrade = framing.upgrade.toLowerCase();
    // What follows the head belongs to the other protocol: the request does not end.
    stream.requestIsComplete = false;
    info.requestEndTime = -1;
  }
  sanitizeHopByHop(stream, framing);
  mutateTrustHeaders(stream);
  if (info.method === "QUERY" && !hasHeader(info.requestHeaders, "content-type")) {
    stream.closesConnection = true;
    stream.sendLocalReply(400, "", "query_missing_content_type");
    return false;
  }
  stream.resolveRoute();
  if (stream.upgrade !== "" || info.method === "CONNECT") return checkUpgrade(stream, framing);
  return true;
}

function checkHost(stream: HttpStream, framing: RequestFraming): boolean {
  const { info, manager } = stream;
  // Connection may name Host like any other header: then the request has none.
  const isDropped = framing.host !== null && framing.connection !== "" && /(?:^|,)[ \t]*host[ \t]*(?:,|$)/i.test(framing.connection);
  if (isDropped) info.authority = "";
  if (framing.host === null || isDropped) {
    if (stream.isHttp10 && manager.defaultHost10 !== "") info.authority = manager.defaultHost10;
    else if (info.authority === "") {
      if (!manager.keepsConnectionOnInvalid) stream.closesConnection = true;
      stream.sendLocalReply(400, "", "missing_host_header");
      return false;
    }
  }
  return true;
}

export function isValidAuthority(host: string): boolean {
  return authority.test(host);
}

function checkPath(stream: HttpStream): boolean {
  const { info, manager } = stream;
  const { store, at } = manager.stats;
  if (info.path.charCodeAt(0) !== 47) {
    if (info.method === "CONNECT") return true;
    store.add(at.downstream_rq_non_relative_path, 1);
    stream.sendLocalReply(404, "", "absolute_path_rejected");
    return false;
  }
  const { path } = manager;
  if (!path.normalizes && !path.mergesSlashes && path.escapedSlashes === "keep" && info.path.indexOf("#") < 0) return true;
  const outcome = normalizePath(info.path, path);
  switch (outcome.kind) {
    case "path":
      info.path = outcome.path;
      return true;
    case "reject":
      store.add(at.downstream_rq_failed_path_normalization, 1);
      info.path = outcome.path;
      if (!manager.keepsConnectionOnInvalid) stream.closesConnection = true;
      stream.sendLocalReply(400, "", "path_normalization_failed");
      return false;
    case "redirect":
      store.add(at.downstream_rq_redirected_with_normalized_path, 1);
      info.path = outcome.path;
      stream.sendLocalReply(307, "", "path_normalization_failed", ["location", outcome.path]);
      return false;
    default:
      return outcome satisfies never;
  }
}

function stripHost(stream: HttpStream): void {
  const { info, manager, connection } = stream;
  let host = info.authority;
  if (manager.stripsTrailingDot) host = host.replace(/\.(?=:\d+$|$)/, "");
  const port = /:(\d+)$/.exec(host)?.[1];
  if (port !== undefined && (manager.stripsAnyPort || (manager.stripsMatchingPort && Number(port) === connection.localPort))) {
    host = host.slice(0, -port.length - 1);
  }
  info.authority = host;
}

function isUpgradeRequest(framing: RequestFraming): boolean {
  return /(?:^|,)[ \t]*upgrade[ \t]*(?:,|$)/i.test(framing.connection);
}

/** Drops what is meant for this hop only. Only walked when the head had such headers. */
function sanitizeHopByHop(stream: HttpStream, framing: RequestFraming): void {
  const headers = stream.info.requestHeaders;
  if (framing.hasHopByHop) {
    removeHeaders(headers, hopByHop);
    const te = getHeader(headers, "te");
    if (te !== undefined) {
      if (te.split(",").some((part) => part.trim().toLowerCase().split(";")[0] === "trailers")) setHeader(headers, "te", "trailers");
      else removeHeader(headers, "te");
    }
  }
  if (framing.connection !== "" && stream.upgrade === "") {
    for (const nominated of framing.connection.split(",")) {
      const name = nominated.trim().toLowerCase();
      if (name === "close" || name === "keep-alive" || name === "upgrade" || name === "") continue;
      if (name === "te") continue;
      removeHeader(headers, name);
    }
  }
}

const maxNominated = 10;
/** Headers that a client must not have removed by naming them in Connection. */
const notNominated = new Set(["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);

export function acceptsConnectionHeader(connection: string): boolean {
  const names = connection.split(",");
  if (names.length > maxNominated) return false;
  for (const written of names) {
    const name = written.trim().toLowerCase();
    if (name.startsWith(":") || notNominated.has(name)) return false;
  }
  return true;
}

function mutateTrustHeaders(stream: HttpStream): void {
  const { manager, info, connection } = stream;
  const headers = info.requestHeaders;
  // One walk finds all that matters; most requests have none of it.
  let xff: string | undefined;
  let xffAt = -1;
  let protoAt = -1;
  let portAt = -1;
  let idAt = -1;
  let hasEnvoyHeaders = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (name.charCodeAt(0) !== 120 /* x */) continue;
    if (name === "x-forwarded-for") {
      xff = xff === undefined ? headers[i + 1]! : `${xff},${headers[i + 1]!}`;
      if (xffAt < 0) xffAt = i;
    } else if (name === "x-forwarded-proto") protoAt = i;
    else if (name === "x-forwarded-port") portAt = i;
    else if (name === "x-request-id") idAt = i;
    else if (name.startsWith("x-envoy-")) hasEnvoyHeaders = true;
  }
  let remoteIp = connection.remoteIp;
  let remoteAddress = info.downstreamRemoteAddress;
  let isSingleXff = false;
  const scheme = connection.isTls ? "https" : "http";
  if (manager.usesRemoteAddress) {
    isSingleXff = xff === undefined;
    if (manager.trustedHops > 0) {
      const trusted = addressFromXff(xff, manager.trustedHops - 1);
      if (trusted !== null) {
        remoteIp = trusted;
        remoteAddress = trusted;
      }
    }
    if (manager.appendsXff) {
      const peer = connection.remoteIsLoopback ? manager.localIp : connection.remoteIp;
      if (xffAt < 0) headers.push("x-forwarded-for", peer);
      else setHeader(headers, "x-forwarded-for", `${xff},${peer}`);
    }
    if (protoAt < 0) headers.push("x-forwarded-proto", scheme);
    else if (manager.trustedHops === 0) setHeader(headers, "x-forwarded-proto", scheme);
    if (manager.appendsForwardedPort && (portAt < 0 || manager.trustedHops === 0)) {
      setHeader(headers, "x-forwarded-port", String(connection.localPort));
    }
  } else {
    const trusted = xff === undefined ? null : addressFromXff(xff, manager.trustedHops);
    if (trusted !== null) {
      remoteIp = trusted;
      remoteAddress = trusted;
      isSingleXff = xff !== undefined && !xff.includes(",");
    }
    if (protoAt < 0) headers.push("x-forwarded-proto", scheme);
    if (manager.appendsForwardedPort && portAt < 0) headers.push("x-forwarded-port", String(connection.localPort));
  }
  if (manager.via !== "") appendVia(headers, manager.via);
  if (remoteAddress !== info.downstreamRemoteAddress) info.downstreamRemoteAddress = remoteAddress;
  if (manager.schemeOverwrite !== "") setHeader(headers, "x-forwarded-proto", manager.schemeOverwrite);
  info.scheme =
    manager.schemeOverwrite ||
    (protoAt < 0 || (manager.usesRemoteAddress && manager.trustedHops === 0) ? scheme : schemeOf(headers, scheme));
  const isInternal = isSingleXff && manager.internalAddresses !== null && isInternalAddress(manager, remoteIp);
  const isEdge = !isInternal && manager.usesRemoteAddress;
  stream.isInternal = isInternal;
  if (isInternal) {
    if (hasEnvoyHeaders) removeHeader(headers, "x-envoy-internal");
    headers.push("x-envoy-internal", "true");
  } else {
    if (hasEnvoyHeaders) removeHeaders(headers, isEdge ? edgeOnly : internalOnly);
    const table = manager.routeTable;
    if (table !== null && table.internalOnlyHeaders.size > 0) removeHeaders(headers, table.internalOnlyHeaders);
  }
  if (manager.userAgentCluster !== "") {
    setHeader(headers, "x-envoy-downstream-service-cluster", manager.userAgentCluster);
    if (!hasHeader(headers, "user-agent")) headers.push("user-agent", manager.userAgentCluster);
  }
  if (isEdge) setHeader(headers, "x-envoy-external-address", remoteIp);
  if (manager.generatesRequestId) {
    if (idAt < 0) headers.push("x-request-id", randomUUID());
    else if (isEdge && !manager.preservesExternalRequestId) setHeader(headers, "x-request-id", randomUUID());
  }
  if (manager.clientCertificates.mode !== "sanitize" || hasHeader(headers, "x-forwarded-client-cert")) {
    clientCertificateHeader(stream, manager.clientCertificates);
  }
}

function schemeOf(headers: readonly string[], fallback: string): string {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] !== "x-forwarded-proto") continue;
    const proto = headers[i + 1]!.toLowerCase();
    return proto === "http" || proto === "https" ? proto : fallback;
  }
  return fallback;
}

/** The address `skip` entries before the last, or null when there is none that parses. */
function addressFromXff(xff: string | undefined, skip: number): string | null {
  if (xff === undefined) return null;
  let end = xff.length;
  for (let left = skip; left > 0; left--) {
    end = xff.lastIndexOf(",", end - 1);
    if (end < 0) return null;
  }
  const text = xff.slice(xff.lastIndexOf(",", end - 1) + 1, end).trim();
  return isIP(text) === 0 ? null : text;
}

function isInternalAddress(manager: ConnectionManager, ip: string): boolean {
  return manager.internalAddresses!.check(ip, ip.includes(":") ? "ipv6" : "ipv4");
}

/** Only configured upgrades pass; the route's word beats the manager's. */
function checkUpgrade(stream: HttpStream, framing: RequestFraming): boolean {
  const { manager, info } = stream;
  const type = info.method === "CONNECT" ? "connect" : stream.upgrade;
  const action = stream.route?.action;
  const byRoute = action?.kind === "forward" ? action.upgrades.get(type) : undefined;
  const allowed = byRoute ?? manager.upgrades.get(type) ?? false;
  if (info.method === "CONNECT") {
    // A CONNECT without a route that matches it is answered by the router: 404.
    if (stream.route === null) return true;
    stream.upgrade = "connect";
    stream.requestIsComplete = false;
    info.requestEndTime = -1;
    if (allowed) return true;
  }
  if (!allowed) {
    manager.stats.store.add(manager.stats.at.downstream_rq_ws_on_non_ws_route, 1);
    stream.closesConnection = true;
    stream.sendLocalReply(403, "", "upgrade_failed");
    return false;
  }
  restoreUpgrade(info.requestHeaders, framing);
  return true;
}

/** Puts Connection and Upgrade back where they stood. Headers before them may have gone, so the places are at most these. */
export function restoreUpgrade(headers: HeaderList, framing: RequestFraming): void {
  const lines: [number, string, string][] = [
    [framing.connectionAt, "connection", framing.connection],
    [framing.upgradeAt, "upgrade", framing.upgrade],
  ];
  if (framing.isUpgradeFirst) lines.reverse();
  lines.sort((a, b) => a[0] - b[0]);
  for (const [index, [at, name, value]] of lines.entries()) {
    if (at >= 0) headers.splice(Math.min(at + 2 * index, headers.length), 0, name, value);
  }
}
