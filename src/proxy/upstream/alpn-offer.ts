/** Protocols that a client's TLS offers instead of those of its cluster. Connections are shared by what they have offered. */
export interface AlpnOffer {
  readonly protocols: readonly string[];
}

/** What is offered by requests of HTTP, by the protocol that is spoken; null: what the cluster says. */
export interface AlpnOffers {
  readonly http1: AlpnOffer | null;
  readonly http2: AlpnOffer | null;
}

/** Only configuration makes them, so there are few. */
const offers = new Map<string, AlpnOffer>();

/** The same object for the same protocols. */
export function alpnOffer(protocols: readonly string[]): AlpnOffer {
  const key = protocols.join();
  let offer = offers.get(key);
  if (offer === undefined) {
    offer = { protocols: [...protocols] };
    offers.set(key, offer);
  }
  return offer;
}
