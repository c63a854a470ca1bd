/**
 * What is known of which name, ready to be copied into answers: made when a name table arrives, only read when a query does.
 *
 * A name that is in the table under several forms is found under each. So are the names that resolvers make of those by the first search
 * domain, `www.example.com.default.svc.cluster.local` for `www.example.com`: answered by a CNAME to the name that was meant, which spares
 * the client the rest of its search. Real names count before such ones, whole names before short forms.
 * Source: Istio pkg/dns/client/dns.go (LookupTable), which keeps each such name, and where it was made of a wildcard's leads to the wildcard.
 */
import type { NameTable } from "../../api/gen/istio/networking/nds/v1/nds_pb.js";
import { parseIp } from "../../lib/ip-range.ts";
import { encodeName } from "./domain-name.ts";
import { nameForms, type ProxyDomain } from "./name-forms.ts";
import { classInternet, headerBytes, recordType } from "./protocol.ts";

/** Seconds that clients may keep an answer; as short as Istio's, for addresses change. */
export const ttlSeconds = 30;

/** Aliases of aliases are followed so far: they may go round. */
const maxAliases = 8;

/** Of one family; each record is `recordBytes` long. */
export interface AddressRecords {
  readonly type: number;
  readonly recordBytes: number;
  readonly count: number;
  /** Records one behind the other, their owner being the question's name. */
  readonly bytes: Buffer;
}

export interface Known {
  readonly a: AddressRecords;
  readonly aaaa: AddressRecords;
  /** Bytes of the search domain that stands behind the name that was meant; 0 for none. */
  readonly suffixBytes: number;
  /** The name, in wire form, that this one stands for and whose addresses are the upstream's to say; "" for none. */
  readonly aliasOf: string;
}

/** What is known of a name, and of the same name with the search domain behind it. */
interface Entry {
  readonly plain: Known;
  readonly searched: Known;
}

export class LookupTable {
  readonly #exact = new Map<string, Entry>();
  /** By what stands behind the `*.`. */
  readonly #wildcards = new Map<string, Entry>();
  /** The search domain's labels and the root, as they end a name; "" for none. */
  readonly #suffix: string;

  constructor(table: NameTable, domain: ProxyDomain, searchDomain: string | undefined) {
    this.#suffix = (searchDomain && encodeName(searchDomain)) || "";
    const aliases = new Map<string, { readonly forms: string[]; readonly target: string }>();
    const shortForms: { readonly forms: string[]; readonly entry: Entry }[] = [];
    for (const [host, info] of Object.entries(table.table)) {
      const forms = nameForms(host, info, domain);
      const target = info.ips.length === 0 ? encodeName(info.alias) : undefined;
      if (target !== undefined) aliases.set(encodeName(forms[0]!) ?? "", { forms, target });
      const known = knownAddresses(info.ips);
      if (known.a.count + known.aaaa.count === 0) continue;
      const entry = this.#entryOf(known);
      this.#add(forms[0]!, entry);
      if (forms.length > 1) shortForms.push({ forms, entry });
    }
    for (const { forms, entry } of shortForms) for (const form of forms.slice(1)) this.#add(form, entry);
    for (const { forms, target: first } of aliases.values()) {
      let target = first;
      for (let step = 0; step < maxAliases; step++) target = aliases.get(target)?.target ?? target;
      const meant = this.find(target) ?? { ...noAddresses, aliasOf: target };
      const entry = this.#entryOf({ ...meant, suffixBytes: 0 });
      for (const form of forms) this.#add(form, entry);
    }
  }

  /** Names that are known, wildcards among them. */
  get size(): number {
    return this.#exact.size + this.#wildcards.size;
  }

  /** By a name in wire form and lower case: the name itself, else the wildcard that leaves the most of it. Hot. */
  find(name: string): Known | undefined {
    const exact = this.#exact.get(name);
    if (exact !== undefined) return exact.plain;
    const suffix = this.#suffix;
    // Not twice: nobody means a name of the search domain with the search domain behind it.
    let meant = "";
    if (suffix !== "" && name.length > suffix.length && name.endsWith(suffix)) {
      meant = `${name.slice(0, -suffix.length)}\0`;
      if (meant.endsWith(suffix)) meant = "";
      const searched = meant === "" ? undefined : this.#exact.get(meant);
      if (searched !== undefined) return searched.searched;
    }
    if (this.#wildcards.size === 0) return undefined;
    let at = 0;
    for (let length = name.charCodeAt(0); length > 0; length = name.charCodeAt(at)) {
      at += length + 1;
      const found = this.#wildcards.get(name.slice(at));
      if (found !== undefined) return found.plain;
      if (at >= meant.length) continue;
      const searched = this.#wildcards.get(meant.slice(at));
      if (searched !== undefined) return searched.searched;
    }
    return undefined;
  }

  #entryOf(plain: Known): Entry {
    return { plain, searched: { a: plain.a, aaaa: plain.aaaa, suffixBytes: this.#suffix.length - 1, aliasOf: plain.aliasOf } };
  }

  #add(name: string, entry: Entry): void {
    const wire = encodeName(name);
    if (wire === undefined) return;
    const isWildcard = wire.startsWith("\x01*");
    const [map, key] = isWildcard ? [this.#wildcards, wire.slice(2)] : [this.#exact, wire];
    if (!map.has(key)) map.set(key, entry);
  }
}

function knownAddresses(ips: readonly string[]): Known {
  const v4: Buffer[] = [];
  const v6: Buffer[] = [];
  for (const ip of ips) {
    const bytes = addressBytes(ip);
    if (bytes) (bytes.length === 4 ? v4 : v6).push(bytes);
  }
  return {
    a: v4.length > 0 ? addressRecords(recordType.a, v4) : noAddresses.a,
    aaaa: v6.length > 0 ? addressRecords(recordType.aaaa, v6) : noAddresses.aaaa,
    suffixBytes: 0,
    aliasOf: "",
  };
}

/** An IPv4 address may come mapped into IPv6. Undefined for what is no address. */
function addressBytes(ip: string): Buffer | undefined {
  const words = parseIp(ip);
  if (!words) return undefined;
  const bytes = Buffer.allocUnsafe(words.length * 4);
  for (let i = 0; i < words.length; i++) bytes.writeUInt32BE(words[i]!, i * 4);
  return words.length === 4 && words[0] === 0 && words[1] === 0 && words[2] === 0xffff ? bytes.subarray(12) : bytes;
}

/** Owner (a pointer), type, class, time to live, length of what follows. */
const recordHeaderBytes = 12;

/** The pointer to the question's name, which stands behind the header of every answer. */
const questionPointer = 0xc000 | headerBytes;

function addressRecords(type: number, addresses: readonly Buffer[]): AddressRecords {
  const recordBytes = recordHeaderBytes + (type === recordType.a ? 4 : 16);
  const bytes = Buffer.allocUnsafe(addresses.length * recordBytes);
  for (const [index, address] of addresses.entries()) {
    const at = index * recordBytes;
    bytes.writeUInt16BE(questionPointer, at);
    bytes.writeUInt16BE(type, at + 2);
    bytes.writeUInt16BE(classInternet, at + 4);
    bytes.writeUInt32BE(ttlSeconds, at + 6);
    bytes.writeUInt16BE(address.length, at + 10);
    address.copy(bytes, at + recordHeaderBytes);
  }
  return { type, recordBytes, count: addresses.length, bytes };
}

const noAddresses = { a: addressRecords(recordType.a, []), aaaa: addressRecords(recordType.aaaa, []) };
