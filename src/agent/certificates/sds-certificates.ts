/**
 * The workload's certificate from another's SDS socket, as SPIRE's agent serves it. The proxy asks there by itself, and is told whom to
 * trust by whoever serves the socket; what is taken here is for the agent's own calls to the control plane.
 */
import { X509Certificate } from "node:crypto";
import { create, fromBinary } from "@bufbuild/protobuf";
import { credentials } from "@grpc/grpc-js";
import { XdsClient, type XdsUpdate } from "../../ads/client.ts";
import { openXdsChannel } from "../../ads/client-stream.ts";
import { spiffeTrustDomains } from "../../api/envoy/spiffe-validator.ts";
import { type DataSource, NodeSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { type Secret, SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { typeUrls } from "../../api/type-urls.ts";
import { log } from "../../lib/log.ts";
import { keyPairOf } from "./key-pair.ts";
import { PresentSecrets, type WorkloadSecrets } from "./workload-secrets.ts";

const scope = log.scope("cache");

export class SdsCertificates extends PresentSecrets {
  readonly #parts = new AsyncDisposableStack();
  #pair: WorkloadSecrets["pair"] | undefined;
  #roots: string | undefined;

  /** `nodeId` goes with the requests. */
  constructor(path: string, nodeId: string) {
    super("another");
    const channel = this.#parts.use(openXdsChannel({ target: `unix:${path}`, credentials: credentials.createInsecure() }));
    const client = this.#parts.use(
      new XdsClient({
        open: channel.stream("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", false),
        isDelta: false,
        node: create(NodeSchema, { id: nodeId }),
        log: scope,
      }),
    );
    client.subscribe(typeUrls.sds, false, async (update) => this.#take(update)).setNames(["default", "ROOTCA"]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }

  #take({ resources }: XdsUpdate): string | undefined {
    for (const { content } of resources) this.#takeOne(fromBinary(SecretSchema, content.value));
    if (this.#pair && this.#roots !== undefined) this.set({ pair: this.#pair, roots: this.#roots });
    return undefined;
  }

  #takeOne({ type }: Secret): void {
    if (type.case === "tlsCertificate") {
      const { certificateChain, privateKey } = type.value;
      this.#pair = keyPairOf(textOf(certificateChain), textOf(privateKey));
    } else if (type.case === "validationContext") {
      // SPIRE says it by trust domain, unless it is told not to.
      const sources = spiffeTrustDomains(type.value)?.map(({ trustBundle }) => trustBundle) ?? [type.value.trustedCa];
      const roots = sources.map(textOf).join("");
      new X509Certificate(roots);
      this.#roots = roots;
    }
  }
}

function textOf(source: DataSource | undefined): string {
  switch (source?.specifier.case) {
    case "inlineBytes":
      return Buffer.from(source.specifier.value).toString("utf8");
    case "inlineString":
      return source.specifier.value;
    default:
      throw new Error("a secret without its content");
  }
}
