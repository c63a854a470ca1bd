/** One way to ask a host whether it is well. What follows from the answer is decided in health-check-session.ts. */
import type { ClientTls } from "../tls/client-context.ts";
import type { AlpnOffer } from "../upstream/alpn-offer.ts";
import type { ClusterConfig } from "../upstream/cluster-config.ts";
import type { ProxyAnnouncement } from "../upstream/proxy-announcement.ts";

export type ProbeOutcome =
  | { readonly kind: "passed"; readonly isDegraded: boolean }
  /** It answered, and said no. `isRetriable`: it has to say so several times. `wantsExclusion`: it asks to be left alone. */
  | { readonly kind: "failed"; readonly isRetriable: boolean; readonly wantsExclusion: boolean }
  /** No connection, or it was lost. */
  | { readonly kind: "unreachable" };

export const unreachable: ProbeOutcome = { kind: "unreachable" };
export const passed: ProbeOutcome = { kind: "passed", isDegraded: false };
export const failed: ProbeOutcome = { kind: "failed", isRetriable: false, wantsExclusion: false };

export interface HealthProbe {
  /** Asks. `done` is called once, later, unless the question is given up. */
  ask(done: (outcome: ProbeOutcome) => void): void;
  /** There was no answer in time. */
  giveUp(): void;
  /** Nothing is asked any more. */
  close(): void;
}

/** Where a host is asked. */
export interface ProbeTarget {
  /** IP address, or a path with port -1. */
  readonly address: string;
  readonly port: number;
  /** `ip:port` of the host, whose TLS sessions are its own. */
  readonly key: string;
  /** Host header or authority: of the endpoint, of the check, or the cluster's name. */
  readonly authority: string;
  readonly tls: ClientTls | null;
  /** It is told by a PROXY header that the proxy itself asks. */
  readonly announcement: ProxyAnnouncement | null;
  readonly alpn: AlpnOffer | null;
  readonly socket: Pick<ClusterConfig, "keepAlive" | "bindAddresses">;
  readonly reusesConnection: boolean;
}
