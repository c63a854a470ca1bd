/**
 * VirtualServices made ready for translation: short names spelled out, delegates merged into their roots, and an index by the
 * gateway that they are bound to. Source: Istio pilot/pkg/model/virtualservice.go.
 */
import { expandShortHost } from "../../api/hostname.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { Destination, HTTPMatchRequest, HTTPRoute, StringMatch, VirtualService } from "../../api/kinds/virtual-service.ts";
import { isVisible, type Visibility, visibilityOf } from "../../registry/service.ts";

/** The gateway name that stands for all sidecars. */
export const meshGateway = "mesh";

export interface ResolvedVirtualService {
  readonly object: ConfigObject<VirtualService>;
  readonly name: string;
  readonly namespace: string;
  /** Lower case, fully qualified. */
  readonly hosts: readonly string[];
  /** `mesh` or `namespace/name`. */
  readonly gateways: ReadonlySet<string>;
  readonly spec: VirtualService;
  readonly visibility: Visibility;
}

export class VirtualServiceIndex {
  /** Roots only, oldest first. */
  readonly all: readonly ResolvedVirtualService[];
  readonly #byGateway = new Map<string, ResolvedVirtualService[]>();
  readonly #byObject = new Map<ConfigObject<VirtualService>, ResolvedVirtualService>();

  /** `objects` in creation order. `older`: of the same domain and default; what is still the same is the same object as there. */
  constructor(
    objects: readonly ConfigObject<VirtualService>[],
    domain: string,
    defaultExportTo: readonly string[],
    older?: VirtualServiceIndex,
  ) {
    const delegates = new Map<string, ConfigObject<VirtualService>>();
    for (const object of objects) {
      if (object.spec.hosts.length === 0) delegates.set(`${object.metadata.namespace}/${object.metadata.name}`, object);
    }
    const all: ResolvedVirtualService[] = [];
    for (const object of objects) {
      if (object.spec.hosts.length === 0) continue;
      const isAlone = object.spec.http.every(({ delegate }) => !delegate);
      const before = isAlone && older ? older.#byObject.get(object) : undefined;
      const resolved = before ?? resolve(object, delegates, domain, defaultExportTo);
      this.#byObject.set(object, resolved);
      all.push(resolved);
      for (const gateway of resolved.gateways) {
        const list = this.#byGateway.get(gateway);
        if (list) list.push(resolved);
        else this.#byGateway.set(gateway, [resolved]);
      }
    }
    this.all = all;
  }

