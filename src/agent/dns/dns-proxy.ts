/**
 * The agent's DNS proxy: names of the mesh from the control plane's table, all others from the machine's nameservers.
 *
 *   client ──UDP, TCP──> listeners ──> Answerer ──> LookupTable <── name table (NDS) and search domains
 *                                         └──> Forwarder ──UDP, TCP──> nameservers of resolv.conf
 *
 * The table in force is the last one that came; it is served whatever becomes of the control plane. A nameserver that is this proxy itself
 * is left out. Source: Istio pkg/dns/client.
 */

import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import type { Registry } from "prom-client";
import type { NameTable } from "../../api/gen/istio/networking/nds/v1/nds_pb.js";
import { formatHostPort, type HostPort, HostPortError, parseHostPort } from "../../lib/host-port.ts";
import { maskedIp, parseIp } from "../../lib/ip-range.ts";
import { log } from "../../lib/log.ts";
import { isWildcard } from "../../lib/wildcard-address.ts";
import type { PortSharing } from "../../platform/port-sharing.ts";
import { EnvironmentError } from "../environment-values.ts";
import { Answerer } from "./answerer.ts";
import { DnsMetrics } from "./dns-metrics.ts";
import { Forwarder } from "./forwarder.ts";
import { LookupTable } from "./lookup-table.ts";
import { nameForms, type ProxyDomain } from "./name-forms.ts";
import { ResolvConf } from "./resolv-conf.ts";
import { TcpListener } from "./tcp-listener.ts";
import { UdpListener } from "./udp-listener.ts";

const scope = log.scope("dns");

export interface DnsProxyOptions {
  /** DNS_PROXY_ADDR, `localhost:15053`. */
  readonly address: string;
  /** Default: alone. */
  readonly sharing?: PortSharing;
  readonly domain: ProxyDomain;
  /** File of the nameservers. */
  readonly resolvConf: string;
  /** DNS_FORWARD_PARALLEL. */
  readonly isParallel: boolean;
  /** DNS_FORWARD_TIMEOUT. */
  readonly timeoutMs: number;
  /** Where nobody else answers on this machine, queries are handed on until the first table is there; otherwise they fail. */
  readonly forwardsBeforeTable: boolean;
}

export class DnsProxy implements AsyncDisposable {
  readonly #options: DnsProxyOptions;
  readonly #metrics = new DnsMetrics();
  readonly #forwarder: Forwarder;
  readonly #answerer: Answerer;
  readonly #resolvConf: ResolvConf;
  readonly #parts = new AsyncDisposableStack();
  readonly #listeners: { retire(): Promise<void> }[] = [];
  readonly #firstTable = Promise.withResolvers<void>();
  #table: NameTable | undefined;
  #listensOn: readonly HostPort[] = [];
  #nameservers: readonly HostPort[] = [];

