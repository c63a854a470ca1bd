/**
 * What is known of which name, ready to be copied into answers: made when a name table arrives, only read when a query does.
 *
 * A name that is in the table under several forms is found under each. Beside them stand the names that resolvers make of those by the
 * first search domain, `www.example.com.default.svc.cluster.local` for `www.example.com`: answered by a CNAME to the name that was meant,
 * which spares the client the rest of its search. Real names count before such ones, whole names before short forms.
 * Source: Istio pkg/dns/client/dns.go (LookupTable).
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

export class LookupTable {
  readonly #exact = new Map<string, Known>();
  /** By what stands behind the `*.`. */
  readonly #wildcards = new Map<string, Known>();

  constructor(table: NameTable, domain: ProxyDomain, searchDomain: string | undefined) {
    const entries = Object.entries(table.table).map(([host, info]) => ({
      forms: nameForms(host, info, domain),
      alias: info.ips.length === 0 ? (encodeName(info.alias) ?? "") : "",
      info,
    }));
    const known = new Map(entries.map((entry) => [entry, knownAddresses(entry.info.ips)]));
    const usable = entries.filter((entry) => entry.alias !== "" || known.get(entry)!.a.count + known.get(entry)!.aaaa.count > 0);
    const addressed = usable.filter(({ alias }) => alias === "");
    const aliases = usable.filter(({ alias }) => alias !== "");
    for (const entry of addressed) this.#add(entry.forms[0]!, known.get(entry)!);
    for (const entry of addressed) for (const form of entry.forms.slice(1)) this.#add(form, known.get(entry)!);
    const aliasOf = new Map(aliases.map(({ forms, alias }) => [encodeName(forms[0]!), alias]));
    for (const entry of aliases) {
      let { alias } = entry;
      for (let step = 0; step < maxAliases && aliasOf.has(alias); step++) alias = aliasOf.get(alias)!;
      const meant = this.find(alias) ?? { ...known.get(entry)!, aliasOf: alias };
      known.set(entry, meant);
      for (const form of entry.forms) this.#add(form, meant);
    }
    if (searchDomain === undefined) return;
    const search = searchDomain.toLowerCase().replace(/\.$/, "");
    const suffix = encodeName(search);
    if (suffix === undefined) return;
    for (const entry of usable) {
      const expanded = { ...known.get(entry)!, suffixBytes: suffix.length - 1 };
      for (const form of entry.forms) if (!isWithin(form, search)) this.#add(`${form}${search}.`, expanded);
    }
  }

  /** Names that are known, wildcards and search forms included. */
  get size(): number {
    return this.#exact.size + this.#wildcards.size;
  }

  /** By a name in wire form and lower case: the name itself, else the wildcard that leaves the most of it. Hot. */
  find(name: string): Known | undefined {
    const exact = this.#exact.get(name);
    if (exact !== undefined || this.#wildcards.size === 0) return exact;
    let at = 0;
    for (let length = name.charCodeAt(0); length > 0; length = name.charCodeAt(at)) {
      at += length + 1;
      const found = this.#wildcards.get(name.slice(at));
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #add(name: string, known: Known): void {
    const wire = encodeName(name);
    if (wire === undefined) return;
    const isWildcard = wire.startsWith("\x01*");
    const [map, key] = isWildcard ? [this.#wildcards, wire.slice(2)] : [this.#exact, wire];
    if (!map.has(key)) map.set(key, known);
  }
}

function isWithin(name: string, domain: string): boolean {
  return name === `${domain}.` || name.endsWith(`.${domain}.`);
}

function knownAddresses(ips: readonly string[]): Known {
  const addresses = ips.flatMap((ip) => (parseIp(ip) ? [addressBytes(ip)] : []));
  return {
    a: addressRecords(
      recordType.a,
      addresses.filter(({ length }) => length === 4),
    ),
    aaaa: addressRecords(
      recordType.aaaa,
      addresses.filter(({ length }) => length === 16),
    ),
    suffixBytes: 0,
    aliasOf: "",
  };
}

/** An IPv4 address may come mapped into IPv6. */
function addressBytes(ip: string): Buffer {
  const words = parseIp(ip)!;
  const bytes = Buffer.alloc(words.length * 4);
  for (const [index, word] of words.entries()) bytes.writeUInt32BE(word, index * 4);
  return words.length === 4 && words[0] === 0 && words[1] === 0 && words[2] === 0xffff ? bytes.subarray(12) : bytes;
}

/** Owner (a pointer), type, class, time to live, length of what follows. */
const recordHeaderBytes = 12;

/** The pointer to the question's name, which stands behind the header of every answer. */
const questionPointer = 0xc000 | headerBytes;

function addressRecords(type: number, addresses: readonly Buffer[]): AddressRecords {
  const recordBytes = recordHeaderBytes + (type === recordType.a ? 4 : 16);
  const bytes = Buffer.alloc(addresses.length * recordBytes);
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