  /** Those bound to the gateway, `namespace/name` or `mesh`, that proxies in the namespace may see; oldest first. */
  forGateway(gateway: string, proxyNamespace: string): readonly ResolvedVirtualService[] {
    return (this.#byGateway.get(gateway) ?? []).filter((candidate) => isVisible(candidate.visibility, proxyNamespace));
  }
}

function resolve(
  object: ConfigObject<VirtualService>,
  delegates: ReadonlyMap<string, ConfigObject<VirtualService>>,
  domain: string,
  defaultExportTo: readonly string[],
): ResolvedVirtualService {
  const { namespace, name } = object.metadata;
  const { spec } = object;
  const host = (text: string) => expandShortHost(text, namespace, domain).toLowerCase();
  const gateways = gatewayNames(spec.gateways, namespace);
  const http = spec.http.flatMap((route) => {
    const own = resolveRoute(route, namespace, domain);
    if (!route.delegate) return [own];
    const delegateNamespace = route.delegate.namespace || namespace;
    const delegate = delegates.get(`${delegateNamespace}/${route.delegate.name}`);
    if (!delegate) return []; // Only this route is lost, as in Istio.
    if (!isVisible(visibilityOf(delegate.spec.exportTo, delegateNamespace, defaultExportTo), namespace)) return [];
    return delegate.spec.http.flatMap((inner) => mergeDelegate(own, resolveRoute(inner, delegateNamespace, domain)));
  });
  return {
    object,
    name,
    namespace,
    hosts: spec.hosts.map(host),
    gateways,
    spec: {
      ...spec,
      http,
      tcp: spec.tcp.map((route) => ({
        ...route,
        match: route.match.map((match) => ({ ...match, gateways: [...gatewayNames(match.gateways, namespace, [])] })),
        route: route.route.map((entry) => ({ ...entry, destination: destination(entry.destination, namespace, domain) })),
      })),
      tls: spec.tls.map((route) => ({
        ...route,
        match: route.match.map((match) => ({ ...match, gateways: [...gatewayNames(match.gateways, namespace, [])] })),
        route: route.route.map((entry) => ({ ...entry, destination: destination(entry.destination, namespace, domain) })),
      })),
    },
    visibility: visibilityOf(spec.exportTo, namespace, defaultExportTo),
  };
}

/** `mesh` stays; a bare name is in the VirtualService's namespace; the old `name.namespace` form is no longer read. */
function gatewayNames(names: readonly string[], namespace: string, whenEmpty: readonly string[] = [meshGateway]): Set<string> {
  const list = names.length > 0 ? names : whenEmpty;
  return new Set(list.map((name) => (name === meshGateway || name.includes("/") ? name : `${namespace}/${name}`)));
}

function resolveRoute(route: HTTPRoute, namespace: string, domain: string): HTTPRoute {
  return {
    ...route,
    match: route.match.map((match) => ({ ...match, gateways: [...gatewayNames(match.gateways, namespace, [])] })),
    route: route.route.map((entry) => ({ ...entry, destination: destination(entry.destination, namespace, domain) })),
    mirror: destination(route.mirror, namespace, domain),
    mirrors: route.mirrors.map((mirror) => ({ ...mirror, destination: destination(mirror.destination, namespace, domain) })),
  };
}

function destination<T extends Destination | undefined>(target: T, namespace: string, domain: string): T {
  return target ? { ...target, host: expandShortHost(target.host, namespace, domain).toLowerCase() } : target;
}

/**
 * A delegate's route under a root's: every match of it must fit into a match of the root, else the route is dropped; what
 * the delegate sets wins, what it leaves open comes from the root.
 */
function mergeDelegate(root: HTTPRoute, delegate: HTTPRoute): HTTPRoute[] {
  const match = mergeMatches(root.match, delegate.match);
  if (!match) return [];
  const name = root.name && delegate.name ? `${root.name}-${delegate.name}` : root.name || delegate.name;
  return [
    {
      ...delegate,
      name,
      match,
      redirect: delegate.redirect ?? root.redirect,
      directResponse: delegate.directResponse ?? root.directResponse,
      rewrite: delegate.rewrite ?? root.rewrite,
      timeout: delegate.timeout ?? root.timeout,
      retries: delegate.retries ?? root.retries,
      fault: delegate.fault ?? root.fault,
      mirror: delegate.mirror ?? root.mirror,
      mirrorPercentage: delegate.mirrorPercentage ?? root.mirrorPercentage,
      corsPolicy: delegate.corsPolicy ?? root.corsPolicy,
      headers: delegate.headers ?? root.headers,
      mirrors: delegate.mirrors.length > 0 ? delegate.mirrors : root.mirrors,
      delegate: undefined,
    },
  ];
}

/** Undefined: the delegate's route can never match. */
function mergeMatches(root: readonly HTTPMatchRequest[], delegate: readonly HTTPMatchRequest[]): HTTPMatchRequest[] | undefined {
  if (root.length === 0) return [...delegate];
  if (delegate.length === 0) return [...root];
  const merged = root.flatMap((outer) =>
    delegate.flatMap((inner) => {
      const match = mergeMatch(outer, inner);
      return match ? [match] : [];
    }),
  );
  return merged.length > 0 ? merged : undefined;
}

function mergeMatch(root: HTTPMatchRequest, delegate: HTTPMatchRequest): HTTPMatchRequest | undefined {
  if (conflicts(root.uri, delegate.uri, true) || conflicts(root.scheme, delegate.scheme) || conflicts(root.method, delegate.method))
    return undefined;
  if (conflicts(root.authority, delegate.authority)) return undefined;
  for (const key of Object.keys(root.headers)) if (conflicts(root.headers[key], delegate.headers[key])) return undefined;
  for (const key of Object.keys(root.queryParams)) if (conflicts(root.queryParams[key], delegate.queryParams[key])) return undefined;
  if (root.port && delegate.port && root.port !== delegate.port) return undefined;
  return {
    ...delegate,
    name: root.name && delegate.name ? `${root.name}-${delegate.name}` : root.name || delegate.name,
    uri: delegate.uri ?? root.uri,
    scheme: delegate.scheme ?? root.scheme,
    method: delegate.method ?? root.method,
    authority: delegate.authority ?? root.authority,
    headers: { ...root.headers, ...delegate.headers },
    withoutHeaders: { ...root.withoutHeaders, ...delegate.withoutHeaders },
    queryParams: { ...root.queryParams, ...delegate.queryParams },
    port: delegate.port || root.port,
    ignoreUriCase: root.ignoreUriCase || delegate.ignoreUriCase,
    // Where a route applies is the root's to say.
    gateways: root.gateways,
    sourceLabels: { ...root.sourceLabels, ...delegate.sourceLabels },
    sourceNamespace: root.sourceNamespace || delegate.sourceNamespace,
  };
}

/** Whether a root's condition and a delegate's exclude each other: a prefix may be narrowed, all else must be equal. */
function conflicts(root: StringMatch | undefined, leaf: StringMatch | undefined, mayNarrow = false): boolean {
  if (!root || !leaf) return false;
  if (mayNarrow && root.prefix !== undefined) {
    const text = leaf.prefix ?? leaf.exact;
    return text === undefined || !text.startsWith(root.prefix);
  }
  return root.exact !== leaf.exact || root.prefix !== leaf.prefix || root.regex !== leaf.regex;
}
