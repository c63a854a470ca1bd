/**
 * All the Gateways that select one proxy, as one table of ports and servers.
 *
 * Servers are merged in the order of their Gateways' creation: plaintext HTTP servers on one port and bind share a listener and
 * a route configuration; TLS servers on one port share a listener and differ by SNI; any other meeting is a conflict, and
 * the later server is left out and counted. Source: Istio pilot/pkg/model/gateway.go (mergeGateways).
 */
import type { Gateway, Server, ServerTLSSettings } from "../../api/kinds/gateway.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { ProxyNode } from "../../api/node.ts";
import { isHttp, isTcp, parseProtocol } from "../../registry/protocol.ts";
import { type Service, selectorMatches } from "../../registry/service.ts";

export interface GatewayServer {
  readonly server: Server;
  /** `namespace/name` of the Gateway. */
  readonly gateway: string;
  /** Port on which the proxy listens: the target port where a Service of the gateway translates it. */
  readonly port: number;
  /** Hosts as `namespace/host`, `*` for any namespace. */
  readonly hosts: readonly GatewayHost[];
  /** Name of its route configuration; "" for servers that carry no HTTP. */
  readonly routeName: string;
}

export interface GatewayHost {
  /** Namespace of the VirtualServices that may bind, `*` for any. */
  readonly namespace: string;
  readonly host: string;
}

/** Servers that share a listener. */
export interface GatewayListener {
  readonly port: number;
  readonly bind: string;
  readonly servers: GatewayServer[];
  readonly isPlainHttp: boolean;
}

export interface MergedGateway {
  readonly listeners: readonly GatewayListener[];
  readonly serversByRoute: ReadonlyMap<string, readonly GatewayServer[]>;
  /** `namespace/name` of all Gateways that took part. */
  readonly gateways: ReadonlySet<string>;
  /** Servers that could not be had, with the reason; counted in pilot_total_rejected_configs. */
  readonly conflicts: readonly { readonly gateway: string; readonly reason: string }[];
}

/** `translators`: services that lead to the proxy, the first that knows a port translates it. */
export function mergeGateways(gateways: readonly ConfigObject<Gateway>[], translators: readonly Service[]): MergedGateway {
  const listeners: GatewayListener[] = [];
  const serversByRoute = new Map<string, GatewayServer[]>();
  const conflicts: { gateway: string; reason: string }[] = [];
  const sniTaken = new Map<string, string>();
  const names = new Set<string>();

  for (const object of gateways) {
    const gateway = `${object.metadata.namespace}/${object.metadata.name}`;
    names.add(gateway);
    for (const server of object.spec.servers) {
      if (!server.port) continue;
      const reject = (reason: string) => conflicts.push({ gateway, reason });
      const port = translatePort(server.port.number, translators);
      const protocol = parseProtocol(server.port.protocol);
      const isPlainHttp = isHttp(protocol);
      if (!isPlainHttp && !isTcp(protocol)) {
        reject(`port ${server.port.number}: protocol ${server.port.protocol} can't be served`);
        continue;
      }
      const entry: GatewayServer = {
        server,
        gateway,
        port,
        hosts: server.hosts.map((host) => parseGatewayHost(host, object.metadata.namespace)),
        routeName: routeNameOf(server, port, object),
      };
      const listener = listeners.find((candidate) => candidate.port === port && candidate.bind === server.bind);
      const isTlsServer = server.tls !== undefined && !isPlainHttp;

      if (listener) {
        if (listener.isPlainHttp !== isPlainHttp || (!isPlainHttp && !isTlsServer)) {
          reject(`server ${server.port.name}: conflicts with another server on port ${port}`);
          continue;
        }
        // Two plain TCP servers can't be told apart, nor a plain one from TLS ones behind it.
        if (!isPlainHttp && listener.servers.some((other) => !other.server.tls)) {
          reject(`server ${server.port.name}: port ${port} already carries plain TCP`);
          continue;
        }
        if (!isPlainHttp && entry.routeName !== "" && serversByRoute.has(entry.routeName)) {
          reject(`server ${server.port.name}: port name is not unique for HTTPS on port ${port}`);
          continue;
        }
      }
      if (isTlsServer) {
        const taken = entry.hosts.filter(({ host }) => sniTaken.has(`${port}|${server.bind}|${host}`));
        if (taken.length > 0) {
          reject(`server ${server.port.name}: host ${taken.map(({ host }) => host).join(", ")} is served already on port ${port}`);
          continue;
        }
        for (const { host } of entry.hosts) sniTaken.set(`${port}|${server.bind}|${host}`, gateway);
      }
      if (listener) listener.servers.push(entry);
      else listeners.push({ port, bind: server.bind, servers: [entry], isPlainHttp });
      if (entry.routeName !== "") {
        const list = serversByRoute.get(entry.routeName);
        if (list) list.push(entry);
        else serversByRoute.set(entry.routeName, [entry]);
      }
    }
  }
  return { listeners, serversByRoute, gateways: names, conflicts };
}

/** TLS that ends here. */
export function terminatesTls(tls: ServerTLSSettings | undefined): boolean {
  return tls !== undefined && tls.mode !== "PASSTHROUGH" && tls.mode !== "AUTO_PASSTHROUGH";
}

/** Whether some server passes the mesh's own TLS on, by clusters that no other gateway has. */
export function passesByServerName({ listeners }: MergedGateway): boolean {
  return listeners.some(({ servers }) => servers.some(({ server }) => server.tls?.mode === "AUTO_PASSTHROUGH"));
}

/** Plaintext servers share `http.<port>[.<bind>]`; an HTTPS server has a route configuration of its own. */
function routeNameOf(server: Server, port: number, object: ConfigObject<Gateway>): string {
  const protocol = parseProtocol(server.port?.protocol ?? "");
  const bind = server.bind ? `.${server.bind}` : "";
  if (isHttp(protocol)) return `http.${port}${bind}`;
  if (protocol === "HTTPS" && terminatesTls(server.tls)) {
    return `https.${server.port?.number}.${server.port?.name}.${object.metadata.name}.${object.metadata.namespace}${bind}`;
  }
  return "";
}

/** Istio's, of a Service whose target ports are nothing to gateways. */
const untranslatedLabel = "experimental.istio.io/disable-gateway-port-translation";

/**
 * Whether a Service at the proxy's address is a way to the proxy. A machine's address may be that of other gateways too, of applications, and
 * of the control plane.
 */
export function translatesPorts({ registry, selector, labels }: Service, proxy: ProxyNode): boolean {
  return registry === "Kubernetes" && !(untranslatedLabel in labels) && selectorMatches(selector, proxy.labels);
}

function translatePort(number: number, services: readonly Service[]): number {
  for (const service of services) {
    const port = service.ports.find((candidate) => candidate.number === number);
    if (port) return port.targetPort;
  }
  return number;
}

function parseGatewayHost(text: string, namespace: string): GatewayHost {
  const slash = text.indexOf("/");
  if (slash < 0) return { namespace: "*", host: text.toLowerCase() };
  const given = text.slice(0, slash);
  return { namespace: given === "." ? namespace : given, host: text.slice(slash + 1).toLowerCase() };
}
