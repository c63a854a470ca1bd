/**
 * How an application is asked whether it is well. The question must not be answered by the proxy, which takes connections whatever the
 * application does: calls to this machine come from an address that is never captured.
 */
import type { ReadinessProbe } from "../../api/kinds/workload-group.ts";
import { ExecProbe } from "./exec-probe.ts";
import { GrpcProbe } from "./grpc-probe.ts";
import { HttpProbe } from "./http-probe.ts";
import { TcpProbe } from "./tcp-probe.ts";

export interface Probe {
  /** Resolves with undefined when the application is well, else with what is wrong. Never rejects; ends when the signal fires. */
  check(signal: AbortSignal): Promise<string | undefined>;
}

export interface ProbeTarget {
  readonly host: string;
  /** Where calls to the host come from; undefined: wherever the system likes. */
  readonly from: string | undefined;
}

/** undefined: there is nothing to ask. */
export function probeOf(probe: ReadinessProbe, targetFor: (host: string) => ProbeTarget): Probe | undefined {
  if (probe.httpGet) return new HttpProbe(probe.httpGet, targetFor(probe.httpGet.host));
  if (probe.tcpSocket) return new TcpProbe(probe.tcpSocket, targetFor(probe.tcpSocket.host));
  if (probe.exec) return new ExecProbe(probe.exec);
  if (probe.grpc) return new GrpcProbe(probe.grpc, targetFor(""));
  return undefined;
}

/** Targets of a machine with these addresses; the first one is meant when a probe names no host. */
export function targetsOf(addresses: readonly string[], defaultHost: string | undefined = addresses[0]!): (host: string) => ProbeTarget {
  const own = new Set([...addresses, "localhost"]);
  return (configured) => {
    const host = configured || defaultHost;
    const isOwn = own.has(host) || host.startsWith("127.") || host === "::1";
    if (!isOwn) return { host, from: undefined };
    return { host, from: host.includes(":") ? "::6" : "127.0.0.6" };
  };
}
