/**
 * Resources that the control plane sends to the agent itself, on the stream that is the proxy's otherwise: asked for by the agent, taken out
 * of the answers, acknowledged: the trust bundle, and the names that its DNS proxy answers. Source: Istio pkg/istio-agent/xds_proxy.go.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
} from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { type NameTable, NameTableSchema } from "../api/gen/istio/networking/nds/v1/nds_pb.js";
import { decodeTrustUpdate, type TrustUpdate } from "../api/trust-update.ts";
import { healthReportTypeUrl, typeUrls } from "../api/type-urls.ts";

export interface OwnResourcesOptions {
  readonly isDelta: boolean;
  readonly send: (request: Buffer) => void;
  /** Throws for what can't be used. */
  readonly onTrust: (update: TrustUpdate) => void;
  /** Absent: there is no DNS proxy, and names are not asked for. */
  readonly onNameTable?: ((table: NameTable) => void) | undefined;
}

/** Field of `type_url` in a DiscoveryResponse and in a DeltaDiscoveryResponse. */
const typeUrlField = 4;

/** What the application's health is: undefined for well. */
export interface HealthReport {
  readonly problem: string | undefined;
}

export class OwnResources {
  readonly #options: OwnResourcesOptions;
  /** What is done with the one resource of a type. */
  readonly #takers: ReadonlyMap<string, (resource: Uint8Array) => void>;

  constructor(options: OwnResourcesOptions) {
    this.#options = options;
    const { onTrust, onNameTable } = options;
    const takers = new Map<string, (resource: Uint8Array) => void>();
    if (onNameTable) takers.set(typeUrls.nds, (resource) => onNameTable(fromBinary(NameTableSchema, resource)));
    takers.set(typeUrls.pcds, (resource) => onTrust(decodeTrustUpdate(resource)));
    this.#takers = takers;
  }

  /** Asks; to be called once the stream has carried the proxy's node. */
  subscribe(): void {
    for (const typeUrl of this.#takers.keys()) this.#send(typeUrl, "", "", undefined);
  }

  /** Whether the response was the agent's; then the proxy does not see it. */
  take(response: Buffer): boolean {
    const typeUrl = typeUrlOf(response);
    const taker = this.#takers.get(typeUrl);
    if (!taker) return false;
    let problem: string | undefined;
    const { nonce, version, values } = this.#decode(response);
    try {
      const [first] = values;
      if (first) taker(first);
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    this.#send(typeUrl, nonce, version, problem);
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

  #send(typeUrl: string, responseNonce: string, versionInfo: string, problem: string | undefined): void {
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
