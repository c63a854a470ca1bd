/**
 * What becomes of a query: answered from the table, or handed on.
 *
 *   no table yet                      SERVFAIL; handed on where we are the machine's only nameserver
 *   known name, A or AAAA             its addresses; none of that family: an empty answer, never "no such name", which would end
 *                                     the search for the other family too
 *   known name, any other type        handed on; "no such name" becomes an empty answer
 *   name of an alias                  handed on for the name that it stands for
 *   unknown name                      handed on
 *
 * Source: Istio pkg/dns/client/dns.go (ServeDNS), which passes on "no such name" as it comes: a resolver between us and the client may
 * remember that for addresses as well (RFC 2308).
 */
import { aliasQuestion, aliasResponse } from "./alias.ts";
import type { DnsMetrics } from "./dns-metrics.ts";
import type { Forwarder, Transport } from "./forwarder.ts";
import type { Known, LookupTable } from "./lookup-table.ts";
import { classInternet, flag, maxMessageBytes, rcode, recordType } from "./protocol.ts";
import { Query } from "./query.ts";
import { addressResponse, emptyResponse } from "./response.ts";

/** Of a packet of IPv4. */
const maxUdpBytes = 65_507;

export interface AnswererOptions {
  readonly forwarder: Forwarder;
  readonly metrics: DnsMetrics;
  /** Questions are handed on until the first table is there. */
  readonly forwardsBeforeTable: boolean;
}

export class Answerer {
  table: LookupTable | undefined;
  readonly #options: AnswererOptions;
  readonly #query = new Query();

  constructor(options: AnswererOptions) {
    this.#options = options;
  }

  /**
   * The response where it is known at once; `forward`: it is to be had by `forward`; `ignore`: the packet is no question. `address` and
   * `port`: who asks. Hot.
   */
  answer(packet: Buffer, transport: Transport, address: string, port: number): Buffer | "forward" | "ignore" {
    const query = this.#query;
    const reading = query.read(packet);
    if (reading === "ignore") return "ignore";
    if (reading === "refuse") return emptyResponse(packet, query, query.refusal);
    const { forwarder, metrics, forwardsBeforeTable } = this.#options;
    metrics.received();
    // What we asked a nameserver was led back to us: without an answer we would wait for ourselves.
    if (forwarder.isOwn(address, port)) return emptyResponse(packet, query, rcode.serverFailure);
    if (query.type === recordType.axfr || query.type === recordType.ixfr) return emptyResponse(packet, query, rcode.refused);
    const { table } = this;
    if (table === undefined && !forwardsBeforeTable) return emptyResponse(packet, query, rcode.serverFailure);
    if (!isForAddress(query)) return "forward";
    const known = table?.find(query.name);
    return known === undefined || known.aliasOf !== "" ? "forward" : addressResponse(packet, query, known, sizeLimit(query, transport));
  }

  /** Asks the nameservers, and calls back once; the packet must not change any more. */
  forward(packet: Buffer, transport: Transport, onResponse: (response: Buffer) => void): void {
    const query = new Query();
    query.read(packet);
    const maxBytes = sizeLimit(query, transport);
    const known = query.class === classInternet ? this.table?.find(query.name) : undefined;
    const isAlias = known !== undefined && known.aliasOf !== "" && isForAddress(query);
    const question = isAlias ? aliasQuestion(packet, query, known) : { packet, questionEnd: query.questionEnd };
    this.#options.forwarder.forward(question, transport, (response) => {
      const given = response && (isAlias ? aliasResponse(packet, query, known, response, maxBytes) : passedOn(packet, response, known));
      if (!given) return void onResponse(emptyResponse(packet, query, rcode.serverFailure));
      // The client has not asked for so much, whatever the nameserver makes of it.
      onResponse(given.length <= maxBytes ? given : emptyResponse(packet, query, rcode.ok, flag.truncated));
    });
  }
}

function isForAddress(query: Query): boolean {
  return query.class === classInternet && (query.type === recordType.a || query.type === recordType.aaaa);
}

function sizeLimit(query: Query, transport: Transport): number {
  return transport === "tcp" ? maxMessageBytes : Math.min(query.maxUdpBytes, maxUdpBytes);
}

/** The nameserver's response, under the client's id. */
function passedOn(packet: Buffer, response: Buffer, known: Known | undefined): Buffer {
  const copy = Buffer.from(response);
  packet.copy(copy, 0, 0, 2);
  if (known !== undefined && (copy[3]! & 15) === rcode.nameError) copy[3]! &= 0xf0;
  return copy;
}