  private constructor(options: DnsProxyOptions) {
    this.#options = options;
    const { timeoutMs, isParallel, forwardsBeforeTable } = options;
    const metrics = this.#metrics;
    this.#resolvConf = this.#parts.use(new ResolvConf({ path: options.resolvConf, onChange: () => this.#onResolvConf() }));
    this.#forwarder = this.#parts.use(
      new Forwarder({
        nameservers: () => ({ servers: this.#nameservers, rotates: this.#resolvConf.config.rotates }),
        timeoutMs,
        isParallel,
        metrics,
      }),
    );
    this.#answerer = new Answerer({ forwarder: this.#forwarder, metrics, forwardsBeforeTable });
  }

  /**
   * Beside another it does not listen before it is opened. Rejects with EnvironmentError or HostPortError when the address can't be listened
   * on.
   */
  static async start(options: DnsProxyOptions): Promise<DnsProxy> {
    const made = new DnsProxy(options);
    try {
      if (options.sharing !== "beside") await made.#open();
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
    return made;
  }

  /** Listens, once there is a table to answer by: until then the other one, beside which it is, has the better answers. */
  async open(): Promise<void> {
    if (this.#listensOn.length > 0) return;
    await this.#firstTable.promise;
    await this.#open();
  }

  get port(): number {
    return this.#listensOn[0]!.port;
  }

  get metrics(): Registry {
    return this.#metrics.registry;
  }

  /** A name table has been received. */
  get isReady(): boolean {
    return this.#table !== undefined;
  }

  update(table: NameTable): void {
    this.#answerer.table = this.#lookupTable(table);
    this.#table = table;
    this.#firstTable.resolve();
  }

  /** The table with all names that it is asked by, as Istio's agent shows it; undefined before the first one. */
  describe(): unknown {
    if (!this.#table) return undefined;
    const table: Record<string, unknown> = {};
    for (const [host, info] of Object.entries(this.#table.table)) {
      const { ips, registry, shortname, namespace, alias } = info;
      const parts = { ips, registry, shortname, namespace, alias };
      table[host] = Object.fromEntries(Object.entries(parts).filter(([, value]) => value.length > 0));
      for (const form of nameForms(host, info, this.#options.domain)) table[form] ??= alias ? { alias, registry } : { ips, registry };
    }
    return { table };
  }

  /** Another process answers here from now on; resolves when what was asked has been answered. */
  async retire(): Promise<void> {
    await Promise.all(this.#listeners.map((listener) => listener.retire()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }

  async #open(): Promise<void> {
    try {
      await this.#listen();
    } catch (error) {
      if (error instanceof HostPortError) throw error;
      throw new EnvironmentError(`DNS_PROXY_ADDR: the DNS proxy can't listen on ${this.#options.address}: ${(error as Error).message}`, {
        cause: error,
      });
    }
    this.#onResolvConf();
    scope.info("serving", {
      addresses: this.#listensOn.map(formatHostPort).join(","),
      nameservers: this.#nameservers.map(formatHostPort).join(","),
      search: this.#resolvConf.config.search.join(","),
    });
  }

  /** On `localhost` both families, for whichever nameservers are redirected here. */
  async #listen(): Promise<void> {
    const { host, port } = parseHostPort(this.#options.address, "DNS_PROXY_ADDR", "listen");
    const hosts = host === "localhost" ? ["127.0.0.1", "::1"] : [host === "" ? "0.0.0.0" : host];
    const listensOn: HostPort[] = [];
    for (const address of hosts) {
      try {
        const wanted = listensOn[0]?.port ?? port;
        const { sharing = "alone" } = this.#options;
        const tcp = this.#parts.use(await TcpListener.start(address, wanted, sharing, this.#answerer));
        const udp = this.#parts.use(await UdpListener.start(address, tcp.port, sharing, this.#answerer));
        this.#listeners.push(tcp, udp);
        listensOn.push({ host: address, port: tcp.port });
      } catch (error) {
        // A machine without IPv6 has no ::1.
        if (listensOn.length === 0 || !["EADDRNOTAVAIL", "EAFNOSUPPORT"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
      }
    }
    this.#listensOn = listensOn;
  }

  #onResolvConf(): void {
    const { nameservers } = this.#resolvConf.config;
    this.#nameservers = nameservers.filter((server) => !this.#isOurselves(server));
    if (this.#nameservers.length < nameservers.length)
      scope.info("a nameserver that is this proxy is left out", { path: this.#options.resolvConf });
    if (this.#nameservers.length === 0) scope.warn("there is no nameserver for names outside the mesh", { path: this.#options.resolvConf });
    if (this.#table) this.#answerer.table = this.#lookupTable(this.#table);
  }

  #isOurselves({ host, port }: HostPort): boolean {
    return this.#listensOn.some(
      (own) => own.port === port && (isSameIp(own.host, host) || (isWildcard(own.host) && isOfThisMachine(host))),
    );
  }

  #lookupTable(table: NameTable): LookupTable {
    const [searchDomain] = this.#resolvConf.config.search;
    const made = new LookupTable(table, this.#options.domain, searchDomain);
    scope.debug("name table", { names: made.size });
    return made;
  }
}

function isSameIp(a: string, b: string): boolean {
  const canonical = (address: string) => (isIP(address) ? maskedIp(address, parseIp(address)!.length * 32) : address);
  return canonical(a) === canonical(b);
}

function isOfThisMachine(address: string): boolean {
  if (address.startsWith("127.") || address === "::1") return true;
  return Object.values(networkInterfaces()).some((list) => list?.some((own) => isSameIp(own.address, address)));
}
