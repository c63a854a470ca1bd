/**
 * The ports of a workload that its sidecar serves: those of the services whose endpoint it is, or, when its Sidecar lists ingress
 * listeners, those alone. Listeners and clusters are both made from this. Source: Istio pilot/pkg/networking/core/listener_inbound.go
 * (buildInboundChainConfigs), cluster.go (buildInboundClusters).
 */
import type { IstioIngressListener } from "../../api/kinds/sidecar.ts";
import type { ProxyNode } from "../../api/node.ts";
import { type Protocol, parseProtocol } from "../../registry/protocol.ts";
import type { Service } from "../../registry/service.ts";
import type { PushContext } from "../push/push-context.ts";
import { type Addresses, wildcardAddresses } from "./bind-address.ts";

export interface InboundTarget {
  /** Of the workload. */
  readonly port: number;
  /** Of the service; an ingress listener's own. */
  readonly servicePort: number;
  /** What is spoken once TLS of the listener's own has ended. */
  readonly protocol: Protocol;
  /** Whose telemetry it is: a service, or the Sidecar. */
  readonly host: string;
  /** All services that are served there, the oldest first; its DestinationRule is the one that counts. */
  readonly services: readonly Service[];
  readonly ingress: IstioIngressListener | undefined;
  /** Addresses that the proxy listens on itself; undefined: traffic is redirected to it. */
  readonly binds: Addresses | undefined;
}

/** Sorted by port, each once. */
export function inboundTargets(proxy: ProxyNode, push: PushContext): readonly InboundTarget[] {
  const object = push.sidecarScope(proxy).object;
  const targets = object && object.spec.ingress.length > 0 ? ofSidecar(object, proxy, push) : ofServices(proxy, push);
  const reserved = reservedPorts(proxy, push);
  return targets
    .filter(({ port, binds }) => !reserved.has(port) && (binds === undefined || mayBind(port, proxy)))
    .sort((a, b) => a.port - b.port);
}

export function isIntercepted(proxy: ProxyNode): boolean {
  return proxy.metadata.INTERCEPTION_MODE !== "NONE";
}

/** Inbound packets reach the proxy as they are, by TPROXY rules: it takes them for any address, and calls the workload from the client's. */
export function isTransparent(proxy: ProxyNode): boolean {
  return proxy.metadata.INTERCEPTION_MODE === "TPROXY";
}

function ofServices(proxy: ProxyNode, push: PushContext): InboundTarget[] {
  // Without redirection the application has its ports itself; only a Sidecar can say where the proxy should listen.
  if (!isIntercepted(proxy)) return [];
  const byPort = new Map<number, InboundTarget & { readonly services: Service[] }>();
  for (const { service, endpoint } of push.registry.servicesAt(proxy)) {
    const servicePort = service.ports.find((candidate) => candidate.name === endpoint.portName);
    if (!servicePort || servicePort.protocol === "UDP" || endpoint.port === 0) continue;
    const known = byPort.get(endpoint.port);
    if (known) {
      if (!known.services.includes(service)) known.services.push(service);
      continue;
    }
    byPort.set(endpoint.port, {
      port: endpoint.port,
      servicePort: servicePort.number,
      protocol: servicePort.protocol,
      host: service.host,
      services: [service],
      ingress: undefined,
      binds: undefined,
    });
  }
  return [...byPort.values()];
}

type SidecarObject = NonNullable<ReturnType<PushContext["sidecarScope"]>["object"]>;

function ofSidecar({ spec, metadata }: SidecarObject, proxy: ProxyNode, push: PushContext): InboundTarget[] {
  const own = push.registry.servicesAt(proxy);
  return spec.ingress.flatMap((ingress) => {
    if (!ingress.port) return [];
    const { number } = ingress.port;
    const protocol = parseProtocol(ingress.port.protocol);
    const binds = ingress.captureMode === "NONE" || (ingress.captureMode === "DEFAULT" && !isIntercepted(proxy));
    if (!binds && !isIntercepted(proxy)) return [];
    return [
      {
        port: number,
        servicePort: number,
        protocol: ingress.tls ? insideTls(protocol) : protocol,
        host: `${metadata.name}.${metadata.namespace}`,
        services: [...new Set(own.filter(({ endpoint }) => endpoint.port === number).map(({ service }) => service))],
        ingress,
        binds: binds ? (ingress.bind ? [ingress.bind] : ownAddresses(proxy)) : undefined,
      },
    ];
  });
}

function insideTls(protocol: Protocol): Protocol {
  return protocol === "HTTPS" ? "HTTP" : protocol === "TLS" ? "TCP" : protocol;
}

/** Several workloads of one machine may have an address of 127.0.0.0/8 each, so such a one is as good as any other. */
function ownAddresses(proxy: ProxyNode): Addresses {
  const [first] = proxy.ipAddresses;
  return first === undefined || first === "127.0.0.1" || first === "::1" ? wildcardAddresses(proxy) : [first];
}

/** Of the listeners that every sidecar has. */
function reservedPorts({ metadata }: ProxyNode, { mesh }: PushContext): ReadonlySet<number> {
  return new Set([
    mesh.proxyListenPort || 15001,
    mesh.proxyInboundListenPort || 15006,
    Number(metadata.ENVOY_STATUS_PORT) || 15021,
    Number(metadata.ENVOY_PROMETHEUS_PORT) || 15090,
    // 0, which is no port, where there are none.
    Number(metadata.ENVOY_SECURE_METRICS_PORT) || 0,
    Number(metadata.ENVOY_SECURE_MERGED_METRICS_PORT) || 0,
  ]);
}

function mayBind(port: number, { metadata }: ProxyNode): boolean {
  return port >= 1024 || metadata.UNPRIVILEGED_POD !== "true";
}
