/**
 * Between the proxy and the control plane: ADS on a Unix socket here, TLS with this agent's certificate or token there. Each stream of the
 * proxy's becomes one stream upstream, message for message; when either ends, so does the other, and the proxy comes back by itself.
 * gRPC libraries that are their own proxy come by the same socket, each by a stream that is neither the proxy's nor the agent's.
 * Source: Istio pkg/istio-agent/xds_proxy.go.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { Client, Server, type ServerDuplexStream, type ServiceDefinition, type ServiceError, status } from "@grpc/grpc-js";
import { DeltaDiscoveryRequestSchema, DiscoveryRequestSchema } from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import type { NameTable } from "../api/gen/istio/networking/nds/v1/nds_pb.js";
import type { TrustUpdate } from "../api/trust-update.ts";
import { ownChannel } from "../lib/grpc-channel.ts";
import { log } from "../lib/log.ts";
import type { SocketFile } from "../platform/socket-file.ts";
import type { CurrentNode } from "./current-node.ts";
import { grpcGenerator } from "./grpc-bootstrap.ts";
import { listenOnSocket } from "./grpc-socket.ts";
import { AcceptedConfig } from "./last-good/accepted-config.ts";
import type { ControlPlaneChoice } from "./last-good/control-plane-choice.ts";
import type { LastGoodConfig } from "./last-good/last-good-config.ts";
import { type HealthReport, OwnResources } from "./own-resources.ts";

const scope = log.scope("xdsproxy");
const service = "/envoy.service.discovery.v3.AggregatedDiscoveryService";
const methods = ["StreamAggregatedResources", "DeltaAggregatedResources"] as const;
const maxMessageBytes = 256 * 1024 * 1024;

export interface XdsProxyOptions {
  readonly path: string;
  /** Who the proxy is by now. */
  readonly node: Pick<CurrentNode, "correct" | "forgetFormer">;
  /** Whom a stream leads to. Asked anew for each, so that it goes out with what the agent has then. */
  readonly upstream: UpstreamChoice;
  /** Keeps what the proxy accepts from the control plane. */
  readonly lastGood?: Pick<LastGoodConfig, "accept">;
  /** The control plane says whom to trust. Throws for what can't be used. */
  readonly onTrust: (update: TrustUpdate) => void;
  /** Absent: the agent answers no DNS queries. */
  readonly onNameTable?: ((table: NameTable) => void) | undefined;
  /** There is none: applications that are their own proxies are all that comes, and the agent speaks by their streams. */
  readonly hasNoProxy?: boolean;
}

export type UpstreamChoice = Pick<ControlPlaneChoice, "choose" | "onAccepted" | "onStreamEnded" | "whenBack">;

interface EndOfStream {
  readonly code: status;
  readonly details: string;
}

/** What can't be read is the control plane's to refuse. */
function isLibrarys(request: Buffer, isDelta: boolean): boolean {
  try {
    return fromBinary(isDelta ? DeltaDiscoveryRequestSchema : DiscoveryRequestSchema, request).node?.metadata?.GENERATOR === grpcGenerator;
  } catch {
    return false;
  }
}

const asIs = (bytes: Buffer) => bytes;

export class XdsProxy implements AsyncDisposable {
  readonly #options: XdsProxyOptions;
  readonly #server = new Server({ "grpc.max_receive_message_length": maxMessageBytes, "grpc.max_send_message_length": maxMessageBytes });
  #file: SocketFile | undefined;
  /** Ends the proxy's stream. */
  #endLatest: ((reason: EndOfStream) => void) | undefined;
  readonly #ends = new Set<(reason: EndOfStream) => void>();
  /** Of the stream that is open, once it has carried the proxy's node. */
  #own: OwnResources | undefined;
  /** The last verdict, told again to every control plane that is called. */
  #health: HealthReport | undefined;

  private constructor(options: XdsProxyOptions) {
    this.#options = options;
  }

