/**
 * The filter chains of one port of a workload: which bytes are taken for what, by the port's protocol and its mode of mutual TLS.
 *
 *                    HTTP                     TCP                              unknown
 *   STRICT      tls -> http              tls -> tcp                       tls, ALPN of HTTP -> http; tls -> tcp
 *   PERMISSIVE  tls, mesh ALPN -> http   tls, mesh ALPN -> tcp            tls, ALPN of HTTP -> http; tls, other mesh ALPN -> tcp
 *               plain -> http            tls, foreign -> tcp untouched    tls, foreign -> tcp untouched
 *                                        plain -> tcp                     plain HTTP -> http; plain -> tcp
 *   DISABLE     plain -> http            plain -> tcp                     plain HTTP -> http; plain -> tcp
 *
 * Source: Istio pilot/pkg/networking/core/filterchain_options.go, listener_inbound.go.
 */
import { create } from "@bufbuild/protobuf";
import type { TransportSocket } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import {
  type Filter,
  type FilterChain,
  type FilterChainMatch,
  FilterChainMatchSchema,
  FilterChainSchema,
} from "../../api/gen/envoy/config/listener/v3/listener_components_pb.js";
import { isHttp, type Protocol } from "../../registry/protocol.ts";
import type { MutualTlsMode } from "../push/peer-authentication.ts";
import { meshAlpn } from "./mutual-tls.ts";

export type Carried = "http" | "tcp";

interface ChainShape {
  readonly transport: "tls" | "raw_buffer";
  /** Empty: any. */
  readonly alpn: readonly string[];
  readonly carries: Carried;
  readonly endsTls: boolean;
}

/** What the HTTP inspector calls plaintext HTTP. Without 1.0, which the connection manager would refuse: it passes as TCP. */
const plainHttp = ["http/1.1", "h2c"];

const tls = (carries: Carried, alpn: readonly string[] = []): ChainShape => ({ transport: "tls", alpn, carries, endsTls: true });
const foreignTls: ChainShape = { transport: "tls", alpn: [], carries: "tcp", endsTls: false };
const plain = (carries: Carried, alpn: readonly string[] = []): ChainShape => ({ transport: "raw_buffer", alpn, carries, endsTls: false });

const shapes: Record<MutualTlsMode, Record<Carried | "sniffed", readonly ChainShape[]>> = {
  STRICT: { http: [tls("http")], tcp: [tls("tcp")], sniffed: [tls("http", meshAlpn.http), tls("tcp")] },
  PERMISSIVE: {
    http: [tls("http", meshAlpn.all), plain("http")],
    tcp: [tls("tcp", meshAlpn.all), foreignTls, plain("tcp")],
    sniffed: [tls("http", meshAlpn.http), plain("http", plainHttp), tls("tcp", meshAlpn.tcp), plain("tcp"), foreignTls],
  },
  DISABLE: { http: [plain("http")], tcp: [plain("tcp")], sniffed: [plain("http", plainHttp), plain("tcp")] },
};

/** Nothing but TLS that ends here. */
export function terminating(protocol: Protocol): readonly ChainShape[] {
  return [tls(isHttp(protocol) ? "http" : "tcp")];
}

export interface InboundPort {
  /** Undefined: all ports that have no chains of their own. */
  readonly port: number | undefined;
  readonly name: (carries: Carried) => string;
  readonly filters: (carries: Carried) => Filter[];
  readonly transportSocket: (carries: Carried) => TransportSocket;
}

export function inboundShapes(mode: MutualTlsMode, protocol: Protocol): readonly ChainShape[] {
  return shapes[mode][isHttp(protocol) ? "http" : protocol === "unsupported" ? "sniffed" : "tcp"];
}

export function inboundFilterChains({ port, name, filters, transportSocket }: InboundPort, wanted: readonly ChainShape[]): FilterChain[] {
  return wanted.map(({ transport, alpn, carries, endsTls }) => {
    const match: FilterChainMatch = create(FilterChainMatchSchema, { transportProtocol: transport, applicationProtocols: [...alpn] });
    if (port !== undefined) match.destinationPort = port;
    return create(FilterChainSchema, {
      name: name(carries),
      filterChainMatch: match,
      filters: filters(carries),
      ...(endsTls ? { transportSocket: transportSocket(carries) } : {}),
    });
  });
}
