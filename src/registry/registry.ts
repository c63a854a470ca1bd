/**
 * What the configuration means: the services of the mesh and the endpoints behind them.
 *
 * Pure: objects in, services and endpoints out. Services are read when the registry is made; a service's endpoints only when
 * somebody asks, then kept. `changedEndpoints` tells which services answer differently than in an older registry, which is
 * how an endpoint change becomes an EDS push for a few clusters instead of a push of everything.
 *
 * A registry that follows another takes over from it what is still true: a service, or the endpoints of one, that say the same as before are
 * the same object as before. What is made from them can be kept by that, and comparing them costs nothing.
 *
 *   Service + EndpointSlice/Endpoints/Pod/WorkloadEntry ─┐
 *   ServiceEntry + endpoints/WorkloadEntry/Pod ──────────┴─> Service[] ──> Endpoint[]
 */

import { isDeepStrictEqual } from "node:util";
import type { ConfigObject } from "../api/kinds/object.ts";
import type { Service as KubernetesService } from "../api/kinds/service.ts";
import type { ServiceEntry } from "../api/kinds/service-entry.ts";
import { isTrue, type ProxyNode } from "../api/node.ts";
import { sameElements } from "../lib/same-elements.ts";
import { type AddressAllocation, AllocatedAddresses, hashedAllocation } from "./allocated-addresses.ts";
import { kubernetesEndpoints, kubernetesService } from "./kubernetes-service.ts";
import { ListedEndpoints } from "./listed-endpoints.ts";
import { type Endpoint, kubernetesHost, type Service, serviceKey } from "./service.ts";
import { serviceEntryEndpoints, serviceEntryServices } from "./service-entry.ts";
import { WorkloadIndex } from "./workloads.ts";

/** The objects of a kind, in the order of their creation. */
export type ObjectsOf = (kind: ConfigObject["kind"]) => readonly ConfigObject[];

export interface RegistryOptions {
  /** `cluster.local` */
  readonly domain: string;
  /** Namespaces to which a service is exported that doesn't say; mesh `defaultServiceExportTo`. */
  readonly defaultServiceExportTo: readonly string[];
  /** Default: hashed. */
  readonly allocation?: AddressAllocation;
}

type Source =
  | { readonly kind: "service"; readonly object: ConfigObject<KubernetesService> }
  | { readonly kind: "entry"; readonly object: ConfigObject<ServiceEntry> };

/** Endpoints of a service, and all that they were made from. */
interface FoundEndpoints {
  readonly inputs: readonly unknown[];
  readonly endpoints: readonly Endpoint[];
}

/** An endpoint and whose it is. */
export interface ServedAt {
  readonly service: Service;
  readonly endpoint: Endpoint;
}

interface RankedServedAt extends ServedAt {
  /** Of the service, by age. */
  readonly rank: number;
}

export class Registry {
  /** Oldest first; ties by namespace and name. */
  readonly services: readonly Service[];
  readonly #byKey = new Map<string, Service>();
  readonly #byHost = new Map<string, Service[]>();
  readonly #sources = new Map<string, Source>();
  readonly #endpoints = new Map<string, FoundEndpoints>();
  readonly #workloads: WorkloadIndex;
  readonly #listed: ListedEndpoints;
  readonly #allocation: AddressAllocation;
  /** What the registry before this one found, for those that nobody has asked for yet. */
  readonly #olderEndpoints: ReadonlyMap<string, FoundEndpoints>;
  #byAddress: ReadonlyMap<string, readonly RankedServedAt[]> | undefined;

