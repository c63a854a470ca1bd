/** What a network filter is: it owns a connection once listener filters, chain match and TLS handshake are done. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { CompileContext } from "../compile-context.ts";
import type { DownstreamConnection } from "./downstream-connection.ts";

export interface NetworkFilter {
  readonly name: string;
  /** Takes the connection; `connection.transport` is not started yet. */
  onConnection(connection: DownstreamConnection): void;
  /** See HttpFilter.start. */
  start?(): Promise<void> | undefined;
  dispose(): void;
}

export interface NetworkFilterContext extends CompileContext {
  /** `listener.127.0.0.1_8080.` */
  readonly listenerStatPrefix: string;
  readonly trafficDirection: "inbound" | "outbound" | "unspecified";
  readonly bufferLimitBytes: number;
}

export interface NetworkFilterDefinition {
  readonly name: string;
  readonly schema: DescMessage;
  readonly create: (config: never, context: NetworkFilterContext, name: string) => NetworkFilter;
}

export function defineNetworkFilter<S extends DescMessage>(definition: {
  readonly name: string;
  readonly schema: S;
  readonly create: (config: MessageShape<S>, context: NetworkFilterContext, name: string) => NetworkFilter;
}): NetworkFilterDefinition {
  return definition as unknown as NetworkFilterDefinition;
}