  static async start(options: XdsProxyOptions): Promise<XdsProxy> {
    const made = new XdsProxy(options);
    const definition: ServiceDefinition = Object.fromEntries(
      methods.map((name) => [
        name,
        {
          path: `${service}/${name}`,
          requestStream: true,
          responseStream: true,
          requestSerialize: asIs,
          requestDeserialize: asIs,
          responseSerialize: asIs,
          responseDeserialize: asIs,
        },
      ]),
    );
    made.#server.addService(
      definition,
      Object.fromEntries(methods.map((name) => [name, (stream: ServerDuplexStream<Buffer, Buffer>) => made.#onStream(stream, name)])),
    );
    made.#file = await listenOnSocket(made.#server, options.path);
    return made;
  }

  /** Ends the streams that are open: what they said of the proxy, or the way that they took, holds no longer. */
  reconnect(reason: string): void {
    for (const end of [...this.#ends]) end({ code: status.UNAVAILABLE, details: reason });
  }

  /** undefined: the application is well. */
  reportHealth(problem: string | undefined): void {
    this.#health = { problem };
    this.#own?.reportHealth(this.#health);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
    await this.#file?.[Symbol.asyncDispose]();
  }

  #onStream(downstream: ServerDuplexStream<Buffer, Buffer>, method: string): void {
    downstream.on("error", () => {});
    this.#connect(downstream, method).catch((error: unknown) => {
      scope.warn("the control plane can't be called", { reason: error instanceof Error ? error.message : error });
      downstream.emit("error", { code: status.UNAVAILABLE, details: "the control plane can't be called" });
    });
  }

  async #connect(downstream: ServerDuplexStream<Buffer, Buffer>, method: string): Promise<void> {
    const { upstream: choice, lastGood, node, hasNoProxy = false } = this.#options;
    const chosen = await choice.choose();
    const { target, credentials, metadata, options } = chosen.access;
    if (downstream.cancelled) return;
    const client = new Client(target, credentials, {
      ...ownChannel,
      "grpc.max_receive_message_length": maxMessageBytes,
      "grpc.max_send_message_length": maxMessageBytes,
      ...options,
    });
    const upstream = client.makeBidiStreamRequest<Buffer, Buffer>(`${service}/${method}`, asIs, asIs, metadata);
    let isOver = false;
    const ended = new AbortController();
    const isDelta = method.startsWith("Delta");
    const accepted = new AcceptedConfig(isDelta, (typeUrl, ...change) => {
      choice.onAccepted(chosen, typeUrl);
      if (chosen.isLastGood) return;
      lastGood?.accept(typeUrl, ...change);
      node.forgetFormer();
    });
    /** Not a library's that comes beside the proxy. */
    let isProxys = true;
    const end = (reason: EndOfStream) => {
      if (isOver) return;
      isOver = true;
      ended.abort();
      if (isProxys) choice.onStreamEnded(chosen);
      this.#ends.delete(end);
      if (this.#endLatest === end) this.#endLatest = undefined;
      if (this.#own === own) this.#own = undefined;
      upstream.cancel();
      client.close();
      if (!downstream.cancelled) downstream.emit("error", reason);
      scope.debug("stream ended", { code: status[reason.code], reason: reason.details });
    };
    this.#ends.add(end);
    const own = new OwnResources({
      isDelta,
      send: (request) => {
        accepted.onRequest(request);
        upstream.write(request);
      },
      onTrust: this.#options.onTrust,
      onNameTable: this.#options.onNameTable,
    });
    let isFirst = true;
    downstream.on("data", (received: Buffer) => {
      if (isFirst) isProxys = hasNoProxy || !isLibrarys(received, isDelta);
      const message = isFirst ? node.correct(received, isDelta) : received;
      if (isProxys) accepted.onRequest(message);
      if (!upstream.write(message)) downstream.pause();
      if (isFirst && isProxys) {
        // A proxy that comes again has lost its first stream, whether it has been noticed or not.
        if (!hasNoProxy) this.#endLatest?.({ code: status.CANCELLED, details: "replaced by a newer stream" });
        this.#endLatest = end;
        own.subscribe();
        if (this.#health) own.reportHealth(this.#health);
        this.#own = own;
      }
      isFirst = false;
    });
    upstream.on("drain", () => downstream.resume());
    upstream.on("data", (message: Buffer) => {
      if (isProxys) accepted.onResponse(message);
      if (!own.take(message) && !downstream.write(message)) upstream.pause();
    });
    downstream.on("drain", () => upstream.resume());
    downstream.on("end", () => end({ code: status.OK, details: "the proxy ended its stream" }));
    downstream.on("cancelled", () => end({ code: status.CANCELLED, details: "the proxy is gone" }));
    upstream.on("error", (error: ServiceError) => {
      if (!isOver) scope.warn("stream to the control plane ended", { code: status[error.code], reason: error.details });
      end({ code: error.code, details: error.details });
    });
    upstream.on("end", () => end({ code: status.UNAVAILABLE, details: "the control plane ended the stream" }));
    if (chosen.isLastGood) {
      await choice.whenBack(ended.signal);
      end({ code: status.UNAVAILABLE, details: "the control plane is back" });
    }
  }
}
