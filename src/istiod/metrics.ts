/** Istiod's own metrics, by the names that Istio's dashboards and alerts know. Source: Istio pilot/pkg/xds/monitoring.go. */
import { X509Certificate } from "node:crypto";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { PatchedMessage } from "../api/envoy/patched-messages.ts";
import { type TypeUrl, typeUrls } from "../api/type-urls.ts";
import { revision, version } from "../lib/version.ts";
import type { CertificateAuthority } from "./ca/certificate-authority.ts";
import type { CertificateOutcome } from "./ca/certificate-service.ts";
import type { EnvoyFilterIndex } from "./push/envoy-filter-index.ts";
import type { PatchStatus } from "./push/patch-status.ts";

/** The `patch` label of pilot_envoy_filter_status. Source: Istio pilot/pkg/networking/core/envoyfilter/monitoring.go. */
const patchTypes: Readonly<Record<PatchedMessage, string>> = {
  BOOTSTRAP: "bootstrap",
  CLUSTER: "cluster",
  EXTENSION_CONFIG: "extensionconfig",
  FILTER_CHAIN: "filterchain",
  HTTP_FILTER: "httpfilter",
  HTTP_ROUTE: "route",
  LISTENER: "listener",
  LISTENER_FILTER: "listenerfilter",
  NETWORK_FILTER: "networkfilter",
  ROUTE_CONFIGURATION: "route",
  VIRTUAL_HOST: "vhost",
};

const shortNames = new Map<string, string>(Object.entries(typeUrls).map(([short, typeUrl]) => [typeUrl, short]));

/** `cds` for the type URL of clusters; the URL itself for a type without a short name. */
export function shortType(typeUrl: string): string {
  return shortNames.get(typeUrl) ?? typeUrl;
}

