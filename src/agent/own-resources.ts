/**
 * Resources that the control plane sends to the agent itself, on the stream that is the proxy's otherwise: asked for by the agent, taken out
 * of the answers, acknowledged. So far the trust bundle. Source: Istio pkg/istio-agent/xds_proxy.go.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { ProxyConfigSchema } from "../api/gen/istio/mesh/v1alpha1/proxy_config_pb.js";
import { healthReportTypeUrl, typeUrls } from "../api/type-urls.ts";

export interface OwnResourcesOptions {
  readonly isDelta: boolean;
  readonly send: (request: Buffer) => void;
  /** PEM of all roots that the control plane wants trusted. */
  readonly onTrustBundle: (roots: readonly string[]) => void;
}

/** Field of `type_url` in a DiscoveryResponse and in a DeltaDiscoveryResponse. */
const typeUrlField = 4;

/** What the application's health is: undefined for well. */
export interface HealthReport {
  readonly problem: string | undefined;
}

export class OwnResources {
  readonly #options: OwnResourcesOptions;

  constructor(options: OwnResourcesOptions) {
    this.#options = options;
  }

  /** Asks; to be called once the stream has carried the proxy's node. */
  subscribe(): void {
    this.#send("", "", undefined);
  }

  /** Whether the response was the agent's; then the proxy does not see it. */
  take(response: Buffer): boolean {
    if (typeUrlOf(response) !== typeUrls.pcds) return false;
    let problem: string | undefined;
    const { nonce, version, values } = this.#decode(response);
    try {
      const [first] = values;
      if (first) this.#options.onTrustBundle(fromBinary(ProxyConfigSchema, first).caCertificatesPem);
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    this.#send(nonce, version, problem);
    return true;
  }

  /** A request that asks for nothing. */
  reportHealth({ problem }: HealthReport): void {
    const report = { typeUrl: healthReportTypeUrl, ...(problem === undefined ? {} : { errorDetail: { code: 13, message: problem } }) };
    const request = this.#options.isDelta
      ? toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, report))
      : toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, report));
    this.#options.send(Buffer.from(request));
  }

  #decode(bytes: Buffer): { nonce: string; version: string; values: Uint8Array[] } {
    if (this.#options.isDelta) {
      const { nonce, systemVersionInfo, resources } = fromBinary(DeltaDiscoveryResponseSchema, bytes);
      return { nonce, version: systemVersionInfo, values: resources.flatMap(({ resource }) => (resource ? [resource.value] : [])) };
    }
    const { nonce, versionInfo, resources } = fromBinary(DiscoveryResponseSchema, bytes);
    return { nonce, version: versionInfo, values: resources.map(({ value }) => value) };
  }

  #send(responseNonce: string, versionInfo: string, problem: string | undefined): void {
    const typeUrl = typeUrls.pcds;
    const errorDetail = problem === undefined ? {} : { errorDetail: { code: 13, message: problem } };
    const request = this.#options.isDelta
      ? toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, { typeUrl, responseNonce, ...errorDetail }))
      : toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, { typeUrl, responseNonce, versionInfo, ...errorDetail }));
    this.#options.send(Buffer.from(request));
  }
}

/** Without decoding the resources, which may be large and are not ours. "" for bytes that are no response. */
function typeUrlOf(bytes: Buffer): string {
  try {
    const reader = new BinaryReader(bytes);
    while (reader.pos < reader.len) {
      const [field, wireType] = reader.tag();
      if (field === typeUrlField && wireType === WireType.LengthDelimited) return reader.string();
      reader.skip(wireType, field);
    }
  } catch {
    // The proxy will say what is wrong with it.
  }
  return "";
}
