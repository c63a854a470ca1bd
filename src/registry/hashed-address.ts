/**
 * Addresses worked out from a name alone, so that every control plane finds the same without writing anything down: FNV-1a of
 * `namespace/host`, and double hashing where another has the place. Figures and order are Istio's, so are nearly all addresses.
 * Source: Istio pilot/pkg/serviceregistry/serviceentry/auto_allocation.go.
 */

/** IPv4 of 240.240.0.0/16, IPv6 of 2001:2::/48: reserved for research and for benchmarks, so that nobody is reached there. */
export type AddressPair = readonly [v4: string, v6: string];

const places = 256 * 254;
/** The largest prime below `places`, for the second hash. */
const prime = 65011;

/** The first pair of the name's sequence that `isFree` takes; undefined when all are taken. */
export function hashedAddresses(name: string, isFree: (pair: AddressPair) => boolean): AddressPair | undefined {
  const hash = fnv1a(name);
  const step = prime - (hash % prime);
  for (let attempt = 0; attempt < places; attempt++) {
    const place = attempt === 0 ? hash % places : ((hash + Math.imul(attempt, step)) >>> 0) % (places - 1);
    const pair = pairAt(place);
    if (pair && isFree(pair)) return pair;
  }
  return undefined;
}

/**
 * Undefined for the places whose IPv4 address would end in .0. Istio moves all later ones up by one there, so that an address depends on
 * who else is in the table; and it writes IPv6's last group without the zero between, so that two places can have one address.
 */
function pairAt(place: number): AddressPair | undefined {
  const number = place + 1;
  const [third, fourth] = [Math.floor(number / 255), number % 255];
  if (fourth === 0) return undefined;
  return [`240.240.${third}.${fourth}`, `2001:2::f0f0:${((third << 8) | fourth).toString(16)}`];
}

function fnv1a(text: string): number {
  let hash = 0x811c_9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x0100_0193) >>> 0;
  return hash;
}
