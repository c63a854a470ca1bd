/**
 * What a port speaks. A Service says it by appProtocol or by the prefix of the port's name, an Istio object by its
 * protocol field; otherwise the proxy finds out by looking (`unsupported` asks for sniffing).
 * Source: Istio pkg/config/protocol/instance.go, pkg/config/kube/conversion.go.
 */
export type Protocol =
  | "HTTP"
  | "HTTP2"
  | "GRPC"
  | "GRPC-Web"
  | "HTTPS"
  | "TLS"
  | "TCP"
  | "UDP"
  | "Mongo"
  | "Redis"
  | "MySQL"
  | "HTTP_PROXY"
  | "unsupported";

const byName: Record<string, Protocol> = {
  tcp: "TCP",
  udp: "UDP",
  grpc: "GRPC",
  "grpc-web": "GRPC-Web",
  http: "HTTP",
  http2: "HTTP2",
  https: "HTTPS",
  tls: "TLS",
  mongo: "Mongo",
  redis: "Redis",
  mysql: "MySQL",
  http_proxy: "HTTP_PROXY",
};

/** From an Istio object's `protocol` field, any case; unknown text asks for sniffing. */
export function parseProtocol(text: string): Protocol {
  return byName[text.toLowerCase()] ?? "unsupported";
}

const appProtocols: Record<string, Protocol> = { "kubernetes.io/h2c": "HTTP2", "kubernetes.io/ws": "HTTP", "kubernetes.io/wss": "HTTPS" };

/** Server-first protocols that sniffing would stall: SMTP, DNS, MySQL, MongoDB. */
const portsThatAreTcp = new Set([25, 53, 3306, 27017]);

/** Of a Kubernetes Service's port. */
export function protocolOfServicePort(port: { port: number; name: string; protocol: string; appProtocol?: string | undefined }): Protocol {
  if (port.protocol === "UDP") return "UDP";
  if (port.appProtocol) {
    const protocol = appProtocols[port.appProtocol] ?? parseProtocol(port.appProtocol);
    if (protocol !== "unsupported") return protocol;
  }
  const name = port.name.toLowerCase();
  if (name === "grpc-web" || name.startsWith("grpc-web-")) return "GRPC-Web";
  const prefix = name.split("-", 1)[0] ?? "";
  const protocol = byName[prefix];
  if (protocol) return protocol;
  return portsThatAreTcp.has(port.port) ? "TCP" : "unsupported";
}

export function isHttp(protocol: Protocol): boolean {
  return protocol === "HTTP" || protocol === "HTTP2" || protocol === "GRPC" || protocol === "GRPC-Web" || protocol === "HTTP_PROXY";
}

export function isHttp2(protocol: Protocol): boolean {
  return protocol === "HTTP2" || protocol === "GRPC" || protocol === "GRPC-Web";
}

/** TLS that the proxy does not terminate: routed by SNI. */
export function isTls(protocol: Protocol): boolean {
  return protocol === "TLS" || protocol === "HTTPS";
}

export function isTcp(protocol: Protocol): boolean {
  return protocol === "TCP" || protocol === "Mongo" || protocol === "Redis" || protocol === "MySQL" || isTls(protocol);
}
