/**
 * What a client is subscribed to on one ADS stream, and what one of its requests asks for. Pure: no I/O, no clock.
 *
 * A request on either protocol is one of: a refusal (NACK), an acknowledgement, a stale echo of an older response, a change of
 * the subscription, or a question. `decideSotw` and `decideDelta` say which, and record it in the watch.
 * Source: Istio pkg/xds/server.go (ShouldRespond), pilot/pkg/xds/delta.go; Envoy xds_protocol documentation.
 */
import { type TypeUrl, typeUrls } from "../api/type-urls.ts";
import { interned } from "../lib/interned.ts";
import { HeldResources } from "./held-resources.ts";

/** Types whose empty subscription means everything. */
const wildcardTypes: ReadonlySet<string> = new Set<TypeUrl>([typeUrls.cds, typeUrls.lds, typeUrls.nds, typeUrls.pcds]);

export function isWildcardType(typeUrl: string): boolean {
  return wildcardTypes.has(typeUrl);
}

/** A subscription of one stream to one type. */
export interface Watch {
  readonly typeUrl: string;
  isWildcard: boolean;
  /** Names asked for; for a wildcard those asked for beside it. */
  readonly names: Set<string>;
  /** What the client has. Of SotW wildcards too, to see whether anything changed. */
  held: HeldResources;
  nonceSent: string;
  nonceAcked: string;
  versionSent: string;
  /** Of the last response, in milliseconds since 1970; absent before the first. */
  sentAt?: number;
  /** Why the client refused the last response; cleared by the next ACK. */
  lastError: string | undefined;
  /** The next request is answered even if it looks like an ACK: Envoy warms clusters by asking EDS again with an old nonce. */
  alwaysRespond: boolean;
}

function newWatch(typeUrl: string): Watch {
  return {
    typeUrl,
    isWildcard: false,
    names: new Set(),
    held: HeldResources.none,
    nonceSent: "",
    nonceAcked: "",
    versionSent: "",
    lastError: undefined,
    alwaysRespond: false,
  };
}

export type Decision =
  /** `names` are asked for by the same request. */
  | { readonly kind: "nack"; readonly message: string; readonly names?: ReadonlySet<string> }
  | { readonly kind: "ack" }
  | { readonly kind: "stale"; readonly names?: ReadonlySet<string> }
  | { readonly kind: "unsubscribe" }
  /** Names were only taken away, nothing to answer. */
  | { readonly kind: "narrowed" }
  /** Answer with everything the watch covers, or with these names alone. `isFirst`: whatever the client has is to be replaced. */
  | { readonly kind: "respond"; readonly names?: ReadonlySet<string>; readonly isFirst: boolean };

export interface SotwRequest {
  readonly typeUrl: string;
  readonly resourceNames: readonly string[];
  readonly responseNonce: string;
  readonly errorMessage: string | undefined;
}

export interface DeltaRequest {
  readonly typeUrl: string;
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  readonly initialVersions: Readonly<Record<string, string>>;
  readonly responseNonce: string;
  readonly errorMessage: string | undefined;
}

export class Subscriptions {
  readonly watches = new Map<string, Watch>();

