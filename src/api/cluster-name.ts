/** Names of clusters, the strings by which listeners, routes, statistics and istioctl speak of them. */

export type TrafficDirection = "outbound" | "inbound";

export interface ClusterName {
  readonly direction: TrafficDirection;
  readonly port: number;
  readonly subset: string;
  readonly host: string;
}

export const blackHoleCluster = "BlackHoleCluster";
export const passthroughCluster = "PassthroughCluster";
export const inboundPassthroughCluster = "InboundPassthroughCluster";

/** `outbound|9080|v1|reviews.default.svc.cluster.local` */
export function outboundCluster(host: string, port: number, subset = ""): string {
  return `outbound|${port}|${subset}|${host}`;
}

/**
 * The same as one DNS-like label each, `outbound_.9080_.v1_.reviews.default.svc.cluster.local`: the server name that clients of the mesh
 * ask for, and the clusters of gateways that pass such connections on by it.
 */
export function sniCluster(host: string, port: number, subset = ""): string {
  return `outbound_.${port}_.${subset}_.${host}`;
}

/** By the workload's own port; it has no host. */
export function inboundCluster(port: number): string {
  return `inbound|${port}||`;
}

/** Of either form. */
export function parseClusterName(name: string): ClusterName | undefined {
  const parts = isSniCluster(name) ? splitSniCluster(name) : name.split("|");
  if (parts.length !== 4) return undefined;
  const [direction, port, subset, host] = parts as [string, string, string, string];
  if (direction !== "outbound" && direction !== "inbound") return undefined;
  if (!/^\d{1,5}$/.test(port)) return undefined;
  return { direction, port: Number(port), subset, host };
}

export function isSniCluster(name: string): boolean {
  return name.startsWith("outbound_.");
}

/** A host may hold `_.` itself, so only the first three are cut off. */
function splitSniCluster(name: string): string[] {
  const match = /^(outbound)_\.(\d+)_\.(.*?)_\.(.+)$/.exec(name);
  return match ? match.slice(1) : [];
}