export class IstiodMetrics {
  readonly registry = new Registry();
  readonly #startedAt = Date.now();
  readonly connected = this.#gauge("pilot_xds", "Proxies connected over xDS.", ["version"]);
  readonly pushes = this.#counter("pilot_xds_pushes", "xDS responses sent, by resource type.", ["type"]);
  readonly pushTime = this.#histogram("pilot_xds_push_time", "Seconds to generate and send one push to one proxy.", ["type"]);
  readonly convergenceTime = this.#histogram(
    "pilot_proxy_convergence_time",
    "Seconds from a change until a proxy was sent all that follows from it.",
  );
  readonly queueTime = this.#histogram("pilot_proxy_queue_time", "Seconds that a proxy waited for its turn in a push.");
  readonly debounceTime = this.#histogram("pilot_debounce_time", "Seconds from the first event of a push until events paused.");
  readonly contextTime = this.#histogram("pilot_pushcontext_init_seconds", "Seconds to build a push context.");
  readonly pushTriggers = this.#counter("pilot_push_triggers", "Pushes, by reason.", ["type"]);
  readonly inboundUpdates = this.#counter("pilot_inbound_updates", "Changes received, by kind of source.", ["type"]);
  readonly configSize = this.#histogram(
    "pilot_xds_config_size_bytes",
    "Bytes of the responses sent, by resource type.",
    ["type"],
    [1, 10000, 1e6, 4e6, 1e7, 4e7],
  );
  readonly rejects = this.#counter("pilot_total_xds_rejects", "Responses that a proxy refused (NACK), by resource type.", ["type"]);
  readonly expiredNonce = this.#counter("pilot_xds_expired_nonce", "Requests that answered an older response than the last one.", ["type"]);
  readonly internalErrors = this.#counter("pilot_total_xds_internal_errors", "Failures of the control plane's own.");
  readonly rejectedConfigs = this.#gauge("pilot_total_rejected_configs", "Parts of the configuration that could not be used.", [
    "type",
    "name",
  ]);
  readonly #envoyFilters = this.#gauge("pilot_envoy_filter_status", "Whether patches of an EnvoyFilter were applied, or failed.", [
    "name",
    "patch",
    "result",
  ]);
  readonly services = this.#gauge("pilot_services", "Services in the registry.");
  readonly #certificates = {
    issued: this.#counter("citadel_server_success_cert_issuance_count", "Certificates issued."),
    "authentication failure": this.#counter("citadel_server_authentication_failure_count", "Requests of callers that proved nothing."),
    "CSR parsing failure": this.#counter("citadel_server_csr_parsing_err_count", "Requests that could not be used."),
    "signing failure": this.#counter("citadel_server_csr_sign_err_count", "Requests that could not be signed."),
  };
  readonly #requests = this.#counter("citadel_server_csr_count", "Certificate requests received.");
  readonly #rootExpiry = this.#gauge("citadel_server_root_cert_expiry_timestamp", "Unix time, in seconds, when the root expires.");
  readonly #keyFetches = {
    success: this.#counter("pilot_jwks_resolver_network_fetch_success_total", "Fetches of token issuers' keys that succeeded."),
    failure: this.#counter("pilot_jwks_resolver_network_fetch_fail_total", "Fetches of token issuers' keys that failed."),
  };
  readonly virtualServices = this.#gauge("pilot_virt_services", "VirtualServices in force.");
  readonly #rejectsByType = new Map<string, Gauge>();

  constructor() {
    this.#gauge("pilot_info", "Version of the control plane.", ["version"]).set({ version: `${version}-${revision}-Clean` }, 1);
    this.#gauge("istio_build", "Version of the component.", ["component", "tag"]).set({ component: "pilot", tag: version }, 1);
    const uptime = this.#gauge("istiod_uptime_seconds", "Seconds since the control plane started.");
    const memory = this.#gauge("process_resident_memory_bytes", "Resident memory in bytes.");
    const cpu = this.#gauge("process_cpu_seconds_total", "CPU seconds used, user and system.");
    for (const short of ["cds", "eds", "lds", "rds"]) {
      this.#rejectsByType.set(
        short,
        this.#gauge(`pilot_xds_${short}_reject`, `Proxies whose last answer to ${short} was a NACK.`, ["node", "err"]),
      );
    }
    this.collect = () => {
      uptime.set((Date.now() - this.#startedAt) / 1000);
      memory.set(process.memoryUsage.rss());
      const { user, system } = process.cpuUsage();
      cpu.set((user + system) / 1e6);
    };
  }

  /** Brings the values that are read from the process up to date; called before a scrape. */
  readonly collect: () => void;

  onReject(typeUrl: TypeUrl | string, node: string): void {
    const short = shortType(typeUrl);
    this.rejects.inc({ type: short });
    this.#rejectsByType.get(short)?.set({ node, err: "rejected" }, 1);
  }

  /** The proxy took the type again. */
  onAccept(typeUrl: string, node: string): void {
    this.#rejectsByType.get(shortType(typeUrl))?.remove({ node, err: "rejected" });
  }

  onCertificate(outcome: CertificateOutcome): void {
    this.#requests.inc();
    this.#certificates[outcome].inc();
  }

  onKeysFetched(isSuccess: boolean): void {
    this.#keyFetches[isSuccess ? "success" : "failure"].inc();
  }

  showPatches(objects: EnvoyFilterIndex["objects"], status: PatchStatus): void {
    this.#envoyFilters.reset();
    for (const object of objects) {
      const name = `${object.metadata.namespace}/${object.metadata.name}`;
      const patches = status.describe(object);
      for (const patch of new Set(patches.map(({ applyTo }) => patchTypes[applyTo]))) {
        const ofType = patches.filter(({ applyTo }) => patchTypes[applyTo] === patch);
        this.#envoyFilters.set({ name, patch, result: "applied" }, ofType.some(({ applied }) => applied) ? 1 : 0);
        if (ofType.some(({ failures }) => failures.length > 0)) this.#envoyFilters.set({ name, patch, result: "error" }, 1);
      }
    }
  }

  rootExpires({ trustBundle }: CertificateAuthority): void {
    this.#rootExpiry.set(new X509Certificate(trustBundle).validToDate.getTime() / 1000);
  }

  #counter(name: string, help: string, labelNames: string[] = []): Counter {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #gauge(name: string, help: string, labelNames: string[] = []): Gauge {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  #histogram(name: string, help: string, labelNames: string[] = [], buckets = [0.01, 0.1, 0.5, 1, 3, 5, 10, 20, 30]): Histogram {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.registry] });
  }
}
