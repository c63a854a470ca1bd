/**
 * Questions that are not ours to answer: handed on to the machine's nameservers, over what they came by.
 *
 *   same question under way? ──yes──> its answer is everybody's
 *      │ no
 *      ├─ one after the other: the next nameserver as soon as one fails, or says nothing for a while; the first answer counts
 *      └─ in parallel: all at once
 *
 * Of several nameservers the first of the file is asked first (`options rotate`: any), behind it those that said nothing lately. An answer
 * that says the server could not do it (SERVFAIL, NOTIMP, REFUSED) is kept in case that no other can. That one question goes out once
 * also ends circles: a question that comes back by way of another resolver waits for itself, and for no longer than the time-out.
 */
import { formatHostPort, type HostPort } from "../../lib/host-port.ts";
import { log } from "../../lib/log.ts";
import type { DnsMetrics } from "./dns-metrics.ts";
import { rcode } from "./protocol.ts";
import { type Exchange, exchangeTcp, exchangeUdp, type Question } from "./upstream-exchange.ts";

const scope = log.scope("dns");

export type Transport = "udp" | "tcp";

/** Undefined: nobody knows. */
export type OnForwarded = (response: Buffer | undefined) => void;

export interface ForwarderOptions {
  /** Asked for each question; they may change. */
  readonly nameservers: () => { readonly servers: readonly HostPort[]; readonly rotates: boolean };
  /** DNS_FORWARD_TIMEOUT: that long the last nameserver may take. */
  readonly timeoutMs: number;
  /** DNS_FORWARD_PARALLEL. */
  readonly isParallel: boolean;
  readonly metrics: DnsMetrics;
}

/** Different questions at a time, each with a socket at least; the next one fails at once. */
const maxPending = 1000;
/** Clients that wait for one question. */
const maxWaiters = 256;
/** A nameserver that says nothing for so long gets company, or is asked again. */
const patienceMs = 1000;
/** And is asked last for so long. */
const avoidanceMs = 30_000;

interface Pending extends Question {
  readonly transport: Transport;
  readonly servers: readonly HostPort[];
  readonly exchanges: Set<Exchange>;
  readonly waiters: OnForwarded[];
  readonly startedAt: number;
  readonly key: string;
  /** Of the servers, how many have been asked. */
  asked: number;
  lastSentAt: number;
  timer: NodeJS.Timeout | undefined;
  /** An answer of one that could not do it. */
  fallback: Buffer | undefined;
}

export class Forwarder implements Disposable {
  readonly #options: ForwarderOptions;
  readonly #pending = new Map<string, Pending>();
  /** Until when a nameserver is asked last. */
  readonly #avoided = new Map<string, number>();
  /** Whence our questions come: address by port. */
  readonly #origins = new Map<number, string>();

  constructor(options: ForwarderOptions) {
    this.#options = options;
  }

  /** Calls back once; the response, which may be another waiter's too, carries an id of its own. */
  forward(question: Question, transport: Transport, onForwarded: OnForwarded): void {
    const { metrics, isParallel } = this.#options;
    metrics.forwarded();
    // Two clients ask the same when their packets are the same but for the id.
    const key = `${transport}${question.packet.latin1Slice(2)}`;
    const underWay = this.#pending.get(key);
    if (underWay) return void this.#join(underWay, onForwarded);
    const servers = this.#serversInOrder();
    if (servers.length === 0 || this.#pending.size >= maxPending) {
      metrics.failed();
      return void onForwarded(undefined);
    }
    const now = performance.now();
    const pending: Pending = {
      ...question,
      transport,
      servers,
      exchanges: new Set(),
      waiters: [onForwarded],
      startedAt: now,
      key,
      asked: 0,
      lastSentAt: now,
      timer: undefined,
      fallback: undefined,
    };
    this.#pending.set(key, pending);
    do this.#askNext(pending);
    while (isParallel && pending.asked < servers.length);
  }

  /** Whether what comes from there is a question of ours that was led back to us. Hot. */
  isOwn(address: string, port: number): boolean {
    return this.#origins.size > 0 && this.#origins.get(port) === address;
  }

  /** Who waits is left without an answer. */
  [Symbol.dispose](): void {
    for (const pending of this.#pending.values()) this.#close(pending);
    this.#pending.clear();
  }

  #join(pending: Pending, onForwarded: OnForwarded): void {
    if (pending.waiters.length >= maxWaiters) {
      this.#options.metrics.failed();
      return void onForwarded(undefined);
    }
    pending.waiters.push(onForwarded);
    // A client that asks again thinks that its question was lost, and may be right.
    if (performance.now() - pending.lastSentAt > patienceMs / 2) this.#resend(pending);
  }

