/**
 * Networks of the mesh: in which one an endpoint is, and by which gateways the others reach it. Gateways are Services that carry the
 * label of a network, or are listed in MeshNetworks. Source: Istio pilot/pkg/model/network.go,
 * pilot/pkg/serviceregistry/kube/controller/network.go.
 */
import { isIP } from "node:net";
import type { ConfigObject } from "../api/kinds/object.ts";
import type { Service as KubernetesService } from "../api/kinds/service.ts";
import type { MeshNetworks } from "../api/mesh/mesh-networks.ts";
import { IpRange, parseIp } from "../lib/ip-range.ts";
import type { ObjectsOf } from "./registry.ts";

export const networkLabel = "topology.istio.io/network";
/** Port of a gateway's Service that passes mutual TLS on; 15443 without it. */
const gatewayPortLabel = "networking.istio.io/gatewayPort";
const defaultGatewayPort = 15443;

export interface NetworkGateway {
  readonly network: string;
  /** IP address. */
  readonly address: string;
  readonly port: number;
}

export class Networks {
  readonly #byNetwork = new Map<string, NetworkGateway[]>();
  readonly #ranges: { readonly network: string; readonly range: IpRange }[] = [];
  /** By the id of a cluster. */
  readonly #byRegistry = new Map<string, string>();
  /** Of the mesh's own machines: label of the system namespace. */
  readonly #home: string;
  /** Changes when anything does that a proxy could see. */
  readonly fingerprint: string;
  /** Weights are scaled by it, so that they can be divided among the gateways of any network. */
  readonly weightScale: number;
  /** What stands in the configuration and can't be used, for people. */
  readonly problems: readonly string[];

  constructor(objects: ObjectsOf, configured: MeshNetworks | undefined, systemNamespace: string) {
    const problems: string[] = [];
    const services = objects("Service") as ConfigObject<KubernetesService>[];
    const add = (gateway: NetworkGateway, source: string) => {
      if (isIP(gateway.address) === 0) {
        problems.push(`${source}: gateway ${gateway.address} of network ${gateway.network} is no IP address and is left out`);
        return;
      }
      const list = this.#byNetwork.get(gateway.network) ?? [];
      this.#byNetwork.set(gateway.network, list);
      if (!list.some(({ address, port }) => address === gateway.address && port === gateway.port)) list.push(gateway);
    };
    for (const service of services) {
      const network = service.metadata.labels[networkLabel];
      if (network === undefined) continue;
      const port = gatewayPort(service);
      for (const address of externalAddresses(service.spec)) add({ network, address, port }, `Service ${nameOf(service)}`);
    }
    for (const [network, { endpoints, gateways }] of Object.entries(configured?.networks ?? {})) {
      for (const { fromCidr, fromRegistry } of endpoints) {
        if (fromRegistry !== undefined) this.#byRegistry.set(fromRegistry, network);
        const [base = "", bits = ""] = fromCidr?.split("/") ?? [];
        const words = parseIp(base);
        if (words) this.#ranges.push({ network, range: new IpRange(words, Number(bits)) });
      }
      for (const { address, port, registryServiceName } of gateways) {
        if (address !== undefined) add({ network, address, port }, `network ${network}`);
        if (registryServiceName === undefined) continue;
        const named = services.find(
          (service) => registryServiceName.startsWith(`${nameOf(service)}.`) || registryServiceName === nameOf(service),
        );
        for (const one of named ? externalAddresses(named.spec) : []) add({ network, address: one, port }, `network ${network}`);
        if (!named) problems.push(`network ${network}: there is no Service ${registryServiceName}`);
      }
    }
    for (const list of this.#byNetwork.values())
      list.sort((a, b) => (a.address === b.address ? a.port - b.port : a.address < b.address ? -1 : 1));
    this.weightScale = [...this.#byNetwork.values()].reduce((scale, { length }) => leastCommonMultiple(scale, length), 1);
    this.problems = problems;
    const home = objects("Namespace").find(({ metadata }) => metadata.name === systemNamespace);
    this.#home = home?.metadata.labels[networkLabel] ?? "";
    this.fingerprint = JSON.stringify([this.gateways, this.#home, configured ?? null]);
  }

  /** Without gateways all networks are one. */
  get areSeveral(): boolean {
    return this.#byNetwork.size > 0;
  }

  gatewaysOf(network: string): readonly NetworkGateway[] {
    return this.#byNetwork.get(network) ?? [];
  }

  get gateways(): readonly NetworkGateway[] {
    return [...this.#byNetwork.values()].flat();
  }

  /** Of an endpoint that names none. */
  networkOf(address: string, clusterId: string): string {
    const words = this.#ranges.length > 0 ? parseIp(address) : null;
    const byRange = words && this.#ranges.find(({ range }) => range.contains(words));
    return byRange?.network ?? this.#byRegistry.get(clusterId) ?? this.#home;
  }
}

function gatewayPort({ metadata, spec }: ConfigObject<KubernetesService>): number {
  const labelled = Number(metadata.labels[gatewayPortLabel]);
  if (Number.isInteger(labelled) && labelled > 0 && labelled < 65536) return labelled;
  const { port = defaultGatewayPort, nodePort = 0 } = spec.ports.find((candidate) => candidate.port === defaultGatewayPort) ?? {};
  return spec.type === "NodePort" && nodePort > 0 ? nodePort : port;
}

function externalAddresses({ externalIPs, loadBalancer }: KubernetesService): string[] {
  return [...externalIPs, ...(loadBalancer?.ingress ?? []).map(({ ip, hostname }) => ip || hostname).filter(Boolean)];
}

function nameOf({ metadata }: ConfigObject): string {
  return `${metadata.name}.${metadata.namespace}`;
}

function leastCommonMultiple(a: number, b: number): number {
  const divisor = (x: number, y: number): number => (y === 0 ? x : divisor(y, x % y));
  return (a * b) / divisor(a, b);
}
