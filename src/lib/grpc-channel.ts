/** What every gRPC channel of ours has in common, over the library's defaults. */
import type { ChannelOptions } from "@grpc/grpc-js";

export const ownChannel: ChannelOptions = {
  // Retries and pauses are the caller's business.
  "grpc.enable_retries": 0,
  // Statistics of every call and connection for a debugging service that is not served.
  "grpc.enable_channelz": 0,
  // Two proxies in one process must not share a connection, nor must they outlive each other.
  "grpc.use_local_subchannel_pool": 1,
  // Of a name, only addresses are asked for. A TXT record with settings is nobody's, and while no name server answers, waiting for it
  // keeps a process alive that is told to stop.
  "grpc.service_config_disable_resolution": 1,
};