  #resend(pending: Pending): void {
    pending.lastSentAt = performance.now();
    for (const exchange of pending.exchanges) exchange.resend();
  }

  #askNext(pending: Pending): void {
    const server = pending.servers[pending.asked++];
    if (!server) return void this.#finish(pending, pending.fallback);
    pending.lastSentAt = performance.now();
    this.#schedule(pending);
    const ask = pending.transport === "udp" ? exchangeUdp : exchangeTcp;
    let origin: number | undefined;
    const forget = () => {
      if (origin !== undefined) this.#origins.delete(origin);
      pending.exchanges.delete(entry);
    };
    const entry: Exchange = {
      resend: () => exchange.resend(),
      close: () => {
        forget();
        exchange.close();
      },
    };
    pending.exchanges.add(entry);
    const exchange = ask(server, pending, {
      onOpen: (address, port) => {
        origin = port;
        this.#origins.set(port, address);
      },
      onResponse: (response) => {
        forget();
        this.#onResponse(pending, server, response);
      },
    });
  }

  #onResponse(pending: Pending, server: HostPort, response: Buffer | undefined): void {
    const canAnswer = response !== undefined && !isFailure(response);
    if (canAnswer) {
      this.#avoided.delete(formatHostPort(server));
      return void this.#finish(pending, response);
    }
    pending.fallback ??= response;
    if (!response) this.#avoid(server);
    if (pending.asked < pending.servers.length) this.#askNext(pending);
    else if (pending.exchanges.size === 0) this.#finish(pending, pending.fallback);
  }

  /** While nothing comes: the next nameserver, or the same once more, until time is over. */
  #schedule(pending: Pending): void {
    clearTimeout(pending.timer);
    const { timeoutMs } = this.#options;
    const isLast = pending.asked >= pending.servers.length;
    const deadline = pending.lastSentAt + timeoutMs;
    const tick = () => {
      const leftMs = deadline - performance.now();
      if (!isLast) {
        this.#avoid(pending.servers[pending.asked - 1]!);
        return void this.#askNext(pending);
      }
      if (leftMs <= 0) {
        this.#avoid(pending.servers[pending.asked - 1]!);
        return void this.#finish(pending, pending.fallback);
      }
      this.#resend(pending);
      pending.timer = setTimeout(tick, Math.min(patienceMs, leftMs));
    };
    pending.timer = setTimeout(tick, Math.min(patienceMs, isLast ? timeoutMs : timeoutMs / 2));
  }

  #finish(pending: Pending, response: Buffer | undefined): void {
    this.#close(pending);
    this.#pending.delete(pending.key);
    const { metrics } = this.#options;
    metrics.tookSeconds((performance.now() - pending.startedAt) / 1000);
    if (!response) {
      metrics.failed();
      scope.debug("no nameserver answers", { nameservers: pending.servers.map(formatHostPort).join(",") });
    }
    for (const onForwarded of pending.waiters) onForwarded(response);
  }

  #close(pending: Pending): void {
    clearTimeout(pending.timer);
    for (const exchange of pending.exchanges) exchange.close();
    pending.exchanges.clear();
  }

  #avoid(server: HostPort): void {
    const key = formatHostPort(server);
    if (!this.#avoided.has(key)) scope.info("nameserver does not answer", { nameserver: key });
    this.#avoided.set(key, performance.now() + avoidanceMs);
  }

  #serversInOrder(): readonly HostPort[] {
    const { servers, rotates } = this.#options.nameservers();
    if (servers.length < 2) return servers;
    const start = rotates ? Math.floor(Math.random() * servers.length) : 0;
    const turned = [...servers.slice(start), ...servers.slice(0, start)];
    if (this.#avoided.size === 0) return turned;
    const now = performance.now();
    const isAvoided = (server: HostPort) => (this.#avoided.get(formatHostPort(server)) ?? 0) > now;
    return [...turned.filter((server) => !isAvoided(server)), ...turned.filter(isAvoided)];
  }
}

function isFailure(response: Buffer): boolean {
  const code = response[3]! & 15;
  return code === rcode.serverFailure || code === rcode.notImplemented || code === rcode.refused;
}