  /** `older`: the registry of before, if there is one. */
  constructor(objects: ObjectsOf, options: RegistryOptions, older?: Registry) {
    this.#workloads = WorkloadIndex.of(objects, older ? older.#workloads : undefined);
    this.#listed = new ListedEndpoints(objects);
    this.#olderEndpoints = older ? older.#endpoints : new Map();
    this.#allocation = options.allocation ?? hashedAllocation;
    const allocated = new AllocatedAddresses(
      objects("ServiceEntry") as ConfigObject<ServiceEntry>[],
      objects("Service") as ConfigObject<KubernetesService>[],
      options.domain,
      this.#allocation.isWritten,
    );
    const services: Service[] = [];
    const add = (made: Service, source: Source) => {
      const key = serviceKey(made.host, made.namespace);
      if (this.#byKey.has(key)) return; // The oldest object that declares a host in a namespace is the one that counts.
      const before = older?.byKey(key);
      const service = before && isDeepStrictEqual(before, made) ? before : made;
      this.#byKey.set(key, service);
      this.#sources.set(key, source);
      services.push(service);
      const sameHost = this.#byHost.get(service.host);
      if (sameHost) sameHost.push(service);
      else this.#byHost.set(service.host, [service]);
    };
    const sources: Source[] = [
      ...(objects("Service") as ConfigObject<KubernetesService>[]).map((object) => ({ kind: "service", object }) as const),
      ...(objects("ServiceEntry") as ConfigObject<ServiceEntry>[]).map((object) => ({ kind: "entry", object }) as const),
    ];
    sources.sort((a, b) => compareAge(a.object, b.object));
    for (const source of sources) {
      for (const service of servicesOf(source, options, allocated)) add(service, source);
    }
    this.services = older && sameElements(services, older.services) ? older.services : services;
  }

  get(host: string, namespace: string): Service | undefined {
    return this.#byKey.get(serviceKey(host, namespace));
  }

  /** By a key of `serviceKey`'s. */
  byKey(key: string): Service | undefined {
    return this.#byKey.get(key);
  }

  /** All services of that host, oldest first. */
  byHost(host: string): readonly Service[] {
    return this.#byHost.get(host) ?? [];
  }

  /**
   * The addresses by which a proxy knows the service, of the proxy's families: its own, else those that were allocated, if the
   * proxy's agent answers DNS with them. So a machine of IPv6 knows Services that have a clusterIP of IPv4 alone. Source: Istio pilot/pkg/model/service.go (getAllAddressesForProxy).
   */
  addressesFor(service: Service, proxy: ProxyNode): readonly string[] {
    // What a user wrote counts as it is.
    if (service.addresses.length > 0 && service.registry !== "Kubernetes") return service.addresses;
    const own = ofFamilies(service.addresses, proxy);
    if (own.length > 0) return own;
    return service.allocatedAddresses.length > 0 && this.usesAllocated(proxy) ? ofFamilies(service.allocatedAddresses, proxy) : [];
  }

  usesAllocated({ metadata }: ProxyNode): boolean {
    return isTrue(metadata.DNS_CAPTURE) && (!this.#allocation.isOnDemand || isTrue(metadata.DNS_AUTO_ALLOCATE));
  }

  /** Of all ports, also when `service` was trimmed to some. */
  endpoints({ host, namespace }: Service): readonly Endpoint[] {
    const key = serviceKey(host, namespace);
    const known = this.#endpoints.get(key);
    if (known) return known.endpoints;
    const found = this.#findEndpoints(key);
    this.#endpoints.set(key, found);
    return found.endpoints;
  }

  #findEndpoints(key: string): FoundEndpoints {
    const [service, source] = [this.#byKey.get(key), this.#sources.get(key)];
    if (!service || !source) return { inputs: [], endpoints: [] };
    const inputs = [source.object, service, ...this.#inputsOf(source)];
    const older = this.#olderEndpoints.get(key);
    if (older && sameElements(older.inputs, inputs)) return older;
    const endpoints =
      source.kind === "service"
        ? kubernetesEndpoints(source.object, service, this.#listed, this.#workloads)
        : serviceEntryEndpoints(source.object, service, this.#workloads);
    return { inputs, endpoints: older && isDeepStrictEqual(older.endpoints, endpoints) ? older.endpoints : endpoints };
  }

  /** All that a service's endpoints are found in, beside its own object. */
  #inputsOf(source: Source): readonly unknown[] {
    const { name, namespace } = source.object.metadata;
    if (source.kind === "entry") {
      const { workloadSelector } = source.object.spec;
      return workloadSelector ? this.#workloads.select(namespace, workloadSelector.labels) : [];
    }
    const [slices, table] = [this.#listed.slices(namespace, name), this.#listed.table(namespace, name)];
    const selected = this.#workloads.select(namespace, source.object.spec.selector);
    // What is listed may name any pod.
    return slices.length > 0 || table ? [...slices, table, this.#workloads] : selected;
  }

  /**
   * Services with an endpoint of one of these addresses, oldest first: the proxy's own, in its namespace. In another network the same
   * address is another machine's; Istio does not ask.
   */
  servicesAt({ ipAddresses, namespace, network }: Pick<ProxyNode, "ipAddresses" | "namespace" | "network">): readonly ServedAt[] {
    this.#byAddress ??= this.#indexAddresses();
    const index = this.#byAddress;
    const found = [...new Set(ipAddresses)].map((address) => index.get(`${namespace}/${address}`) ?? []);
    const all = found.length === 1 ? found[0]! : found.flat().sort((a, b) => a.rank - b.rank);
    const isElsewhere = ({ endpoint }: ServedAt) => endpoint.network !== "" && network !== "" && endpoint.network !== network;
    return all.some(isElsewhere) ? all.filter((one) => !isElsewhere(one)) : all;
  }

  #indexAddresses(): Map<string, RankedServedAt[]> {
    const index = new Map<string, RankedServedAt[]>();
    for (const [rank, service] of this.services.entries()) {
      for (const endpoint of this.endpoints(service)) {
        const key = `${service.namespace}/${endpoint.address}`;
        const list = index.get(key);
        if (list) list.push({ service, endpoint, rank });
        else index.set(key, [{ service, endpoint, rank }]);
      }
    }
    return index;
  }

  /** Keys of the services whose endpoints differ from `older`'s. Services that only one of the two knows are not listed. */
  changedEndpoints(older: Registry): string[] {
    const changed: string[] = [];
    for (const service of this.services) {
      const before = older.get(service.host, service.namespace);
      if (!before) continue;
      const [now, then] = [this.endpoints(service), older.endpoints(before)];
      if (now !== then && !isDeepStrictEqual(now, then)) {
        changed.push(serviceKey(service.host, service.namespace));
      }
    }
    return changed;
  }
}

interface MadeServices {
  readonly inputs: string;
  readonly services: readonly Service[];
}

const madeServices = new WeakMap<ConfigObject, MadeServices>();

/** The same ones as last time, as long as nothing beside the object itself makes them others. */
function servicesOf(source: Source, options: RegistryOptions, allocated: AllocatedAddresses): readonly Service[] {
  const { object } = source;
  const { namespace } = object.metadata;
  const hosts = source.kind === "service" ? [kubernetesHost(object.metadata, options.domain)] : source.object.spec.hosts;
  const addresses = hosts.map((host) => allocated.of(namespace, host.toLowerCase()).join());
  const inputs = [options.domain, ...options.defaultServiceExportTo, "", ...addresses].join(" ");
  const known = madeServices.get(object);
  if (known?.inputs === inputs) return known.services;
  const services =
    source.kind === "service"
      ? [kubernetesService(source.object, options, allocated)]
      : serviceEntryServices(source.object, options, allocated);
  madeServices.set(object, { inputs, services });
  return services;
}

function ofFamilies(addresses: readonly string[], { ipAddresses }: ProxyNode): readonly string[] {
  const isV6 = (address: string) => address.includes(":");
  return addresses.filter((address) => ipAddresses.some((own) => isV6(own) === isV6(address)));
}

/** Creation order, the tie-breaker of every conflict in Istio. */
export function compareAge(a: ConfigObject, b: ConfigObject): number {
  const byTime = a.metadata.creationTimestamp - b.metadata.creationTimestamp;
  if (byTime !== 0) return byTime;
  const nameA = `${a.metadata.name}.${a.metadata.namespace}`;
  const nameB = `${b.metadata.name}.${b.metadata.namespace}`;
  return nameA < nameB ? -1 : nameA > nameB ? 1 : 0;
}
