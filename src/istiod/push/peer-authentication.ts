/**
 * Which mutual TLS a workload's ports ask for, as the PeerAuthentications say.
 *
 *   port of a policy with selector > that policy > the namespace's > the mesh's (root namespace, no selector) > PERMISSIVE
 *
 * Of several in one scope the oldest counts; UNSET takes what the wider scope says. Ports are those of the workload, not of a service.
 * A policy with a selector in the root namespace counts for nobody, as in Istio.
 * Source: Istio pilot/pkg/model/authentication.go, pilot/pkg/security/authn/policy_applier.go (ComposePeerAuthentication).
 */
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { PeerAuthentication } from "../../api/kinds/peer-authentication.ts";
import { selectorMatches } from "../../registry/service.ts";

export type MutualTlsMode = "DISABLE" | "PERMISSIVE" | "STRICT";

/** What holds for one workload. */
export interface WorkloadMutualTls {
  /** Of the ports that have none of their own. */
  readonly mode: MutualTlsMode;
  readonly portModes: ReadonlyMap<number, MutualTlsMode>;
}

/** The mode of a port of the workload. */
export function modeOfPort({ mode, portModes }: WorkloadMutualTls, port: number): MutualTlsMode {
  return portModes.get(port) ?? mode;
}

const noPorts: ReadonlyMap<number, MutualTlsMode> = new Map();

/** A policy with a selector, with what it inherits filled in. */
interface SelectingPolicy {
  readonly labels: Readonly<Record<string, string>>;
  readonly policy: WorkloadMutualTls;
}

export class PeerAuthenticationIndex {
  /** Of the namespaces that say something themselves. */
  readonly #modes = new Map<string, MutualTlsMode>();
  /** Oldest first. */
  readonly #selecting = new Map<string, readonly SelectingPolicy[]>();
  readonly #meshMode: MutualTlsMode;

  /** `objects` in creation order. */
  constructor(objects: readonly ConfigObject<PeerAuthentication>[], rootNamespace: string) {
    const lists = Map.groupBy(objects, ({ metadata }) => metadata.namespace);
    const general = (namespace: string) => modeOf(lists.get(namespace)?.find(({ spec }) => !selects(spec))?.spec.mtls);
    this.#meshMode = general(rootNamespace) ?? "PERMISSIVE";
    for (const [namespace, list] of lists) {
      const inherited = general(namespace) ?? this.#meshMode;
      this.#modes.set(namespace, inherited);
      if (namespace === rootNamespace) continue;
      const selecting = list.filter(({ spec }) => selects(spec)).map(({ spec }) => selectingPolicy(spec, inherited));
      if (selecting.length > 0) this.#selecting.set(namespace, selecting);
    }
  }

  /** What clients assume of the services of a namespace. */
  forNamespace(namespace: string): MutualTlsMode {
    return this.#modes.get(namespace) ?? this.#meshMode;
  }

  forWorkload(namespace: string, labels: Readonly<Record<string, string>>): WorkloadMutualTls {
    const found = this.#selecting.get(namespace)?.find((candidate) => selectorMatches(candidate.labels, labels));
    return found?.policy ?? { mode: this.forNamespace(namespace), portModes: noPorts };
  }

  selecting(namespace: string): readonly SelectingPolicy[] {
    return this.#selecting.get(namespace) ?? [];
  }
}

function selectingPolicy({ selector, mtls, portLevelMtls }: PeerAuthentication, inherited: MutualTlsMode): SelectingPolicy {
  const mode = modeOf(mtls) ?? inherited;
  const portModes = new Map(Object.entries(portLevelMtls).map(([port, own]) => [Number(port), modeOf(own) ?? mode]));
  return { labels: selector?.matchLabels ?? {}, policy: { mode, portModes } };
}

export interface PeerAuthenticationChanges {
  /** Namespaces in which a workload's inbound listeners may differ. */
  readonly servers: ReadonlySet<string>;
  /** Namespaces in which there is, or no longer is, something that clients may not use mutual TLS with. */
  readonly clients: ReadonlySet<string>;
}

/** Of the namespaces given; what a policy of the mesh changes shows in each of them. */
export function changedPeerAuthentications(
  before: PeerAuthenticationIndex,
  after: PeerAuthenticationIndex,
  namespaces: ReadonlySet<string>,
): PeerAuthenticationChanges {
  const differing = (describe: (index: PeerAuthenticationIndex, namespace: string) => unknown) =>
    new Set([...namespaces].filter((name) => JSON.stringify(describe(before, name)) !== JSON.stringify(describe(after, name))));
  return {
    servers: differing((index, namespace) => [
      index.forNamespace(namespace),
      index.selecting(namespace).map(({ labels, policy }) => [labels, policy.mode, [...policy.portModes]]),
    ]),
    clients: differing((index, namespace) => [
      index.forNamespace(namespace) === "DISABLE",
      index
        .selecting(namespace)
        .map(({ labels, policy }) => [
          labels,
          policy.mode === "DISABLE",
          [...policy.portModes].map(([port, mode]) => [port, mode === "DISABLE"]),
        ]),
    ]),
  };
}

function selects({ selector }: PeerAuthentication): boolean {
  return Object.keys(selector?.matchLabels ?? {}).length > 0;
}

/** Undefined: as the wider scope says. */
function modeOf(mtls: PeerAuthentication["mtls"]): MutualTlsMode | undefined {
  return mtls === undefined || mtls.mode === "UNSET" ? undefined : mtls.mode;
}
