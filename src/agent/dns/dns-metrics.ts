/** Counts of the DNS proxy, by Istio's names. Source: Istio pkg/dns/client/monitoring.go. */
import { Counter, Histogram, Registry } from "prom-client";

export class DnsMetrics {
  readonly registry = new Registry();
  // Plain numbers, read when somebody scrapes: a counter of the library costs as much as an answer.
  #requests = 0;
  #upstreamRequests = 0;
  #upstreamFailures = 0;
  readonly #upstreamDuration = new Histogram({
    name: "istio_agent_dns_upstream_request_duration_seconds",
    help: "Seconds until a nameserver answered.",
    buckets: [0.001, 0.005, 0.01, 0.1, 1, 5],
    registers: [this.registry],
  });

  constructor() {
    this.#counter("istio_agent_dns_requests_total", "DNS queries received.", () => this.#requests);
    this.#counter("istio_agent_dns_upstream_requests_total", "DNS queries handed on to nameservers.", () => this.#upstreamRequests);
    this.#counter("istio_agent_dns_upstream_failures_total", "DNS queries that no nameserver answered.", () => this.#upstreamFailures);
  }

  received(): void {
    this.#requests++;
  }

  forwarded(): void {
    this.#upstreamRequests++;
  }

  failed(): void {
    this.#upstreamFailures++;
  }

  tookSeconds(seconds: number): void {
    this.#upstreamDuration.observe(seconds);
  }

  #counter(name: string, help: string, value: () => number): void {
    new Counter({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  }
}
