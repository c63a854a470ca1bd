/** The gRPC stream under an XdsClient: which server, which method, which credentials. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type ChannelCredentials, type ChannelOptions, Client, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
} from "../api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { ownChannel } from "../lib/grpc-channel.ts";

export interface XdsStream {
  send(request: DiscoveryRequest | DeltaDiscoveryRequest): void;
  cancel(): void;
}

export interface XdsStreamListener {
  onResponse(response: DiscoveryResponse | DeltaDiscoveryResponse): void;
  /** Once; undefined when the server ended the stream without an error. */
  onEnd(error: Error | undefined): void;
}

export type OpenXdsStream = (listener: XdsStreamListener) => XdsStream;

export interface XdsChannelOptions {
  /** gRPC target: `ipv4:127.0.0.1:15010`, `dns:istiod:15012`, `unix:/run/xds.sock`. */
  readonly target: string;
  readonly credentials: ChannelCredentials;
  readonly authority?: string;
  /** Value of each a string; keys that end in `-bin` base64. */
  readonly metadata?: readonly { readonly key: string; readonly value: string }[];
  /** A peer that is silently gone is found by pings. Default 300 s, answered within 20 s. */
  readonly keepaliveMs?: number;
  readonly keepaliveTimeoutMs?: number;
}

/** A response may carry a whole mesh, but not everything a broken server may send. */
const maxResponseBytes = 256 * 1024 * 1024;

export interface XdsChannel extends Disposable {
  /** Opens a stream of the method, `/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources`. */
  stream(method: string, isDelta: boolean): OpenXdsStream;
}

export function openXdsChannel(options: XdsChannelOptions): XdsChannel {
  const channelOptions: ChannelOptions = {
    ...ownChannel,
    "grpc.max_receive_message_length": maxResponseBytes,
    "grpc.max_send_message_length": maxResponseBytes,
    "grpc.keepalive_time_ms": options.keepaliveMs ?? 300_000,
    "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs ?? 20_000,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    ...(options.authority !== undefined && { "grpc.default_authority": options.authority }),
  };
  const client = new Client(options.target, options.credentials, channelOptions);
  return {
    stream: (method, isDelta) => (listener) => {
      const metadata = new Metadata();
      for (const { key, value } of options.metadata ?? []) {
        metadata.add(key, key.endsWith("-bin") ? Buffer.from(value, "base64") : value);
      }
      const call = client.makeBidiStreamRequest<DiscoveryRequest | DeltaDiscoveryRequest, DiscoveryResponse | DeltaDiscoveryResponse>(
        method,
        (request) =>
          Buffer.from(
            isDelta
              ? toBinary(DeltaDiscoveryRequestSchema, request as DeltaDiscoveryRequest)
              : toBinary(DiscoveryRequestSchema, request as DiscoveryRequest),
          ),
        (bytes) => (isDelta ? fromBinary(DeltaDiscoveryResponseSchema, bytes) : fromBinary(DiscoveryResponseSchema, bytes)),
        metadata,
      );
      let isOver = false;
      const end = (error: Error | undefined) => {
        if (isOver) return;
        isOver = true;
        listener.onEnd(error);
      };
      call.on("data", (response: DiscoveryResponse | DeltaDiscoveryResponse) => {
        if (!isOver) listener.onResponse(response);
      });
      call.on("error", end);
      call.on("end", () => {
        call.end();
        end(undefined);
      });
      return {
        send(request) {
          if (!isOver) call.write(request);
        },
        cancel() {
          isOver = true;
          call.cancel();
        },
      };
    },
    [Symbol.dispose]: () => client.close(),
  };
}

/** Why a stream ended, for the log. */
export function xdsStreamEnd(error: Error | undefined): string {
  if (!error) return "closed by the server";
  const { code, details } = error as Partial<ServiceError>;
  return code === undefined ? error.message : `${status[code] ?? code}: ${details ?? error.message}`;
}
