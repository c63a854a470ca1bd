/** What the verbs of the API work with. */
import type { WritableConfigStore } from "../../config/store.ts";
import type { ServiceAccountTokens } from "../ca/service-account-tokens.ts";
import type { ClusterAddresses } from "./admission/cluster-addresses.ts";
import type { ObjectEvents } from "./object-events.ts";
import type { ProxyTargets } from "./proxy/proxy-request.ts";
import type { User } from "./users.ts";
import type { ListPages } from "./verbs/list-pages.ts";

export interface ApiContext {
  /** Of objects that are kept, and of those that show what is connected. */
  readonly store: WritableConfigStore;
  readonly events: ObjectEvents;
  readonly pages: ListPages;
  readonly tokens: ServiceAccountTokens;
  readonly addresses: ClusterAddresses;
  readonly targets: ProxyTargets;
  /** Resolves when what follows from a new namespace is done: its account and its roots. */
  readonly namespacesSettled: () => Promise<void>;
}

/** One request, as far as the verbs need it. */
export interface ApiRequest {
  readonly method: string;
  readonly query: URLSearchParams;
  readonly accept: string | undefined;
  readonly userAgent: string;
  readonly user: User;
  /** Sentences for the `Warning` headers of the answer. */
  readonly warnings: string[];
}

export interface Answer {
  readonly code: number;
  readonly body: unknown;
}
