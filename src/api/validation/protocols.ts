const httpProtocols = new Set(["http", "http2", "http_proxy", "grpc", "grpc-web"]);
const tlsProtocols = new Set(["https", "tls"]);
const tcpProtocols = new Set(["tcp", "https", "tls", "mongo", "redis", "mysql"]);

/** Protocol names are compared without case: `HTTP`, `http`. */
export function isKnownProtocol(name: string): boolean {
  return isHttpProtocol(name) || isTcpProtocol(name) || name.toLowerCase() === "udp";
}

export function isHttpProtocol(name: string): boolean {
  return httpProtocols.has(name.toLowerCase());
}

/** Protocols whose bytes are TLS: HTTPS and TLS itself. */
export function isTlsProtocol(name: string): boolean {
  return tlsProtocols.has(name.toLowerCase());
}

/** What is carried as TCP, TLS included. */
export function isTcpProtocol(name: string): boolean {
  return tcpProtocols.has(name.toLowerCase());
}

export const protocolNames = "HTTP, HTTP2, HTTPS, GRPC, GRPC-WEB, TCP, TLS, UDP, MONGO, MYSQL, REDIS";