  decideSotw(request: SotwRequest): Decision {
    const { typeUrl, resourceNames } = request;
    let watch = this.watches.get(typeUrl);
    if (request.errorMessage !== undefined) {
      if (watch) watch.lastError = request.errorMessage;
      return { kind: "nack", message: request.errorMessage };
    }
    if (watch && resourceNames.length === 0 && !isWildcardType(typeUrl)) {
      this.watches.delete(typeUrl);
      return { kind: "unsubscribe" };
    }
    if (!watch || request.responseNonce === "") {
      watch = newWatch(typeUrl);
      this.watches.set(typeUrl, watch);
      watch.isWildcard = isWildcardType(typeUrl) && resourceNames.length === 0;
      for (const name of resourceNames) watch.names.add(interned(name));
      if (typeUrl === typeUrls.cds) {
        const eds = this.watches.get(typeUrls.eds);
        if (eds) eds.alwaysRespond = true;
      }
      return { kind: "respond", isFirst: true };
    }
    if (request.responseNonce !== watch.nonceSent) return { kind: "stale" };
    watch.nonceAcked = request.responseNonce;
    watch.lastError = undefined;
    const before = new Set(watch.names);
    watch.names.clear();
    for (const name of resourceNames) watch.names.add(interned(name));
    const { names } = watch;
    watch.held = watch.held.without([...before].filter((name) => !names.has(name)));
    if (watch.alwaysRespond) {
      watch.alwaysRespond = false;
      return { kind: "respond", isFirst: false };
    }
    const added = resourceNames.filter((name) => !before.has(name));
    // Listeners and clusters that an answer leaves away are gone, so theirs is always whole.
    if (added.length > 0 && isWildcardType(typeUrl)) return { kind: "respond", isFirst: false };
    if (added.length > 0) return { kind: "respond", names: new Set(added), isFirst: false };
    return before.size > watch.names.size ? { kind: "narrowed" } : { kind: "ack" };
  }

  decideDelta(request: DeltaRequest): Decision {
    const { typeUrl, subscribe, unsubscribe, responseNonce, errorMessage } = request;
    let watch = this.watches.get(typeUrl);
    if (!watch) {
      if (errorMessage !== undefined) return { kind: "nack", message: errorMessage };
      watch = newWatch(typeUrl);
      this.watches.set(typeUrl, watch);
      // Nothing subscribed at first means everything, for types that have an everything; so does "*".
      watch.isWildcard = subscribe.includes("*") || (subscribe.length === 0 && isWildcardType(typeUrl));
      for (const name of subscribe) if (name !== "*") watch.names.add(interned(name));
      // A client that comes back tells what it has. Resources that are still the same need not travel again.
      watch.held = HeldResources.of(Object.entries(request.initialVersions).map(([name, version]) => [interned(name), interned(version)]));
      if (!watch.isWildcard) for (const name of watch.held.names) watch.names.add(name);
      for (const name of unsubscribe) unsubscribeFrom(watch, name);
      if (!watch.isWildcard && watch.names.size === 0) return { kind: "ack" };
      if (typeUrl === typeUrls.cds) {
        const eds = this.watches.get(typeUrls.eds);
        if (eds) eds.alwaysRespond = true;
      }
      return { kind: "respond", isFirst: true };
    }
    // Names are told once, as they come and go: Envoy puts them into whatever it sends next, be it the refusal or the echo of an
    // answer that is no longer the newest. Istio drops those, and the cluster waits for its endpoints for ever.
    for (const name of unsubscribe) unsubscribeFrom(watch, name);
    const added = new Set<string>();
    for (const asked of subscribe) {
      const name = interned(asked);
      if (name === "*") watch.isWildcard = true;
      else watch.names.add(name);
      added.add(name);
    }
    // Asked for again means: I have lost it, or I am warming; it must travel even if it has not changed.
    watch.held = watch.held.without(added);
    const names = added.size > 0 && !added.has("*") ? { names: added } : {};
    if (errorMessage !== undefined) {
      watch.lastError = errorMessage;
      return { kind: "nack", message: errorMessage, ...names };
    }
    if (responseNonce !== "" && responseNonce !== watch.nonceSent) return { kind: "stale", ...names };
    if (responseNonce !== "") {
      watch.nonceAcked = responseNonce;
      watch.lastError = undefined;
    }
    if (added.size > 0) return { kind: "respond", ...names, isFirst: false };
    if (watch.alwaysRespond) {
      watch.alwaysRespond = false;
      watch.held = HeldResources.none;
      return { kind: "respond", isFirst: false };
    }
    return unsubscribe.length > 0 ? { kind: "narrowed" } : { kind: "ack" };
  }
}

function unsubscribeFrom(watch: Watch, name: string): void {
  if (name === "*") watch.isWildcard = false;
  watch.names.delete(name);
  // A wildcard still covers what was also asked for by name, and its version still stands.
  if (!watch.isWildcard) watch.held = watch.held.without([name]);
}
